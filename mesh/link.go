package mesh

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// link is the lasting relation to one peer and outlives its connections. One
// goroutine, run, owns it: pion's callbacks, signaling frames and the agent's
// methods only post work to its inbox.
//
// Between two of our own agents a new connection is made beside the one in
// use, which is left alone until the new one works.
type link struct {
	agent  *Agent
	peer   string
	inbox  *inbox
	done   chan struct{} // closed when run has returned
	kind   atomic.Int32  // of peer: unknown, ours or plain
	probe  probe
	out    *outbox
	pacer  pacer
	in     *intake
	forged forged

	mu    sync.Mutex  // guards changes of conn and next and of their servers, which others read
	conn  *connection // the one messages are sent on; nil: none yet
	next  *connection // being made beside it; nil: none
	quiet string      // why nothing passes on conn, whatever pion says; "": it does
	since time.Time   // quiet

	// Owned by run.
	up       bool // messages can pass
	attempt  *attempt
	spare    *connection // a second path that works; nil: none
	tries    int         // attempts that failed since the link was up
	rounds   int         // times the whole TURN list failed since then
	setbacks int         // attempts beside a path that works that failed in a row
	falling  bool        // the link left a TURN server and is not up again
	moving   bool        // a planned move is not done
	excluded exclusions
	state    string           // last one reported as an event
	early    []wire.Candidate // of the peer; came before their description
	mute     bool             // the peer takes no audio
	taken    int              // candidates of the peer's description
	timer    *time.Timer
	then     func() // what the timer is for; nil: nothing
	waiters  []chan struct{}
	identity string         // the peer's DTLS fingerprint
	offered  quota          // offers of the peer
	gone     bool           // the peer left for good
	replaced sync.WaitGroup // old connections being closed
	healing  *healing
	hopeless atomic.Bool // healing was given up, or it never worked at all
	detour   detour
	pulse    *time.Ticker
	due      dues
}

// The kinds of peer.
const (
	kindUnknown = iota
	kindOurs    // says so in its descriptions, or talks on the meshctl-ext channel
	kindPlain   // does neither in time
)

// attempt is one try to get a working connection.
type attempt struct {
	c        *connection
	began    time.Time
	restart  bool // of c, which the link has already
	offering bool // the peer's answer has not come
}

// dues are the times of what happens at intervals.
type dues struct{ beat, quality, faster, resend, partition, standby, renewal time.Time }

func newLink(a *Agent, peer string) *link {
	l := &link{
		agent: a, peer: peer, inbox: newInbox(), done: make(chan struct{}),
		excluded: exclusions{}, state: wire.StateNew,
		timer: time.NewTimer(0), pulse: time.NewTicker(a.o.pulse()),
	}
	l.out, l.in = a.inherit(peer)
	l.out.begin(&l.pacer)
	if b := a.bandwidth.Load(); b != nil {
		l.pacer.set(*b)
	}
	l.healing = newHealing(a.o.Timing, func(name string, m metadata) { a.emit(name, peer, m) })
	l.stopTimer()
	return l
}

func (l *link) run() {
	defer close(l.done)
	defer l.close()
	for !l.gone {
		select {
		case <-l.agent.ctx.Done():
			return
		case <-l.inbox.wake:
			for _, work := range l.inbox.take() {
				work()
			}
		case <-l.timer.C:
			if then := l.then; then != nil {
				l.then = nil
				then()
			}
		case <-l.healing.timer.C:
			l.heal()
		case now := <-l.pulse.C:
			l.tick(now)
		}
	}
}

// tick does what is due.
func (l *link) tick(now time.Time) {
	l.watch(now)
	l.identify(now)
	l.lackDirect(now)
	if count := l.forged.rest(now); count > 0 {
		l.reportForged(count, "more of them")
	}
	t := l.agent.o.Timing
	for _, d := range []struct {
		at    *time.Time
		every time.Duration
		work  func()
	}{
		{&l.due.beat, t.Heartbeat, func() { l.beat(l.conn) }},
		{&l.due.quality, t.Quality, l.reportQuality},
		{&l.due.faster, t.Quality, l.seekFaster},
		{&l.due.resend, resendCheck, l.resend},
		{&l.due.partition, t.PartitionCheck, l.checkPartition},
		{&l.due.standby, t.Connect / 2, l.keepStandby},
		{&l.due.renewal, 2 * t.Connect, func() { l.renew(); l.moveAgain() }},
	} {
		if first := d.at.IsZero(); first || !now.Before(*d.at) {
			*d.at = now.Add(d.every)
			if !first {
				d.work()
			}
		}
	}
}

func (l *link) close() {
	l.agent.forget(l)
	l.timer.Stop()
	l.pulse.Stop()
	l.healing.stop()
	l.setNext(nil)
	l.dropSpare()
	l.use(nil)
	l.replaced.Wait()
	if l.gone {
		l.agent.emit("peer_disconnected", l.peer, metadata{"unacknowledged": l.out.pending()})
	}
}

// offers tells whether this side makes the offers of the link: the smaller id.
func (l *link) offers() bool { return l.agent.o.ID < l.peer }

