package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/wire"
)

type testSignaling struct {
	*signaling
	t    *testing.T
	site *site
}

func startSignaling(t *testing.T, seedOnly bool, links ...wire.Link) *testSignaling {
	t.Helper()
	s := newSignaling("signaling-1", seedOnly, func() []wire.Link { return links }, newRegistry())
	return &testSignaling{signaling: s, t: t, site: openTestSite(t, s.handler())}
}

// peer is an agent of a test that speaks frame by frame.
type peer struct {
	t    *testing.T
	conn *websocket.Conn
}

func (s *testSignaling) dial() *peer {
	s.t.Helper()
	conn, _, err := websocket.Dial(s.t.Context(), "ws://"+s.site.address, &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.CloseNow() })
	return &peer{s.t, conn}
}

// join registers and reads the reply, which must name the others.
func (s *testSignaling) join(id string, others ...string) *peer {
	s.t.Helper()
	p := s.dial()
	p.send(fmt.Sprintf(`{"type":"register","agent_id":%q}`, id))
	want, err := json.Marshal(append([]string{}, others...))
	if err != nil {
		s.t.Fatal(err)
	}
	p.expect(fmt.Sprintf(`{"type":"registered","agent_id":%q,"connected_agents":%s}`, id, want))
	return p
}

func (p *peer) send(frame string) {
	p.t.Helper()
	if err := p.conn.Write(p.t.Context(), websocket.MessageText, []byte(frame)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) read() (string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	_, frame, err := p.conn.Read(ctx)
	return string(frame), err
}

// expect reads one frame and compares it as JSON.
func (p *peer) expect(want string) {
	p.t.Helper()
	frame, err := p.read()
	if err != nil {
		p.t.Fatalf("waiting for %s: %v", want, err)
	}
	if diff := cmp.Diff(parsed(p.t, want), parsed(p.t, frame)); diff != "" {
		p.t.Errorf("got %s, want %s", frame, want)
	}
}

func (p *peer) expectError(part string) {
	p.t.Helper()
	frame, err := p.read()
	if err != nil {
		p.t.Fatalf("waiting for an error: %v", err)
	}
	var s wire.Signal
	if err := json.Unmarshal([]byte(frame), &s); err != nil || s.Type != "error" || !strings.Contains(s.Message, part) {
		p.t.Errorf("got %s, want an error with %q", frame, part)
	}
}

func parsed(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v
}

func TestSignalingRegistration(t *testing.T) {
	s := startSignaling(t, false)
	b := s.join("b")
	a := s.join("a", "b")
	b.expect(`{"type":"agent-joined","agent_id":"a"}`)
	c := s.join("c", "a", "b")
	a.expect(`{"type":"agent-joined","agent_id":"c"}`)
	b.expect(`{"type":"agent-joined","agent_id":"c"}`)
	if err := c.conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Fatal(err)
	}
	a.expect(`{"type":"agent-left","agent_id":"c"}`)
	b.expect(`{"type":"agent-left","agent_id":"c"}`)
	if diff := cmp.Diff([]string{"a", "b"}, s.ids()); diff != "" {
		t.Error(diff)
	}
}

func TestSignalingRelays(t *testing.T) {
	const (
		offer     = `{"type":"offer","from":%q,"to":"b","offer":{"type":"offer","sdp":"v=0"}}`
		answer    = `{"type":"answer","from":%q,"to":"b","answer":{"type":"answer","sdp":"v=0"}}`
		candidate = `{"type":"ice-candidate","from":%q,"to":"b","candidate":{"candidate":"c","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":null}}`
	)
	tests := []struct{ name, frame string }{
		{"offer", offer},
		{"answer", answer},
		{"candidate", candidate},
	}
	s := startSignaling(t, false)
	b := s.join("b")
	a := s.join("a", "b")
	b.expect(`{"type":"agent-joined","agent_id":"a"}`)
	for _, tt := range tests {
		t.Run(tt.name, func(*testing.T) {
			a.send(fmt.Sprintf(tt.frame, "a"))
			b.expect(fmt.Sprintf(tt.frame, "a"))
		})
		t.Run(tt.name+" under another name", func(*testing.T) {
			a.send(fmt.Sprintf(tt.frame, "mallory"))
			b.expect(fmt.Sprintf(tt.frame, "a"))
		})
	}
}

func TestSignalingRefuses(t *testing.T) {
	tests := []struct{ name, frame, want string }{
		{"bad JSON", `{"type":`, "JSON"},
		{"no type", `{}`, "no type"},
		{"register without id", `{"type":"register"}`, "agent_id"},
		{"another id", `{"type":"register","agent_id":"z"}`, "registered as a"},
		{"offer without target", `{"type":"offer","from":"a","offer":{"type":"offer","sdp":"v=0"}}`, "no to"},
		{"offer without SDP", `{"type":"offer","from":"a","to":"b"}`, "sdp"},
		{"offer to nobody", `{"type":"offer","from":"a","to":"z","offer":{"type":"offer","sdp":"v=0"}}`, `"z" is not registered`},
		{"answer to nobody", `{"type":"answer","from":"a","to":"z","answer":{"type":"answer","sdp":"v=0"}}`, `"z" is not registered`},
		{"candidate without candidate", `{"type":"ice-candidate","from":"a","to":"b"}`, "candidate"},
	}
	s := startSignaling(t, false)
	a := s.join("a")
	for _, tt := range tests {
		t.Run(tt.name, func(*testing.T) {
			a.send(tt.frame)
			a.expectError(tt.want)
		})
	}
	_, metrics := get(t, s.site.url()+"/metrics")
	if want := fmt.Sprintf("\nwebrtc_signaling_errors_total %d\n", len(tests)); !strings.Contains(metrics, want) {
		t.Errorf("metrics %q, want %q", metrics, want)
	}
}

