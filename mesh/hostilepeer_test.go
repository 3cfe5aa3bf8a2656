package mesh

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// readers counts the goroutines of this process that read data channels.
func readers() int {
	stacks := make([]byte, 4<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "(*connection).read(")
}

// TestFloodOfChannels: a peer can open as many as SCTP has streams.
func TestFloodOfChannels(t *testing.T) {
	m, b, s, _ := withStranger(t, nil)
	const channels = 200
	for range channels {
		dc, err := s.pc.CreateDataChannel(channelLabel, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.serve(dc)
	}
	for range channels {
		s.channel()
	}
	m.eventually("few are read", func() error {
		if n := readers(); n > 2*maxChannels {
			return fmt.Errorf("%d goroutines read channels", n)
		}
		return nil
	})
	if err := up(b, "a"); err != nil {
		t.Error(err)
	}
}

// TestTooLongMessageIsDropped, and those after it arrive.
func TestTooLongMessageIsDropped(t *testing.T) {
	got := make(chan wire.Message, 16)
	m, b, s, _ := withStranger(t, func(o *AgentOptions) {
		o.OnMessage = func(_ string, m wire.Message, _ time.Time) { got <- m }
	})
	before := creations(m)
	for _, size := range []int{wire.MaxMessage + 1, 700_000, 0} {
		s.say(t, strings.Repeat("x", size))
	}
	select {
	case <-got:
	case <-time.After(30 * time.Second):
		t.Fatalf("nothing arrives after a long message: %v", b.Links())
	}
	if after := creations(m); after != before || m.events.count("datachannel_closed") > 0 {
		t.Errorf("the link did not survive:\n%s\n%s", before, after)
	}
	if !strings.Contains(s.answered(), fmt.Sprintf("a=max-message-size:%d\r\n", wire.MaxMessage)) {
		t.Error("the peer was not told how long messages may be")
	}
}

// TestFloodOfForgeries: every message is dropped, and not every one an event of
// its own: events are written to disk.
func TestFloodOfForgeries(t *testing.T) {
	const forged = 500
	m, _, s, _ := withStranger(t, func(o *AgentOptions) {
		o.OnMessage = func(string, wire.Message, time.Time) { t.Error("handed on") }
	})
	for range forged {
		s.sendText("{}")
	}
	m.eventually("all are counted", func() error {
		events, count := m.events.named("signature_verification_failed"), 0
		for _, e := range events {
			n, _ := e.Metadata["count"].(int)
			count += max(1, n)
		}
		if count != forged {
			return fmt.Errorf("%d events count %d messages", len(events), count)
		}
		if len(events) > forged/2 {
			t.Errorf("%d events for %d messages", len(events), forged)
		}
		return nil
	})
}

// TestFloodOfOffers: a peer that offers without end is answered now and then,
// and what is no offer makes no trouble.
func TestFloodOfOffers(t *testing.T) {
	m, b, s, offer := withStranger(t, nil)
	s.send(wire.Signal{Type: wire.TypeOffer, From: "a", To: "b", Offer: &wire.SessionDescription{Type: "offer", SDP: "v=0\r\n"}})
	for i := range 5 * maxOffers {
		other := strings.ReplaceAll(offer, "a=ice-ufrag:", fmt.Sprintf("a=ice-ufrag:x%03d", i))
		other = strings.Replace(other, "o=- ", fmt.Sprintf("o=- %d", i+1), 1)
		s.send(wire.Signal{Type: wire.TypeOffer, From: "a", To: "b", Offer: &wire.SessionDescription{Type: "offer", SDP: other}})
	}
	s.flush(m, b)
	on(t, b, "a", func(*link) {})
	if n := m.events.count("webrtc_answer_created"); n < 2 || n > 3*maxOffers {
		t.Errorf("%d answers to %d offers", n, 5*maxOffers)
	}
}
