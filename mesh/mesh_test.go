package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/witnessclient"
)

// testMesh is a signaling server and the agents of one test.
type testMesh struct {
	t      testing.TB
	signal *signalServer
	events eventLog
	agents []*Agent
}

func newTestMesh(t testing.TB) *testMesh { return &testMesh{t: t, signal: newSignalServer(t)} }

// add starts an agent with test defaults and what edit changes.
func (m *testMesh) add(id string, edit func(*AgentOptions)) *Agent {
	m.t.Helper()
	o := AgentOptions{
		ID: id, SignalingURLs: []string{m.signal.url()}, Loopback: true, Timing: LabTiming(),
		Username: turnUser, Password: secret.New(turnPassword), Emit: m.events.add,
	}
	if edit != nil {
		edit(&o)
	}
	a, err := StartAgent(m.t.Context(), o)
	if err != nil {
		m.t.Fatal(err)
	}
	m.agents = append(m.agents, a)
	m.t.Cleanup(func() { _ = a.Close() })
	return a
}

// addRelayed starts n relay-only agents a1, a2 ... on the servers.
func (m *testMesh) addRelayed(n int, servers []wire.ServerURI, edit func(*AgentOptions)) {
	m.t.Helper()
	for i := range n {
		m.add(fmt.Sprintf("a%d", i+1), func(o *AgentOptions) {
			o.RelayOnly, o.TURNServers, o.Check = true, servers, allocate
			if edit != nil {
				edit(o)
			}
		})
	}
}

// connectAll waits until every agent has an open link to every other.
func (m *testMesh) connectAll() {
	m.t.Helper()
	m.eventually("all pairs connected", func() error {
		for _, a := range m.agents {
			links := a.Links()
			if len(links) != len(m.agents)-1 {
				return fmt.Errorf("%s has %d links: %v", a.ID(), len(links), links)
			}
			for _, l := range links {
				if l.State != wire.StateConnected {
					return fmt.Errorf("%s is %s via %s", l.ID, l.State, text(l.TURNServer))
				}
			}
		}
		return nil
	})
}

// onServer waits until all pairs are connected through the server.
func (m *testMesh) onServer(server wire.ServerURI) {
	m.t.Helper()
	m.eventually("all links relayed by "+server.String(), func() error {
		for _, a := range m.agents {
			links := a.Links()
			if len(links) != len(m.agents)-1 {
				return fmt.Errorf("%s has %d links", a.ID(), len(links))
			}
			for _, l := range links {
				if l.State != wire.StateConnected || l.Path != wire.PathRelay || text(l.TURNServer) != server.String() {
					return fmt.Errorf("%s is %s by %s via %s", l.ID, l.State, l.Path, text(l.TURNServer))
				}
			}
		}
		return nil
	})
}

// eventually polls a fact under a generous deadline.
func (m *testMesh) eventually(what string, fact func() error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 30*time.Second)
	defer cancel()
	var last error
	if err := poll(ctx, func() bool { last = fact(); return last == nil }); err != nil {
		m.t.Fatalf("%s: %v\nevents:\n%s", what, last, m.events.tail(60))
	}
}

func text(s *string) string {
	if s == nil {
		return "(unknown)"
	}
	return *s
}

// eventLog keeps what the agents report.
type eventLog struct {
	mu     sync.Mutex
	events []witnessclient.Event
}

func (l *eventLog) add(e witnessclient.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *eventLog) named(name string) []witnessclient.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.events), func(e witnessclient.Event) bool { return e.Name != name })
}

func (l *eventLog) count(name string) int { return len(l.named(name)) }

func (l *eventLog) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := ""
	for _, e := range l.events[max(0, len(l.events)-n):] {
		if e.Name != "ice_candidate_sent" {
			out += fmt.Sprintf("%s %s>%s %s %v\n", e.Timestamp.Format("05.000"), e.AgentID, e.PeerID, e.Name, e.Metadata)
		}
	}
	return out
}

