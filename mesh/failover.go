package mesh

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// stalled: the link was up and is not any more. Its TURN server is excluded
// for this link at once, whether or not it is to blame: trying the next one
// costs less than finding out.
func (l *link) stalled(state string) {
	l.up = false
	if l.conn.relayed && state != wire.StateClosed {
		l.fallBack("link " + state)
	}
	l.kick()
}

// fallBack excludes the current TURN server and has all of them checked.
func (l *link) fallBack(reason string) {
	if l.conn.server == "" {
		return
	}
	l.excluded[l.conn.server] = time.Now()
	l.agent.pool.checkSoon()
	if l.falling {
		return
	}
	l.falling = true
	l.agent.emit("turn_fallback_initiated", l.peer, metadata{"turn_server": l.conn.server, "reason": reason})
}

// timedOut: the attempt has had its time.
func (l *link) timedOut() {
	l.failed(fmt.Errorf("not connected after %s", time.Since(l.attempt).Round(time.Millisecond)))
}

// patience is the time for one attempt. It grows when the whole list failed:
// then the network or the machine may just be slow.
func (l *link) patience() time.Duration {
	return l.agent.o.Timing.Connect * time.Duration(1+min(l.rounds, 4))
}

// failed ends an attempt: its TURN server is excluded for this link and the
// next one is tried without delay. The answering side leaves that to the peer
// for as long as a first offer may take.
func (l *link) failed(err error) {
	l.attempt = time.Time{}
	l.stopTimer()
	l.tries++
	server := ""
	if l.conn != nil {
		server = l.conn.server
	}
	l.excluded[server] = time.Now()
	l.falling = l.falling || server != ""
	l.retrying(server, 0, err)
	if l.offers() {
		l.connect()
		return
	}
	l.after(l.agent.o.Timing.OfferSilence, l.connect)
}

// backOff waits 2^n times the base, as every server of the list failed, and
// then starts over with the whole list.
func (l *link) backOff() {
	clear(l.excluded)
	base := l.agent.o.Timing.Backoff
	wait := min(base<<min(l.rounds, 5), 30*base)
	wait = wait/2 + rand.N(wait) // a mesh must not try in step
	l.rounds++
	l.agent.pool.checkSoon()
	l.retrying(l.agent.pool.first(), wait, errListFailed)
	l.after(wait, l.connect)
}

// retrying reports a failed attempt and when the next one comes.
func (l *link) retrying(server string, wait time.Duration, err error) {
	if server == "" {
		return // no TURN in it
	}
	l.agent.emit("turn_fallback_retry", l.peer, metadata{
		"turn_server": server, "attempt": l.tries, "delay_ms": millis(wait), "error": err.Error(),
	})
}

var errListFailed = errors.New("every TURN server of the list failed this link")

// answeringServer is the TURN server to answer with. An offer for a link that
// works is a planned move, to the first of the list. Else the server used so
// far is suspect here too, unless its attempt has just begun: then it is the
// peer's server that failed faster.
func (l *link) answeringServer() string {
	c := l.conn
	if c == nil {
		return l.chooseAnyhow()
	}
	now := time.Now()
	switch {
	case l.up && now.Sub(c.lastReceived()) < l.agent.o.Timing.stale():
		planned := l.agent.pool.planned()
		if _, excluded := l.excluded[planned]; !excluded {
			return planned
		}
	case l.up && c.relayed:
		l.fallBack("the peer restarts a silent link")
	case !l.attempt.IsZero() && now.Sub(l.attempt) > l.agent.o.Timing.Connect/2:
		l.fallBack("the peer tries again")
	}
	return l.chooseAnyhow()
}

// chooseAnyhow does not wait when the whole list failed: the peer sets the pace.
func (l *link) chooseAnyhow() string {
	server, ok := l.agent.pool.choose(l.excluded)
	if !ok {
		clear(l.excluded)
		server, _ = l.agent.pool.choose(l.excluded)
	}
	return server
}

// stale is the silence that a working link does not have: it misses two
// keepalives and some.
func (t Timing) stale() time.Duration { return t.Keepalive*5/2 + t.Keepalive/4 }

// answerWatch notices a path that is dead in one direction: pion stays
// connected as long as it receives anything, but our requests stay unanswered.
type answerWatch struct {
	count uint64 // responses received
	flat  int    // keepalive ticks since they last rose
}

// watchAnswers counts ticks, not time, so that a machine too busy to answer is
// not taken for a dead path.
func (l *link) watchAnswers() {
	if !l.up {
		return
	}
	stats, ok := l.conn.selectedStats()
	if !ok || stats.ResponsesReceived != l.answers.count {
		l.answers = answerWatch{count: stats.ResponsesReceived}
		return
	}
	l.answers.flat++
	t := l.agent.o.Timing
	if l.answers.flat > max(3, int(t.Disconnected/t.Keepalive)) {
		l.report(wire.StateDisconnected)
		l.stalled(wire.StateDisconnected)
	}
}
