package mesh

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

func TestSignalingLossLeavesLinksAlone(t *testing.T) {
	m, f := newTestMesh(t), newTraffic(10*time.Millisecond)
	for i := range 3 {
		m.add(fmt.Sprintf("a%d", i+1), func(o *AgentOptions) {
			withTraffic(f)(o)
			o.Timing.Disconnected = 20 * time.Second // a busy machine does not break these links
		})
	}
	m.connectAll()
	before := creations(m)
	f.start(t, m.agents)

	m.signal.refuseNew(http.StatusServiceUnavailable)
	m.signal.drop()
	m.eventually("all agents without signaling", func() error {
		if n := m.events.count("signaling_connection_lost"); n != 3 {
			return fmt.Errorf("%d lost", n)
		}
		return nil
	})
	m.eventually("messages without signaling", allArrive(f, time.Now(), 6))
	offers := m.events.count("webrtc_offer_created")
	m.agents[0].ReconnectTURN()

	m.signal.refuseNew(0)
	m.eventually("all agents registered again", func() error {
		if n := m.events.count("agent_registered"); n != 6 {
			return fmt.Errorf("%d registrations", n)
		}
		return nil
	})
	m.eventually("messages with signaling", allArrive(f, time.Now(), 6))
	m.connectAll()
	if after := creations(m); after != before {
		t.Errorf("connections were replaced:\n%s\n%s", before, after)
	}
	if n := m.events.count("webrtc_offer_created"); n != offers {
		t.Errorf("%d offers were made for links that worked", n-offers)
	}
}

func creations(m *testMesh) string {
	var all []string
	for _, a := range m.agents {
		for _, l := range a.Links() {
			all = append(all, fmt.Sprint(l.ID, l.CreatedAt))
		}
	}
	return strings.Join(all, " ")
}

func TestFailoverWaitsForSignaling(t *testing.T) {
	first, second := newRelay(t, true), newRelay(t, true)
	m := newTestMesh(t)
	m.addRelayed(2, uris(first, second), nil)
	m.onServer(first.uri)
	m.signal.refuseNew(http.StatusServiceUnavailable)
	m.signal.drop()
	m.eventually("signaling lost", func() error {
		if n := m.events.count("signaling_connection_lost"); n != 2 {
			return fmt.Errorf("%d lost", n)
		}
		return nil
	})
	offers := m.events.count("webrtc_offer_created")
	first.kill()
	m.eventually("links failed", func() error {
		for _, a := range m.agents {
			if l := a.Links()[0]; l.State != wire.StateFailed {
				return fmt.Errorf("%s is %s", l.ID, l.State)
			}
		}
		return nil
	})
	if n := m.events.count("webrtc_offer_created"); n != offers {
		t.Errorf("%d offers were made without signaling", n-offers)
	}
	m.signal.refuseNew(0)
	m.onServer(second.uri)
}

func TestSignalingFailover(t *testing.T) {
	backup := newSignalServer(t)
	m := newTestMesh(t)
	m.add("a1", func(o *AgentOptions) { o.SignalingURLs = append(o.SignalingURLs, backup.url()) })
	m.signal.refuseNew(http.StatusInternalServerError)
	m.signal.drop()
	m.eventually("connected to the backup", func() error {
		for _, e := range m.events.named("signaling_connected") {
			if e.Metadata["server"] == backup.url() && e.Metadata["attempt"] == 2 && e.Metadata["fallover_count"] == 1 {
				return nil
			}
		}
		return errors.New("no such event")
	})
	failed := m.events.named("signaling_connection_failed")[0]
	if failed.Metadata["server"] != m.signal.url() || !strings.Contains(failed.Metadata["error"].(string), "HTTP 500") {
		t.Errorf("signaling_connection_failed says %v", failed.Metadata)
	}
}

