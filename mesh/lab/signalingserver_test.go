package lab

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// at speaks frame by frame with one signaling server of a lab.
func (l *Lab) at(t *testing.T, i int) *testSignaling {
	return &testSignaling{signaling: l.signaling[i].signaling, t: t, site: l.signaling[i].site}
}

// With a shared registry an offer crosses from one server to another; with
// separate ones the other agent does not exist.
func TestRegistries(t *testing.T) {
	const offer = `{"type":"offer","from":"a","to":"b","offer":{"type":"offer","sdp":"v=0"}}`
	t.Run("shared", func(t *testing.T) {
		l := startLab(t, Options{NoAgents: true})
		a := l.at(t, 0).join("a")
		b := l.at(t, 1).join("b", "a")
		a.expect(`{"type":"agent-joined","agent_id":"b"}`)
		a.send(offer)
		b.expect(offer)
		for i, local := range [][]string{{"a"}, {"b"}, {}} {
			l.checkStats(t, i, 2, local)
		}
		if err := l.signaling[0].site.down(); err != nil {
			t.Fatal(err)
		}
		b.expect(`{"type":"agent-left","agent_id":"a"}`)
		l.checkStats(t, 1, 1, []string{"b"})
	})
	t.Run("separate", func(t *testing.T) {
		l := startLab(t, Options{NoAgents: true, Registry: "separate"})
		a := l.at(t, 0).join("a")
		l.at(t, 1).join("b")
		a.send(offer)
		a.expectError(`"b" is not registered`)
		for i, local := range [][]string{{"a"}, {"b"}, {}} {
			l.checkStats(t, i, len(local), local)
		}
		if diff := cmp.Diff([]string{"a", "b"}, l.registered()); diff != "" {
			t.Error(diff)
		}
	})
}

func (l *Lab) checkStats(t *testing.T, i, total int, local []string) {
	t.Helper()
	_, body := get(t, l.Signaling[i].HTTPURL+"/stats")
	want := map[string]any{"total_agents": float64(total), "server": signalingName(i), "connections": []any{}, "local_agents": []any{}}
	for _, id := range local {
		want["local_agents"] = append(want["local_agents"].([]any), id)
	}
	if diff := cmp.Diff(any(want), parsed(t, body)); diff != "" {
		t.Errorf("%s: %s", signalingName(i), diff)
	}
}

func TestSignalingHangs(t *testing.T) {
	l := startLab(t, Options{NoAgents: true})
	s := l.at(t, 0)
	a := s.join("a")
	inject(t, l, faultHangs, "")
	if frame, err := a.read(); err == nil || websocket.CloseStatus(err) != -1 {
		t.Errorf("read %q, error %v, want the socket cut", frame, err)
	}
	for _, path := range []string{"/", "/health"} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		request := call{method: http.MethodGet, url: s.site.url() + path}.request(t).WithContext(ctx)
		reply, err := client.Do(request)
		if err == nil {
			_ = reply.Body.Close()
			t.Errorf("%s: HTTP %s, want no answer", path, reply.Status)
		}
		if ctx.Err() == nil {
			t.Errorf("%s: %v, want no answer at all", path, err)
		}
		cancel()
	}
	l.at(t, 1).join("b")
	heal(t, l, faultHangs, "")
	s.join("a", "b")
}

func TestSignaling401(t *testing.T) {
	l := startLab(t, Options{NoAgents: true})
	s := l.at(t, 1)
	a := s.join("a")
	inject(t, l, fault401, "signaling-2")
	_, reply, err := websocket.Dial(t.Context(), "ws://"+s.site.address, &websocket.DialOptions{HTTPClient: client})
	if err == nil || reply == nil || reply.StatusCode != http.StatusUnauthorized {
		t.Errorf("dial: %v, reply %v", err, reply)
	}
	a.send(`{"type":"register","agent_id":"a"}`)
	a.expect(`{"type":"registered","agent_id":"a","connected_agents":[]}`)
	l.at(t, 0).join("b", "a")
	a.expect(`{"type":"agent-joined","agent_id":"b"}`)
	heal(t, l, fault401, "signaling-2")
	s.join("c", "a", "b")
}

// The agents of a lab go to the next server, and know each other there.
func TestAgentsFallOver(t *testing.T) {
	l := startLab(t, Options{Agents: 2})
	l.mustBeSteady(t, 0)
	inject(t, l, "signaling-down", "signaling-1")
	eventually(t, "both are on signaling-2", func() error {
		if ids := l.signaling[1].local(); !cmp.Equal(ids, l.Agents) {
			return fmt.Errorf("there: %q", ids)
		}
		return nil
	})
	for _, link := range l.Links() {
		if link.State != wire.StateConnected {
			t.Errorf("link %+v", link)
		}
	}
}