func (l *link) ours() bool { return l.kind.Load() == kindOurs }

// after has f done later unless something else is planned before.
func (l *link) after(d time.Duration, f func()) {
	l.then = f
	l.timer.Reset(d)
}

func (l *link) stopTimer() {
	l.then = nil
	l.timer.Stop()
}

// kick starts an attempt unless the link is up, has one or waits for one.
func (l *link) kick() {
	switch {
	case l.up || l.attempt != nil || l.then != nil:
	case l.offers():
		l.connect()
	default:
		l.after(l.agent.o.Timing.OfferSilence, l.connect)
	}
}

// retry is kick without waiting for a backoff to end.
func (l *link) retry() {
	if l.up || l.attempt != nil {
		return
	}
	l.stopTimer()
	l.kick()
}

// await has a channel closed as soon as the link is up.
func (l *link) await(up chan struct{}) {
	if l.up {
		close(up)
		return
	}
	l.waiters = append(l.waiters, up)
	l.retry()
}

// review looks at a connection that has changed.
func (l *link) review(c *connection) {
	if l.attempt != nil && l.attempt.c == c {
		l.reviewAttempt()
		return
	}
	switch {
	case c == l.spare && c.over():
		l.dropSpare()
	case c != l.conn:
	case c.over():
		l.report(c.state(), "")
		l.lost(c.state())
	case c.up() && !l.up && l.quiet == "":
		l.established()
	}
}

func (l *link) reviewAttempt() {
	c := l.attempt.c
	if c == l.shown() {
		l.report(c.state(), "")
	}
	switch {
	case c.up():
		l.promote()
	case !c.over():
	case l.attempt.restart && c.state() == wire.StateFailed && l.attempt.offering:
		// As it was before: the answer is still to come.
	default:
		l.failed(errEnded)
	}
}

// shown is the connection that the link's state is about.
func (l *link) shown() *connection {
	if l.conn == nil || l.conn.over() && l.next != nil {
		return l.next
	}
	return l.conn
}

// report emits a change of the connection's state, once; reason can be "".
func (l *link) report(state, reason string) {
	if state == l.state {
		return
	}
	l.state = state
	m := metadata{"state": state}
	if c := l.shown(); c != nil && c.server != "" {
		m["turn_server"] = c.server
	}
	if reason != "" {
		m["reason"] = reason
	}
	l.agent.emit("connection_state_changed", l.peer, m)
}

// promote makes the connection of the attempt the one in use, or the spare.
func (l *link) promote() {
	c := l.attempt.c
	l.attempt, l.setbacks = nil, 0
	l.stopTimer()
	c.relayed = c.usesRelay()
	c.vigil = vigil{}
	if c.relayed {
		l.relayInstead(c)
	}
	if c == l.next {
		l.mu.Lock()
		l.next = nil
		l.mu.Unlock()
		if c.purpose == purposeStandby && l.up {
			l.dropSpare()
			l.spare = c
			return
		}
		l.use(c)
	}
	l.moving = false
	l.established()
}

// established: messages pass (again).
func (l *link) established() {
	c, tries := l.conn, l.tries
	l.up, l.tries, l.rounds = true, 0, 0
	if l.attempt == nil {
		l.stopTimer() // nothing is to be tried
	}
	l.setQuiet("")
	l.report(wire.StateConnected, "")
	l.healing.healed()
	l.hopeless.Store(false)
	if path := c.path(); path == wire.PathRelay {
		l.agent.emit("turn_connection_detected", l.peer, metadata{"turn_server": c.server, "candidateType": path})
	} else if !c.relayed {
		l.agent.emit("p2p_connection_established", l.peer, metadata{"candidateType": path})
		l.fallbackUnnecessary(path)
	}
	if l.falling {
		l.falling = false
		l.agent.emit("turn_fallback_successful", l.peer, metadata{"turn_server": c.server, "retries": tries})
	}
	for _, up := range l.waiters {
		close(up)
	}
	l.waiters = nil
	c.upSince = time.Now()
	c.lastHeard = c.upSince
	l.beat(c)
	l.out.move(c)
}

// about posts work that concerns one connection and is void when the link has
// dropped it by then.
func (l *link) about(c *connection, work func()) {
	l.inbox.post(func() {
		if c == l.conn || c == l.next || c == l.spare {
			work()
		}
	})
}

// current is the connection that describes the link and its TURN server, for
// other goroutines; quiet: nothing passes on it.
func (l *link) current() (c *connection, server string, quiet bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c = l.conn
	if c == nil {
		c = l.next
	}
	if c == nil {
		return nil, "", false
	}
	return c, c.server, l.quiet != "" && c == l.conn
}

// down tells whether messages cannot pass now.
func (l *link) down() bool {
	c, _, quiet := l.current()
	return c == nil || c.stateUnless(quiet) != wire.StateConnected
}

// sending is the connection for messages, nil when none can pass.
func (l *link) sending() *connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil || !l.conn.open() {
		return nil
	}
	return l.conn
}
