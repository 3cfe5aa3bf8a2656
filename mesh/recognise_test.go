package mesh

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/witnessclient"
)

// TestOwnAgentsKnowEachOtherFromTheirDescriptions: before anything can have
// passed between them. A path that dies then must not make one of ours a plain
// agent, whose reliable messages are given up.
func TestOwnAgentsKnowEachOtherFromTheirDescriptions(t *testing.T) {
	m := newTestMesh(t)
	var mu sync.Mutex
	kinds, agents := map[string]int32{}, map[string]*Agent{}
	note := func(e witnessclient.Event) {
		m.events.add(e)
		mu.Lock()
		defer mu.Unlock()
		if a := agents[e.AgentID]; a != nil && e.Metadata["state"] == wire.StateConnecting {
			kinds[e.AgentID] = a.existing(e.PeerID).kind.Load()
		}
	}
	for _, id := range []string{"a1", "a2"} {
		a := m.add(id, func(o *AgentOptions) { o.Emit, o.Passive = note, true })
		mu.Lock()
		agents[id] = a
		mu.Unlock()
	}
	if err := m.agents[0].awaitPeer(t.Context(), "a2"); err != nil {
		t.Fatal(err)
	}
	m.connectAll()
	mu.Lock()
	defer mu.Unlock()
	for _, id := range []string{"a1", "a2"} {
		if kinds[id] != kindOurs {
			t.Errorf("%s takes its peer for kind %d while connecting", id, kinds[id])
		}
	}
}

// TestAnotherKindUnderTheSameName: what comes back as another agent is asked
// anew what it is.
func TestAnotherKindUnderTheSameName(t *testing.T) {
	const identity, other = "a=fingerprint:sha-256 AA\r\n", "a=fingerprint:sha-256 BB\r\n"
	l := &link{}
	for i, step := range []struct {
		sdp  string
		want int32
	}{
		{identity, kindUnknown},
		{identity + purposeLine + "connect\r\n", kindOurs},
		{identity, kindOurs}, // a server that drops what it does not know
		{other, kindUnknown},
		{identity + answersLine + "abc\r\n", kindOurs},
	} {
		if l.recognise(step.sdp); l.kind.Load() != step.want {
			t.Errorf("step %d: kind %d, want %d", i, l.kind.Load(), step.want)
		}
	}
}

// TestNothingWaitsForAPlainAgent: messages given while it is found out that
// the peer acknowledges nothing.
func TestNothingWaitsForAPlainAgent(t *testing.T) {
	m := newTestMesh(t)
	a := m.add("a1", nil)
	m.add("a2", func(o *AgentOptions) { o.plain = true })
	m.connectAll()
	var sent sync.WaitGroup
	for i := range 4 {
		sent.Go(func() {
			for n := range 200 {
				if _, err := a.SendReliable("a2", map[string]int{"N": n}); err != nil {
					t.Errorf("sender %d: %v", i, err)
					return
				}
			}
		})
	}
	on(t, a, "a2", func(l *link) { l.identify(time.Now().Add(time.Hour)) })
	sent.Wait()
	m.eventually("nothing waits", func() error {
		if n := a.Unacknowledged("a2"); n > 0 {
			return fmt.Errorf("%d messages", n)
		}
		return nil
	})
}

// TestPeerThatStartsAnewBlamesNoServer: its offer can come before its old
// connections are known to be closed. Only from the same agent it means that the
// path was given up.
func TestPeerThatStartsAnewBlamesNoServer(t *testing.T) {
	a := newTestMesh(t).add("a1", func(o *AgentOptions) {
		o.TURNServers, o.RelayOnly = parseList(t, "turn:a,turn:b"), true
	})
	const ours = purposeLine + "connect\r\n"
	for _, test := range []struct {
		offer string
		kind  int32
		want  string
	}{
		{"a=fingerprint:new\r\n" + ours, kindOurs, "turn:a"},
		{"a=fingerprint:known\r\n" + ours, kindOurs, "turn:b"},
		{"a=fingerprint:new\r\n", kindPlain, "turn:b"}, // a browser has one for each connection
	} {
		l := newLink(a, "peer")
		l.timer.Stop()
		l.pulse.Stop()
		l.kind.Store(test.kind)
		l.conn, l.up, l.identity = &connection{server: "turn:a", relayed: true, vigil: vigil{quiet: 100}}, true, "known\r\n"
		if got := l.answeringServer(test.offer); got != test.want {
			t.Errorf("%q is answered on %s, want %s", test.offer, got, test.want)
		}
	}
}
