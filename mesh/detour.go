package mesh

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// A direct path can be slower than one through a relay, which goes another way
// through the network. A link whose direct path is slow makes a second path over
// a relay beside it, measures both at the same times, and keeps the faster one.
const (
	slowDirect  = 500 * time.Millisecond // round trip of a direct path that calls for another
	detourLooks = 5                      // at a direct path, and at both paths
	slowLooks   = 3                      // of the latest detourLooks
	// detourAgain is the time between two trials, on average: a mesh must not
	// try in step.
	detourAgain = 5 * time.Minute
)

// detour is what a link knows about the round trips of its paths.
type detour struct {
	direct, relay []time.Duration // the latest ones; of both at the same times while there are two
	after         time.Time       // of the next trial
}

// slow tells whether most of the latest looks at the direct path found it so.
func (d *detour) slow(rtt time.Duration) bool {
	d.relay = nil
	d.direct = append(d.direct, rtt)
	d.direct = d.direct[max(0, len(d.direct)-detourLooks):]
	n := 0
	for _, rtt := range d.direct {
		if rtt > slowDirect {
			n++
		}
	}
	return n >= slowLooks
}

// compare notes the round trips of both paths. Known is false as long as there
// are too few of them.
func (d *detour) compare(direct, relay time.Duration) (slow, fast time.Duration, known bool) {
	if d.relay == nil {
		d.direct = nil
	}
	d.direct, d.relay = append(d.direct, direct), append(d.relay, relay)
	if len(d.relay) < detourLooks {
		return 0, 0, false
	}
	slow, fast = middle(d.direct), middle(d.relay)
	d.direct, d.relay = nil, nil
	return slow, fast, true
}

func middle(of []time.Duration) time.Duration {
	slices.Sort(of)
	return of[len(of)/2]
}

// seekFaster looks at the round trips.
func (l *link) seekFaster() {
	switch {
	case !l.up || l.conn.relayed || !l.offers() || !l.ours():
		l.detour.direct, l.detour.relay = nil, nil
	case !l.conn.vigil.answered() || l.spare != nil && !l.spare.vigil.answered():
		// no look: what is not measured is neither slow nor fast
	case l.spare != nil:
		l.compareSpare()
	case l.detour.slow(l.conn.vigil.latest) && l.attempt == nil && time.Now().After(l.detour.after):
		l.tryRelay()
	}
}

func (l *link) tryRelay() {
	server, ok := l.agent.pool.second("", l.excluded)
	if !ok || !l.agent.signaling.live(l.agent.ctx) || !l.agent.registered(l.peer) {
		return
	}
	l.detour.after = time.Now().Add(detourAgain/2 + rand.N(detourAgain))
	l.offer(server, purposeStandby)
}

// compareSpare changes over to the relay only when it is clearly faster.
func (l *link) compareSpare() {
	direct, relay, known := l.detour.compare(l.conn.vigil.latest, l.spare.vigil.latest)
	if !known {
		return
	}
	m := metadata{"turn_server": l.spare.server, "reason": fmt.Sprintf("the direct path takes %s, the relay %s",
		direct.Round(time.Millisecond/10), relay.Round(time.Millisecond/10))}
	if relay > direct*2/3 {
		l.agent.emit("turn_fallback_unnecessary", l.peer, m)
		l.dropSpare()
		return
	}
	l.falling = true
	l.agent.emit("turn_fallback_initiated", l.peer, m)
	l.switchToSpare("the relay is faster")
}