func TestStartAgentErrors(t *testing.T) {
	hanging := hangingServer(t)
	closed := hangingServer(t)
	_ = closed.Close()
	refusing, broken := newSignalServer(t), newSignalServer(t)
	refusing.refuseNew(http.StatusForbidden)
	broken.refuseNew(http.StatusBadGateway)
	for _, test := range []struct {
		name     string
		urls     []string
		says     string
		attempts int
	}{
		{"no server", nil, "no signaling server", 0},
		{"not a WebSocket URL", []string{"http://127.0.0.1"}, "not a ws or wss URL", 0},
		{"refused connection", []string{"ws://" + closed.Addr().String()}, "connection refused", 1},
		{"403 ends it", []string{refusing.url(), broken.url()}, "HTTP 403", 1},
		{"5xx moves on at once", []string{broken.url(), broken.url()}, "HTTP 502", 2},
		{"silence is tried three times", []string{"ws://" + hanging.Addr().String(), broken.url()}, "no answer after", 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			var events eventLog
			a, err := StartAgent(t.Context(), AgentOptions{
				ID: "a1", SignalingURLs: test.urls, Timing: Timing{Register: 100 * time.Millisecond}, Emit: events.add,
			})
			if err == nil {
				_ = a.Close()
				t.Fatal("the agent started")
			}
			if !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "deadline exceeded") {
				t.Errorf("error %q, want it to say %q", err, test.says)
			}
			if n := events.count("signaling_connection_failed"); n != test.attempts {
				t.Errorf("%d attempts, want %d", n, test.attempts)
			}
		})
	}
}

// hangingServer takes TCP connections and says nothing.
func hangingServer(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestStartAgentChecksOptions(t *testing.T) {
	signal := newSignalServer(t)
	relay := parseList(t, "turn:127.0.0.1:3478")
	for _, test := range []struct {
		name string
		o    AgentOptions
		says string
	}{
		{"no id", AgentOptions{}, "no agent id"},
		{"TURN without credentials", AgentOptions{ID: "a1", TURNServers: relay}, "without username"},
		{"short key", AgentOptions{ID: "a1", SignKey: make([]byte, 3)}, "signing key"},
		{"missing CA file", AgentOptions{ID: "a1", CAFile: t.TempDir() + "/none"}, "no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.o.SignalingURLs = []string{signal.url()}
			if a, err := StartAgent(t.Context(), test.o); err == nil {
				_ = a.Close()
				t.Error("the agent started")
			} else if !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %q, want it to say %q", err, test.says)
			}
		})
	}
}

func TestSignalingOverTLS(t *testing.T) {
	signal := startSignalServer(t, (*httptest.Server).StartTLS)
	roots := t.TempDir() + "/roots.pem"
	block := &pem.Block{Type: "CERTIFICATE", Bytes: signal.Certificate().Raw}
	if err := os.WriteFile(roots, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir() + "/empty.pem"
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, ca, says string }{
		{"its CA is trusted", roots, ""},
		{"only the system's roots", "", "certificate signed by unknown authority"},
		{"no certificate in the file", empty, "no certificate in it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, err := StartAgent(t.Context(), AgentOptions{ID: "a1", SignalingURLs: []string{signal.url()}, CAFile: test.ca})
			switch {
			case err == nil && test.says != "":
				t.Error("the agent started")
			case err != nil && (test.says == "" || !strings.Contains(err.Error(), test.says)):
				t.Errorf("error %q, want %q", err, test.says)
			}
			if err == nil {
				_ = a.Close()
			}
		})
	}
}

func TestEvictedAgentRegistersAgain(t *testing.T) {
	m := newTestMesh(t)
	m.add("a1", nil)
	m.signal.evict("a1")
	m.eventually("registered again", func() error {
		if !m.signal.has("a1") {
			return errors.New("not registered")
		}
		return nil
	})
}

func TestAgentEndsWithItsContext(t *testing.T) {
	signal := newSignalServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	var events eventLog
	a, err := StartAgent(ctx, AgentOptions{ID: "a1", SignalingURLs: []string{signal.url()}, Emit: events.add})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := a.Close(); err != nil || events.count("agent_disconnected") != 1 {
		t.Errorf("Close = %v after %d agent_disconnected events, want nil after one", err, events.count("agent_disconnected"))
	}
}