func TestConnectAllPairs(t *testing.T) {
	relay := newRelay(t, true)
	for _, test := range []struct {
		name string
		edit func(*AgentOptions)
		path string
	}{
		{"host", nil, wire.PathHost},
		{"host, TURN at hand", func(o *AgentOptions) { o.TURNServers = []wire.ServerURI{relay.uri} }, wire.PathHost},
		{"relay only", func(o *AgentOptions) {
			o.TURNServers, o.RelayOnly = []wire.ServerURI{relay.uri}, true
		}, wire.PathRelay},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newTestMesh(t)
			for i := range 4 {
				m.add(fmt.Sprintf("a%d", i+1), test.edit)
			}
			m.connectAll()
			for _, a := range m.agents {
				for _, l := range a.Links() {
					checkLink(t, l, test.path, relay.uri.String())
				}
			}
		})
	}
}

func checkLink(t *testing.T, l wire.Link, path, relay string) {
	t.Helper()
	server := ""
	if path == wire.PathRelay {
		server = relay
	}
	direct := path != wire.PathRelay && l.Path != wire.PathRelay // on loopback, which one is chance
	if l.Path != path && !direct || text(l.TURNServer) != server {
		t.Errorf("%s: path %s via %q, want %s via %q", l.ID, l.Path, text(l.TURNServer), path, server)
	}
	if l.LocalFingerprint == "" || l.RemoteFingerprint == "" || l.LocalFingerprint == l.RemoteFingerprint {
		t.Errorf("%s: fingerprints %q and %q", l.ID, l.LocalFingerprint, l.RemoteFingerprint)
	}
	if l.CreatedAt == nil || l.BytesSent == nil || l.BufferedAmount == nil || l.RequestsSent == nil {
		t.Errorf("%s: fields missing: %+v", l.ID, l)
	}
}

func TestFingerprintsOfBothSidesMatch(t *testing.T) {
	m := newTestMesh(t)
	a, b := m.add("a1", nil), m.add("a2", nil)
	m.connectAll()
	x, y := a.Links()[0], b.Links()[0]
	if x.LocalFingerprint != y.RemoteFingerprint || y.LocalFingerprint != x.RemoteFingerprint {
		t.Errorf("fingerprints differ:\n%s %s\n%s %s", x.LocalFingerprint, x.RemoteFingerprint, y.LocalFingerprint, y.RemoteFingerprint)
	}
}

func TestMessagesArrive(t *testing.T) {
	m := newTestMesh(t)
	got := make(chan wire.Message, 10)
	a := m.add("a1", nil)
	m.add("a2", func(o *AgentOptions) { o.OnMessage = func(_ string, m wire.Message, _ time.Time) { got <- m } })
	m.connectAll()
	sent, err := a.Send("a2", map[string]any{"n": 1})
	if err != nil {
		t.Fatal(err)
	}
	if m := <-got; m.ID != sent.ID || m.Source != "a1" || string(m.Payload) != `{"n":1}` {
		t.Errorf("received %+v, want %+v", m, sent)
	}
	if _, err := a.Send("nobody", nil); !errors.Is(err, ErrNoChannel) {
		t.Errorf("Send(nobody) = %v, want ErrNoChannel", err)
	}
}

func TestBadSignatureIsDropped(t *testing.T) {
	m := newTestMesh(t)
	got := make(chan wire.Message, 10)
	a := m.add("a1", nil)
	m.add("a2", func(o *AgentOptions) { o.OnMessage = func(_ string, m wire.Message, _ time.Time) { got <- m } })
	m.connectAll()
	bad, err := wire.NewMessage("a1", "a2", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := bad.Sign(a.o.SignKey); err != nil {
		t.Fatal(err)
	}
	bad.Level++ // signed
	raw, err := bad.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.existing("a2").sending().messages.Load().send(raw); err != nil {
		t.Fatal(err)
	}
	good, err := a.Send("a2", nil)
	if err != nil {
		t.Fatal(err)
	}
	if first := <-got; first.ID != good.ID {
		t.Errorf("the first message that arrived is %s, want the good one, %s", first.ID, good.ID)
	}
	if n := m.events.count("signature_verification_failed"); n != 1 {
		t.Errorf("%d signature_verification_failed events, want 1", n)
	}
}