func TestSignalingIgnores(t *testing.T) {
	tests := []struct{ name, frame string }{
		{"unknown type", `{"type":"mesh-hello","to":"b"}`},
		{"candidate for an unknown agent", `{"type":"ice-candidate","from":"a","to":"z","candidate":{"candidate":"c"}}`},
	}
	s := startSignaling(t, false)
	a := s.join("a")
	for _, tt := range tests {
		t.Run(tt.name, func(*testing.T) {
			a.send(tt.frame)
			a.send(`{"type":"register","agent_id":"a"}`) // the next reply is to this
			a.expect(`{"type":"registered","agent_id":"a","connected_agents":[]}`)
		})
	}
}

func TestSignalingBeforeRegistration(t *testing.T) {
	s := startSignaling(t, false)
	s.join("b")
	p := s.dial()
	p.send(`{"type":"offer","from":"a","to":"b","offer":{"type":"offer","sdp":"v=0"}}`)
	p.expectError("not registered")
	if err := p.conn.Write(t.Context(), websocket.MessageBinary, []byte(`{"type":"register","agent_id":"a"}`)); err != nil {
		t.Fatal(err)
	}
	p.expectError("text")
}

func TestSignalingReplacesAnOlderSocket(t *testing.T) {
	s := startSignaling(t, false)
	b := s.join("b")
	old := s.join("a", "b")
	b.expect(`{"type":"agent-joined","agent_id":"a"}`)
	a := s.join("a", "b")
	b.expect(`{"type":"agent-joined","agent_id":"a"}`)
	if frame, err := old.read(); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the older socket got %q, error %v, want it closed", frame, err)
	}
	b.send(`{"type":"offer","from":"b","to":"a","offer":{"type":"offer","sdp":"v=0"}}`)
	a.expect(`{"type":"offer","from":"b","to":"a","offer":{"type":"offer","sdp":"v=0"}}`)
	a.send(`{"type":"answer","from":"a","to":"b","answer":{"type":"answer","sdp":"v=0"}}`)
	b.expect(`{"type":"answer","from":"a","to":"b","answer":{"type":"answer","sdp":"v=0"}}`) // and no agent-left before
}

func TestSignalingFrameLimit(t *testing.T) {
	s := startSignaling(t, false)
	a := s.join("a")
	a.send(fmt.Sprintf(`{"type":"offer","from":"a","to":"b","offer":{"type":"offer","sdp":%q}}`, strings.Repeat("x", wire.MaxFrame)))
	_, err := a.read()
	if websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Errorf("read: %v, want the socket closed as too big", err)
	}
	eventually(t, "the agent is gone", func() error {
		if ids := s.ids(); len(ids) > 0 {
			return fmt.Errorf("registered: %q", ids)
		}
		return nil
	})
}

func TestSignalingHTTP(t *testing.T) {
	server := "turn:127.0.0.1:3478"
	link := wire.Link{ID: "a-b", Local: "a", Peer: "b", State: wire.StateConnected, TURNServer: &server}
	tests := []struct {
		name     string
		seedOnly bool
		want     string
	}{
		{"all", false, `{"total_agents":1,"server":"signaling-1","local_agents":["a"],
			"connections":[{"id":"a-b","local":"a","peer":"b","state":"connected","turn_server":"turn:127.0.0.1:3478"}]}`},
		{"seed only", true, `{"total_agents":1,"connections":[{"state":"connected"}]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := startSignaling(t, tt.seedOnly, link)
			s.join("a")
			status, body := get(t, s.site.url()+"/stats")
			if diff := cmp.Diff(parsed(t, tt.want), parsed(t, body)); status != http.StatusOK || diff != "" {
				t.Errorf("HTTP %d: %s", status, diff)
			}
			if status, body := get(t, s.site.url()+"/health"); status != 200 || body != `{"status":"ok"}` {
				t.Errorf("health: HTTP %d %s", status, body)
			}
			if status, _ := get(t, s.site.url()+"/agents"); status != http.StatusNotFound {
				t.Errorf("agents: HTTP %d", status)
			}
		})
	}
}

func TestSignalingCutsOffWhoDoesNotRead(t *testing.T) {
	s := newSignaling("signaling-1", false, nil, newRegistry())
	ctx, cancel := context.WithCancel(t.Context())
	me := &session{out: make(chan []byte, maxQueue), cancel: cancel}
	for range maxQueue {
		me.send(wire.Signal{Type: wire.TypeAgentLeft, AgentID: "b"})
	}
	if ctx.Err() != nil {
		t.Fatal("cut off with room in the queue")
	}
	s.refuse(me, "one too many")
	if ctx.Err() == nil {
		t.Error("not cut off")
	}
}

func TestSignalingDownEndsSockets(t *testing.T) {
	s := startSignaling(t, false)
	a := s.join("a")
	if err := s.site.down(); err != nil {
		t.Fatal(err)
	}
	if frame, err := a.read(); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read %q, error %v, want it closed", frame, err)
	}
	if ids := s.ids(); len(ids) > 0 {
		t.Errorf("registered: %q", ids)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, _, err := websocket.Dial(ctx, "ws://"+s.site.address, nil); !refused(err) {
		t.Errorf("dial: %v, want connection refused", err)
	}
}
