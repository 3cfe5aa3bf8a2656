package mesh

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// on runs work in the goroutine of a link and waits for it.
func on(t *testing.T, a *Agent, peer string, work func(l *link)) {
	t.Helper()
	l, ran := a.existing(peer), make(chan struct{})
	if l == nil {
		t.Fatalf("%s has no link to %s", a.ID(), peer)
	}
	l.inbox.post(func() { work(l); close(ran) })
	select {
	case <-ran:
	case <-l.done:
		t.Fatalf("the link %s to %s has ended", a.ID(), peer)
	case <-time.After(30 * time.Second):
		t.Fatalf("the link %s to %s does nothing", a.ID(), peer)
	}
}

// TestSlowSignalingIsAskedAgain: a server that answers a ping late, and whose
// socket lives on, does not leave links down for good.
func TestSlowSignalingIsAskedAgain(t *testing.T) {
	m := newTestMesh(t)
	calm := func(o *AgentOptions) {
		o.Timing.Ping, o.Timing.Register, o.Timing.OfferSilence = time.Hour, time.Minute, time.Hour
	}
	a := m.add("a1", calm)
	m.add("a2", calm)
	m.connectAll()
	m.signal.answerPings(false)
	m.eventually("the last frame is no proof any more", func() error {
		if heard, _ := a.Registered(); time.Since(heard) < provenFor {
			return errors.New("it still is")
		}
		return nil
	})
	on(t, a, "a2", func(l *link) {
		l.conn.close()
		l.up = false
		l.connect()
	})
	on(t, a, "a2", func(*link) {}) // all that the end of the connection made
	m.signal.answerPings(true)
	m.connectAll()
	if n := m.events.count("signaling_connection_lost"); n != 0 {
		t.Errorf("the socket was lost %d times", n)
	}
}

// TestMoveOrderedWithoutSignaling is made when signaling is back.
func TestMoveOrderedWithoutSignaling(t *testing.T) {
	first, second := newRelay(t, true), newRelay(t, true)
	m := newTestMesh(t)
	m.addRelayed(2, uris(first, second), func(o *AgentOptions) { o.Timing.Disconnected = 20 * time.Second })
	m.onServer(first.uri)
	m.signal.refuseNew(503)
	m.signal.drop()
	m.eventually("signaling lost", func() error {
		for _, a := range m.agents {
			if a.Signaling().Registered {
				return errors.New(a.ID() + " is registered")
			}
		}
		return nil
	})
	for _, a := range m.agents {
		a.MoveOff(first.uri)
	}
	for i, peer := range []string{"a2", "a1"} {
		on(t, m.agents[i], peer, func(*link) {})
	}
	m.signal.refuseNew(0)
	m.onServer(second.uri)
}

// TestPathThatCameBackCancelsTheRetry: what was planned for a link that was
// down must neither cut it nor hold up its next recovery.
func TestPathThatCameBackCancelsTheRetry(t *testing.T) {
	m := newTestMesh(t)
	a := m.add("a1", nil)
	m.add("a2", nil)
	m.connectAll()
	offers := m.events.count("webrtc_offer_created")
	on(t, a, "a2", func(l *link) {
		l.up = false
		l.after(time.Hour, l.connect) // as after a backoff
		l.review(l.conn)
		if !l.up || l.then != nil {
			t.Errorf("up %t, something planned %t", l.up, l.then != nil)
		}
		l.connect()
	})
	if n := m.events.count("webrtc_offer_created"); n != offers {
		t.Errorf("%d offers for a link that works", n-offers)
	}
}

// TestDeadStandbyIsNotUsed: a second path on which nothing has come in for as
// long as on the first brings nothing back, whatever pion says of it.
func TestDeadStandbyIsNotUsed(t *testing.T) {
	first, second := newRelay(t, true), newRelay(t, true)
	m := newTestMesh(t)
	m.addRelayed(2, uris(first, second), func(o *AgentOptions) {
		o.Standby, o.Timing.Disconnected = true, 20*time.Second
	})
	m.onServer(first.uri)
	m.bothHoldSpares()
	on(t, m.agents[0], "a2", func(l *link) {
		spare, before := l.spare, m.events.count("turn_connection_detected")
		spare.vigil.quiet = 1 << 20
		l.stalled("nothing received")
		if n := m.events.count("turn_connection_detected") - before; !spare.up() || l.conn == spare || n != 0 {
			t.Errorf("pion says up: %t; used: %t; turn_connection_detected: %d", spare.up(), l.conn == spare, n)
		}
	})
	m.connectAll()
}

// TestClosedPathAccusesNoServer: the standby is used at once, and the relay of
// a connection that the peer closed is not to blame.
func TestClosedPathAccusesNoServer(t *testing.T) {
	first, second := newRelay(t, true), newRelay(t, true)
	m := newTestMesh(t)
	m.addRelayed(2, uris(first, second), func(o *AgentOptions) {
		o.Standby, o.Timing.Disconnected = true, 20*time.Second
	})
	m.onServer(first.uri)
	m.bothHoldSpares()
	on(t, m.agents[1], "a1", func(l *link) { l.conn.close() })
	m.onServer(second.uri)
	if n := m.events.count("turn_fallback_initiated"); n != 0 {
		t.Errorf("%d turn_fallback_initiated although no server failed\n%s", n, m.events.tail(20))
	}
}

func (m *testMesh) bothHoldSpares() {
	m.t.Helper()
	m.eventually("both hold a standby", func() error {
		for i, peer := range []string{"a2", "a1"} {
			if !hasSpare(m.agents[i], peer) {
				return fmt.Errorf("a%d has none", i+1)
			}
		}
		return nil
	})
}
