package mesh

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestMessagesOutliveTheirLink: signaling forgets a peer, whose connection has
// ended as well, so that the link ends. What was taken in charge is delivered
// by the next one, and what had arrived does not arrive again.
func TestMessagesOutliveTheirLink(t *testing.T) {
	m, g := newTestMesh(t), newLedger()
	for i := range 2 {
		m.add(fmt.Sprintf("a%d", i+1), withLedger(g))
	}
	m.connectAll()
	a := m.agents[0]
	send := func(n int) {
		if _, err := a.SendReliable("a2", map[string]int{"N": n}); err != nil {
			t.Fatal(err)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.sent[direction{"a1", "a2"}] = n
	}
	send(1)
	m.eventually("the first arrives", g.complete)
	on(t, a, "a2", func(l *link) {
		l.mu.Lock()
		l.conn.messages.Load().state.Store(channelClosed) // nothing can be sent now
		l.mu.Unlock()
		send(2)
		l.gone = true
	})
	m.eventually("the link has ended", func() error {
		if n := m.events.count("peer_disconnected"); n == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	for _, agent := range m.agents {
		m.signal.evict(agent.ID()) // it registers again, and is announced
	}
	send2 := func() error { // sent on the new link, behind the one that waited
		if _, err := a.SendReliable("a2", map[string]int{"N": 3}); err != nil {
			return err
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.sent[direction{"a1", "a2"}] = 3
		return nil
	}
	m.eventually("a new link takes messages", send2)
	m.eventually("all three arrive once and in order", g.complete)
	if e := m.events.named("peer_disconnected")[0]; e.Metadata["unacknowledged"] != 1 {
		t.Errorf("peer_disconnected says %v", e.Metadata)
	}
}

// TestEstateIsKeptForAWhile, and not of plain agents.
func TestEstateIsKeptForAWhile(t *testing.T) {
	m := newTestMesh(t)
	a := m.add("a1", func(o *AgentOptions) { o.Passive = true })
	old := &link{agent: a, peer: "b", out: &outbox{stream: "s"}, in: &intake{}}
	inherited := func() *outbox {
		a.mu.Lock()
		defer a.mu.Unlock()
		out, _ := a.inherit("b")
		return out
	}
	leave := func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.leaveEstate(old)
	}
	if leave(); inherited() != old.out || inherited() == old.out {
		t.Error("it is not inherited once")
	}
	leave()
	a.estates["b"] = estate{old.out, old.in, time.Now().Add(-a.o.Timing.Partition - time.Second)}
	if inherited() == old.out {
		t.Error("it is kept for ever")
	}
	old.kind.Store(kindPlain)
	if leave(); inherited() == old.out {
		t.Error("a plain agent acknowledges nothing")
	}
}
