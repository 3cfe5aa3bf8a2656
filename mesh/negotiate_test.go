package mesh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// crossing holds the first offer of each side until both are there, so that
// both sides have offered before either hears of it.
func crossing(m *testMesh) {
	var mu sync.Mutex
	held := map[string]wire.Signal{}
	m.signal.intercept(func(s wire.Signal, forward func(wire.Signal)) bool {
		mu.Lock()
		defer mu.Unlock()
		if s.Type != wire.TypeOffer || held[s.From].Type != "" {
			return false
		}
		held[s.From] = s
		if len(held) == 2 {
			for _, offer := range held {
				forward(offer)
			}
		}
		return true
	})
}

func TestGlare(t *testing.T) {
	m := newTestMesh(t)
	crossing(m)
	for _, id := range []string{"a1", "a2"} {
		m.add(id, func(o *AgentOptions) { o.Timing.OfferSilence = time.Millisecond })
	}
	m.connectAll()
	if n := m.events.count("webrtc_answer_created"); n != 1 {
		t.Errorf("%d answers, want one: to the smaller id's offer", n)
	}
}

func TestGlareOfRestarts(t *testing.T) {
	relay := newRelay(t, true)
	m := newTestMesh(t)
	m.addRelayed(2, uris(relay), func(o *AgentOptions) { o.plain = true })
	m.onServer(relay.uri)
	before := creations(m)
	crossing(m)
	for i, peer := range []string{"a2", "a1"} {
		l := m.agents[i].existing(peer)
		l.inbox.post(func() {
			l.up = false
			l.offer(relay.uri.String(), purposeConnect)
		})
	}
	m.eventually("up again", func() error {
		if n := m.events.count("webrtc_answer_received"); n != 2 {
			return fmt.Errorf("%d answers received", n)
		}
		return nil
	})
	m.onServer(relay.uri)
	if after := creations(m); after != before {
		t.Errorf("the connections were replaced:\n%s\n%s\nevents:\n%s", before, after, m.events.tail(60))
	}
}

func TestCandidatesBeforeTheAnswer(t *testing.T) {
	m := newTestMesh(t)
	var mu sync.Mutex
	var answer *wire.Signal
	m.signal.intercept(func(s wire.Signal, forward func(wire.Signal)) bool {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case s.Type == wire.TypeAnswer:
			answer = &s
			return true
		case s.Type == wire.TypeCandidate && s.From == "a1":
			return true // lost, so that only a2's candidates can connect them
		case s.Type == wire.TypeCandidate && answer != nil:
			forward(s)
			forward(*answer)
			answer = nil
			return true
		}
		return false
	})
	for _, id := range []string{"a1", "a2"} {
		m.add(id, func(o *AgentOptions) { o.Timing.Connect = time.Minute })
	}
	m.connectAll()
	if n := m.events.count("webrtc_offer_created"); n != 1 {
		t.Errorf("%d offers, want 1", n)
	}
}

// TestLateAnswer: the answer to an offer given up comes after the next offer.
func TestLateAnswer(t *testing.T) {
	m := newTestMesh(t)
	patient := func(o *AgentOptions) { o.Timing.Connect = time.Minute }
	first := m.add("a1", patient)
	var mu sync.Mutex
	var answers []wire.Signal
	m.signal.intercept(func(s wire.Signal, forward func(wire.Signal)) bool {
		mu.Lock()
		defer mu.Unlock()
		if s.Type != wire.TypeAnswer || len(answers) == 2 {
			return false
		}
		answers = append(answers, s)
		if len(answers) == 1 {
			l := first.existing("a2")
			l.inbox.post(l.again) // as if the attempt had timed out
		} else {
			forward(answers[0])
			forward(answers[1])
		}
		return true
	})
	m.add("a2", patient)
	m.connectAll()
}

func TestPeerThatComesBackUnderItsName(t *testing.T) {
	m := newTestMesh(t)
	m.add("a1", nil)
	first := m.add("a2", nil)
	m.connectAll()
	_ = first.Close()
	m.agents = m.agents[:1]
	m.add("a2", nil)
	m.connectAll()
	if m.agents[0].Links()[0].RemoteFingerprint == first.fingerprint {
		t.Error("the link still has the certificate of the agent that left")
	}
}

// TestPeerThatLostItsConnection: it cannot take an ICE restart, and says so
// only by answering with another session.
func TestPeerThatLostItsConnection(t *testing.T) {
	m := newTestMesh(t)
	for _, id := range []string{"a1", "a2"} {
		m.add(id, func(o *AgentOptions) { o.Timing.Connect = time.Minute })
	}
	m.connectAll()
	lost := make(chan *connection)
	l := m.agents[1].existing("a1")
	l.inbox.post(func() {
		lost <- l.conn
		l.mu.Lock()
		defer l.mu.Unlock()
		l.up, l.conn = false, nil
	})
	defer func(c *connection) { c.close() }(<-lost)
	restart := m.agents[0].existing("a2")
	restart.inbox.post(func() {
		restart.up = false
		restart.offer("", purposeConnect)
	})
	m.connectAll()
}

