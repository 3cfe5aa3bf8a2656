package mesh

import (
	"sync"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// link is the lasting relation to one peer and outlives its PeerConnections.
// One goroutine, run, owns it: pion's callbacks, signaling frames and the
// agent's methods only post work to its inbox.
type link struct {
	agent *Agent
	peer  string
	inbox *inbox
	done  chan struct{} // closed when run has returned

	mu   sync.Mutex  // guards changes of conn and its server, which others read
	conn *connection // nil: none yet

	// Owned by run.
	up        bool      // messages can pass
	attempt   time.Time // when the connection attempt under way began; zero: none
	tries     int       // attempts that failed since the link was up
	rounds    int       // times the whole TURN list failed since then
	falling   bool      // the link left a TURN server and is not up again
	excluded  exclusions
	state     string // last one reported as an event
	answers   answerWatch
	early     []wire.Candidate // of the peer; came before their description
	taken     int              // candidates of the peer's description
	timer     *time.Timer
	next      func() // what the timer is for; nil: nothing
	waiters   []chan struct{}
	gone      bool           // the peer left for good
	replaced  sync.WaitGroup // old PeerConnections being closed
	keepalive *time.Ticker
	quality   *time.Ticker
}

func newLink(a *Agent, peer string) *link {
	l := &link{
		agent: a, peer: peer, inbox: newInbox(), done: make(chan struct{}),
		excluded: exclusions{}, state: wire.StateNew,
		timer:     time.NewTimer(0),
		keepalive: time.NewTicker(a.o.Timing.Keepalive),
		quality:   time.NewTicker(a.o.Timing.Quality),
	}
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
			if next := l.next; next != nil {
				l.next = nil
				next()
			}
		case <-l.keepalive.C:
			l.review()
			l.watchAnswers()
		case <-l.quality.C:
			l.reportQuality()
		}
	}
}

func (l *link) close() {
	l.agent.forget(l)
	l.timer.Stop()
	l.keepalive.Stop()
	l.quality.Stop()
	l.replace(nil)
	l.replaced.Wait()
	if l.gone {
		l.agent.emit("peer_disconnected", l.peer, nil)
	}
}

// offers tells whether this side makes the offers of the link: the smaller id.
func (l *link) offers() bool { return l.agent.o.ID < l.peer }

// after has f done later unless something else is planned before.
func (l *link) after(d time.Duration, f func()) {
	l.next = f
	l.timer.Reset(d)
}

func (l *link) stopTimer() {
	l.next = nil
	l.timer.Stop()
}

// kick starts an attempt unless the link is up, has one or waits for one.
func (l *link) kick() {
	switch {
	case l.up || !l.attempt.IsZero() || l.next != nil:
	case l.offers():
		l.connect()
	default:
		l.after(l.agent.o.Timing.OfferSilence, l.connect)
	}
}

// retry is kick without waiting for a backoff to end.
func (l *link) retry() {
	if l.up || !l.attempt.IsZero() {
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

// reconnect restarts a relayed link on the first TURN server of the list, or a
// link that is down.
func (l *link) reconnect() {
	switch {
	case !l.offers():
		l.retry() // waits for the peer's offer
	case !l.agent.signaling.live(l.agent.ctx) || !l.agent.registered(l.peer):
	case !l.up || l.conn.relayed:
		l.up = false
		l.offer(l.agent.pool.planned())
	}
}

// review compares what the PeerConnection says with what the link believes.
func (l *link) review() {
	c := l.conn
	if c == nil {
		return
	}
	up, state := c.up(), c.state()
	l.report(state)
	switch {
	case up && !l.up:
		l.established()
	case !up && l.up:
		l.stalled(state)
	case state == wire.StateFailed || state == wire.StateClosed:
		l.kick()
	}
}

// report emits a change of the connection's state, once.
func (l *link) report(state string) {
	if state == l.state {
		return
	}
	l.state = state
	m := metadata{"state": state}
	if l.conn != nil && l.conn.server != "" {
		m["turn_server"] = l.conn.server
	}
	l.agent.emit("connection_state_changed", l.peer, m)
}

// established: messages pass (again).
func (l *link) established() {
	c, tries := l.conn, l.tries
	l.stopTimer()
	l.up, l.attempt, l.tries, l.rounds = true, time.Time{}, 0, 0
	l.answers = answerWatch{}
	c.relayed = c.usesRelay()
	if path := c.path(); path == wire.PathRelay {
		l.agent.emit("turn_connection_detected", l.peer, metadata{"turn_server": c.server, "candidateType": path})
	} else if !c.relayed {
		l.agent.emit("p2p_connection_established", l.peer, metadata{"candidateType": path})
	}
	if l.falling {
		l.falling = false
		l.agent.emit("turn_fallback_successful", l.peer, metadata{"turn_server": c.server, "retries": tries})
	}
	for _, up := range l.waiters {
		close(up)
	}
	l.waiters = nil
}

// replace makes c the link's PeerConnection and closes the one before.
func (l *link) replace(c *connection) {
	l.mu.Lock()
	old := l.conn
	l.conn = c
	l.mu.Unlock()
	if old != nil {
		l.replaced.Go(func() { _ = old.pc.GracefulClose() })
	}
}

// about posts work that concerns one PeerConnection and is void when the link
// has another by then.
func (l *link) about(c *connection, work func()) {
	l.inbox.post(func() {
		if l.conn == c {
			work()
		}
	})
}

// current is the PeerConnection and its TURN server, for other goroutines.
func (l *link) current() (c *connection, server string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return nil, ""
	}
	return l.conn, l.conn.server
}
