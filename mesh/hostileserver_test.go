package mesh

import (
	"context"

	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// oddServer is a signaling server that serves each socket as told.
func oddServer(t *testing.T, serve func(ctx context.Context, conn *websocket.Conn)) (url string, sockets *atomic.Int64) {
	sockets = new(atomic.Int64)
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		sockets.Add(1)
		serve(ctx, conn)
		_ = conn.CloseNow()
	}))
	t.Cleanup(func() {
		cancel()
		server.Close()
	})
	return "ws" + strings.TrimPrefix(server.URL, "http"), sockets
}

// welcome takes the register frame and confirms it.
func welcome(ctx context.Context, conn *websocket.Conn) string {
	_, frame, err := conn.Read(ctx)
	if err != nil {
		return ""
	}
	hello, _ := wire.DecodeSignal(frame)
	write(conn, wire.Signal{Type: wire.TypeRegistered, AgentID: hello.AgentID, ConnectedAgents: []string{}})
	return hello.AgentID
}

// TestServerThatDropsAtOnce: registering is not enough to stay with a server.
// The next one of the list is used, and the first not asked without end.
func TestServerThatDropsAtOnce(t *testing.T) {
	dropping, sockets := oddServer(t, func(ctx context.Context, conn *websocket.Conn) { welcome(ctx, conn) })
	m := newTestMesh(t)
	m.add("a1", func(o *AgentOptions) {
		o.SignalingURLs = []string{dropping, m.signal.url()}
		o.Timing.Return = time.Hour
	})
	m.eventually("on the backup", onSignaling(m, m.signal.url()))
	if n := sockets.Load(); n > 3 {
		t.Errorf("the dropping server was asked %d times", n)
	}
}

// TestOnlyServerDropsAtOnce: attempts become rarer as if it had refused.
func TestOnlyServerDropsAtOnce(t *testing.T) {
	dropping, sockets := oddServer(t, func(ctx context.Context, conn *websocket.Conn) { welcome(ctx, conn) })
	m := newTestMesh(t)
	m.add("a1", func(o *AgentOptions) {
		o.SignalingURLs = []string{dropping}
		o.Timing.Spread, o.Timing.Backoff = time.Millisecond, 200*time.Millisecond
	})
	since := time.Now()
	m.eventually("some losses", func() error {
		if n := m.events.count("signaling_connection_lost"); n < 4 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	// The second loss is followed by 0.2 s and the third by 0.4 s, or at least
	// half of that.
	if took := time.Since(since); took < 300*time.Millisecond {
		t.Errorf("%d sockets in %s", sockets.Load(), took)
	}
}

// TestEvictedAgainAndAgain: a server that answers each registration with an
// eviction is left.
func TestEvictedAgainAndAgain(t *testing.T) {
	var frames atomic.Int64
	evicting, _ := oddServer(t, func(ctx context.Context, conn *websocket.Conn) {
		for {
			id := welcome(ctx, conn)
			if id == "" {
				return
			}
			frames.Add(1)
			write(conn, wire.Signal{Type: wire.TypeAgentLeft, AgentID: id})
		}
	})
	m := newTestMesh(t)
	m.add("a1", func(o *AgentOptions) {
		o.SignalingURLs = []string{evicting, m.signal.url()}
		o.Timing.Return = time.Hour
	})
	m.eventually("on the backup", onSignaling(m, m.signal.url()))
	if n := frames.Load(); n > 10 {
		t.Errorf("%d registrations with the evicting server", n)
	}
}

// TestRegisteredAsSomebodyElse is not registered.
func TestRegisteredAsSomebodyElse(t *testing.T) {
	confused, _ := oddServer(t, func(ctx context.Context, conn *websocket.Conn) {
		if _, _, err := conn.Read(ctx); err == nil {
			write(conn, wire.Signal{Type: wire.TypeRegistered, AgentID: "somebody", ConnectedAgents: []string{}})
			<-ctx.Done()
		}
	})
	a, err := StartAgent(t.Context(), AgentOptions{ID: "a1", SignalingURLs: []string{confused}, Timing: LabTiming()})
	if err == nil {
		_ = a.Close()
		t.Fatal("the agent started")
	}
	if !strings.Contains(err.Error(), `"somebody"`) {
		t.Errorf("error %q, want it to name somebody", err)
	}
}

// TestLongFrameIsSkipped: what a peer can have relayed must not cost an agent
// its signaling.
func TestLongFrameIsSkipped(t *testing.T) {
	m, b, s, _ := withStranger(t, nil)
	sent := make(chan struct{})
	m.signal.intercept(func(signal wire.Signal, _ func(wire.Signal)) bool {
		if signal.Type != wire.TypeAnswer {
			return false
		}
		defer close(sent)
		m.signal.mu.Lock()
		defer m.signal.mu.Unlock()
		signal.Answer.SDP = strings.Repeat("x", 2*wire.MaxFrame)
		write(m.signal.agents["b"], signal)
		return true
	})
	s.send(wire.Signal{Type: wire.TypeAnswer, From: "a", To: "b", Answer: &wire.SessionDescription{Type: "answer", SDP: "x"}})
	<-sent
	s.flush(m, b)
	if n := m.events.count("signaling_connection_lost"); n != 0 {
		t.Errorf("signaling was lost %d times", n)
	}
}

// TestTooManyCandidates: a description that names thousands of addresses would
// have an agent send to all of them.
func TestTooManyCandidates(t *testing.T) {
	m, b, s, offer := withStranger(t, nil)
	at := strings.Index(offer, "a=candidate:")
	if at < 0 {
		t.Fatal("no candidate in the offer")
	}
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "a=candidate:%d 1 udp 1 127.0.0.1 %d typ host\r\n", i+10, 20_000+i)
	}
	sdp := strings.Replace(offer[:at]+many.String()+offer[at:], "o=- ", "o=- 7", 1)
	answers := len(s.received(wire.TypeAnswer))
	s.send(wire.Signal{Type: wire.TypeOffer, From: "a", To: "b", Offer: &wire.SessionDescription{Type: "offer", SDP: sdp}})
	s.flush(m, b)
	on(t, b, "a", func(*link) {})
	if n := len(s.received(wire.TypeAnswer)); n != answers {
		t.Error("the offer was answered")
	}
	if err := up(b, "a"); err != nil {
		t.Error(err)
	}
}