func TestLinkToAPeerThatLeftIsGone(t *testing.T) {
	m := newTestMesh(t)
	a := m.add("a1", nil)
	b := m.add("a2", nil)
	m.connectAll()
	_ = b.Close()
	m.eventually("no link, no peer", func() error {
		if len(a.Links())+len(a.Peers()) != 0 {
			return fmt.Errorf("links %v, peers %v", a.Links(), a.Peers())
		}
		return nil
	})
	m.eventually("peer_disconnected", func() error {
		if m.events.count("peer_disconnected") == 0 {
			return errors.New("no such event")
		}
		return nil
	})
}

func TestPassiveAgentsConnectOnDemand(t *testing.T) {
	for _, from := range []int{0, 1} {
		t.Run(fmt.Sprintf("from a%d", from+1), func(t *testing.T) {
			m := newTestMesh(t)
			m.add("a1", func(o *AgentOptions) { o.Passive = true })
			m.add("a2", func(o *AgentOptions) { o.Passive = true })
			peer := fmt.Sprintf("a%d", 2-from)
			m.eventually("peer seen", func() error {
				if !m.agents[from].registered(peer) {
					return errors.New("not yet")
				}
				return nil
			})
			if links := m.agents[from].Links(); len(links) != 0 {
				t.Errorf("links before Connect: %v", links)
			}
			if err := m.agents[from].Connect(t.Context(), peer); err != nil {
				t.Fatal(err)
			}
			if _, err := m.agents[from].Send(peer, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestConnectErrors(t *testing.T) {
	m := newTestMesh(t)
	a := m.add("a1", func(o *AgentOptions) { o.Passive = true })
	m.add("mute", func(o *AgentOptions) { o.Passive = true })
	m.signal.intercept(func(s wire.Signal, _ func(wire.Signal)) bool { return s.Type == wire.TypeAnswer })
	m.eventually("peer seen", func() error {
		if len(a.Peers()) != 1 {
			return errors.New("not yet")
		}
		return nil
	})
	short, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("no more time"))
	defer cancel()
	for _, test := range []struct{ name, peer, says string }{
		{"unknown peer", "nobody", "not registered"},
		{"itself", "a1", "only within their own run"},
		{"foreign kind", "meshctl-r-1", "only within their own run"},
		{"no answer", "mute", "no more time"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := a.Connect(short, test.peer)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("Connect(%s) = %v, want it to say %q", test.peer, err, test.says)
			}
		})
	}
}

func TestLinkable(t *testing.T) {
	for _, test := range []struct {
		name, self, peer string
		want             bool
	}{
		{"agents of the mesh", "agent-1", "agent-2", true},
		{"itself", "agent-1", "agent-1", false},
		{"same run", "meshctl-r1-1", "meshctl-r1-2", true},
		{"another run", "meshctl-r1-1", "meshctl-r2-1", false},
		{"run with dashes", "meshctl-r-1-1", "meshctl-r-2-1", false},
		{"ours to theirs", "meshctl-r1-1", "agent-1", false},
		{"theirs to ours", "agent-1", "meshctl-r1-1", false},
		{"without a number", "meshctl-", "meshctl-x", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := linkable(test.self, test.peer); got != test.want {
				t.Errorf("linkable(%s, %s) = %t", test.self, test.peer, got)
			}
		})
	}
}

func TestOwnAgentsIgnoreForeignOffers(t *testing.T) {
	m := newTestMesh(t)
	own := m.add("meshctl-run-1", nil)
	m.add("zeta", nil)
	m.add("meshctl-other-1", nil)
	// An offer that is fine in all but its sender.
	m.signal.intercept(func(s wire.Signal, forward func(wire.Signal)) bool {
		if s.Type == wire.TypeOffer {
			s.To = own.ID()
			forward(s)
		}
		return true
	})
	m.add("zeta2", nil) // its peer zeta offers to it
	m.eventually("an offer for the own agent", func() error {
		if m.events.count("webrtc_offer_created") == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	if err := own.signaling.send(t.Context(), wire.Signal{Type: wire.TypeRegister, AgentID: own.ID()}); err != nil {
		t.Fatal(err)
	}
	m.eventually("the own agent has read what came before", func() error {
		if len(own.Peers()) != 3 {
			return fmt.Errorf("peers %v", own.Peers())
		}
		return nil
	})
	if links := own.Links(); len(links) != 0 {
		t.Errorf("the own agent has links %v, want none", links)
	}
	if n := m.events.count("webrtc_answer_created"); n != 0 {
		t.Errorf("%d answers, want none", n)
	}
}

func TestSDPLines(t *testing.T) {
	const sdp = "v=0\r\no=- 42 2 IN IP4 0.0.0.0\r\na=ice-ufrag:abc\r\n"
	for _, test := range []struct {
		name, other string
		same        bool
	}{
		{"next version", "v=0\r\no=- 42 3 IN IP4 0.0.0.0\r\n", true},
		{"other session", "v=0\r\no=- 43 2 IN IP4 0.0.0.0\r\n", false},
		{"no origin", "v=0\r\n", false},
		{"short origin", "o=-\n", false},
		{"empty", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := sameSession(sdp, test.other); got != test.same {
				t.Errorf("sameSession = %t, want %t", got, test.same)
			}
		})
	}
	if got := ufrag(sdp); got != "abc" {
		t.Errorf("ufrag = %q, want abc", got)
	}
}
