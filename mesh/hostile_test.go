package mesh

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// withStranger is one agent of ours, "b", and a stranger "a" that has connected
// to it by an offer of its own.
func withStranger(t *testing.T, edit func(*AgentOptions)) (m *testMesh, b *Agent, s *stranger, offer string) {
	t.Helper()
	m = newTestMesh(t)
	b = m.add("b", func(o *AgentOptions) {
		o.Passive = true
		o.Timing.Connect, o.Timing.Disconnected = 10*time.Second, 20*time.Second
		if edit != nil {
			edit(o)
		}
	})
	s = newStranger(t, m.signal.url(), "a")
	offer = s.offer(m, "b")
	s.channel()
	m.eventually("connected to the stranger", func() error { return up(b, "a") })
	return m, b, s, offer
}

func up(a *Agent, peer string) error {
	for _, l := range a.Links() {
		if l.Peer == peer && l.State == wire.StateConnected {
			return nil
		}
	}
	return fmt.Errorf("%v", a.Links())
}

// TestRepeatedOfferLeavesTheLinkAlone: a frame that signaling delivers twice,
// or that somebody sends again, is not a new wish.
func TestRepeatedOfferLeavesTheLinkAlone(t *testing.T) {
	m, b, s, offer := withStranger(t, nil)
	before := creations(m)
	s.send(wire.Signal{Type: wire.TypeOffer, From: "a", To: "b", Offer: &wire.SessionDescription{Type: "offer", SDP: offer}})
	s.send(wire.Signal{Type: wire.TypeOffer, From: "a", To: "b", Offer: &wire.SessionDescription{Type: "offer", SDP: "v=0\r\n"}})
	s.flush(m, b)
	on(t, b, "a", func(l *link) {
		if !l.up || l.attempt != nil {
			t.Errorf("up %t, an attempt under way %t", l.up, l.attempt != nil)
		}
	})
	if after := creations(m); after != before {
		t.Errorf("the connection was replaced:\n%s\n%s", before, after)
	}
}

// TestRenegotiationKeepsTheLink: a browser that changes something sends an
// offer of the session there is, without an ICE restart.
func TestRenegotiationKeepsTheLink(t *testing.T) {
	m, b, s, _ := withStranger(t, nil)
	before := creations(m)
	if _, err := s.pc.CreateDataChannel("something-else", nil); err != nil {
		t.Fatal(err)
	}
	s.renegotiate(m, "b")
	on(t, b, "a", func(l *link) {
		if !l.up || l.attempt != nil {
			t.Errorf("up %t, an attempt under way %t", l.up, l.attempt != nil)
		}
	})
	if after := creations(m); after != before {
		t.Errorf("the connection was replaced:\n%s\n%s", before, after)
	}
	if _, err := b.Send("a", nil); err != nil {
		t.Error(err)
	}
}

// TestLostAnswerIsGivenAgain to the same offer.
func TestLostAnswerIsGivenAgain(t *testing.T) {
	m := newTestMesh(t)
	b := m.add("b", func(o *AgentOptions) { o.Passive, o.Timing.Connect = true, time.Minute })
	s := newStranger(t, m.signal.url(), "a")
	var answers atomic.Int64
	m.signal.intercept(func(signal wire.Signal, forward func(wire.Signal)) bool {
		if signal.Type != wire.TypeAnswer || answers.Add(1) > 1 {
			return false
		}
		forward(wire.Signal{Type: wire.TypeOffer, From: "a", To: "b", Offer: s.offered.Load()})
		return true
	})
	s.offer(m, "b")
	s.channel()
	m.eventually("connected", func() error { return up(b, "a") })
	if n := answers.Load(); n != 2 {
		t.Errorf("%d answers", n)
	}
}
