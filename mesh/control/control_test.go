package control

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/secret"
)

// start serves one answer to every call and gives a client and the URL.
func start(t *testing.T, code int, body string) (*Client, string) {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	})
}

func serve(t *testing.T, h http.HandlerFunc) (*Client, string) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c, err := New(Options{URL: server.URL, AdminKey: secret.New("adm-key"), Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, server.URL
}

// as fails the test unless err is of type E.
func as[E error](t *testing.T, err error) E {
	t.Helper()
	var e E
	if !errors.As(err, &e) {
		t.Fatalf("got error %v (%T), want a %T", err, err, e)
	}
	return e
}

// calls are all calls of the client.
func calls(c *Client) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"GET /health": c.Health,
		"GET /stats":  func(ctx context.Context) error { _, err := c.Stats(ctx); return err },
		"GET /config": func(ctx context.Context) error { _, err := c.Config(ctx); return err },
		"GET /agents": func(ctx context.Context) error { _, err := c.Agents(ctx); return err },
		"POST /admin/reload-config": func(ctx context.Context) error {
			return c.ReloadConfig(ctx, "run/1", []string{"turn:t"})
		},
		"POST /admin/reconnect-turn-peers": func(ctx context.Context) error { return c.ReconnectTURNPeers(ctx, "run/2") },
	}
}

// No call takes a wrong answer for a right one.
func TestEveryCallTellsBadAnswers(t *testing.T) {
	for _, tt := range []struct {
		name  string
		code  int
		body  string
		check func(t *testing.T, err error, call string)
	}{
		{"404", 404, "", func(t *testing.T, err error, call string) {
			e := as[*NotOfferedError](t, err)
			if want := "the controller does not offer " + call; !strings.HasSuffix(e.Error(), want) {
				t.Errorf("got %q, want %q", e, want)
			}
		}},
		{"403", 403, `{"error":"wrong key"}`, func(t *testing.T, err error, _ string) {
			if e := as[*StatusError](t, err); e.Code != 403 || e.Detail != "wrong key" {
				t.Errorf("got %v", e)
			}
		}},
		{"503", 503, "", func(t *testing.T, err error, _ string) { as[*StatusError](t, err) }},
		{"login page", 200, "<html>Sign in</html>", func(t *testing.T, err error, _ string) { as[*ReplyError](t, err) }},
		{"error with 200", 200, `{"error":"not now"}`, func(t *testing.T, err error, _ string) { as[*ReplyError](t, err) }},
		{"truncated", 200, `{"status":"ok","conn`, func(t *testing.T, err error, _ string) { as[*ReplyError](t, err) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := start(t, tt.code, tt.body)
			for call, do := range calls(c) {
				t.Run(call, func(t *testing.T) {
					err := do(t.Context())
					tt.check(t, err, call)
					if strings.Contains(err.Error(), "adm-key") {
						t.Errorf("the key is in %q", err)
					}
				})
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	c, err := New(Options{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	server.Close()
	for call, do := range calls(c) {
		e := as[*UnreachableError](t, do(t.Context()))
		if e.Sent || !strings.HasSuffix(e.Error(), ": connection refused") {
			t.Errorf("%s: got %q, sent %v", call, e, e.Sent)
		}
	}
}

func TestSignalingServerIsNamed(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	c, err := New(Options{Service: "signaling server", URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Stats(t.Context())
	if !strings.HasSuffix(err.Error(), "the signaling server does not offer GET /stats") {
		t.Errorf("got %v", err)
	}
	if _, err := New(Options{URL: "ftp://x"}); err == nil || !strings.HasPrefix(err.Error(), "controller: url ") {
		t.Errorf("got %v", err)
	}
}

func TestHealth(t *testing.T) {
	for _, tt := range []struct{ name, body, want string }{
		{"json", `{"status":"ok"}`, ""},
		{"json with more", `{"status":"OK","uptime":3}`, ""},
		{"text", "ok\n", ""},
		{"text in capitals", "OK", ""},
		{"degraded", `{"status":"degraded"}`, `status is "degraded", not "ok"`},
		{"no status", `{}`, "status is missing"},
		{"status true", `{"status":true}`, "status is a JSON boolean, not a string"},
		{"empty", "", "the body is empty"},
		{"another text", "not ok", "not JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := start(t, http.StatusOK, tt.body)
			err := c.Health(t.Context())
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if e := as[*ReplyError](t, err); !strings.Contains(e.Reason, tt.want) {
				t.Errorf("got %q, want %q", e.Reason, tt.want)
			}
		})
	}
}

// answered compares what a call gave, or why its reply is of no use.
func answered(t *testing.T, want any, reason string, got any, err error) {
	t.Helper()
	if reason != "" {
		if e := as[*ReplyError](t, err); e.Reason != reason {
			t.Errorf("got %q, want %q", e.Reason, reason)
		}
	} else if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAgents(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       []string
		err        string
	}{
		{"two", `{"agents":[{"agent_id":"a","since":1},{"agent_id":"b"}]}`, []string{"a", "b"}, ""},
		{"none", `{"agents":[]}`, []string{}, ""},
		{"missing", `{}`, nil, "agents is missing"},
		{"strings", `{"agents":["a"]}`, nil, "agents[0].agent_id is missing"},
		{"no id", `{"agents":[{"agent_id":"a"},{}]}`, nil, "agents[1].agent_id is missing"},
		{"empty id", `{"agents":[{"agent_id":""}]}`, nil, "agents[0].agent_id is empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := start(t, http.StatusOK, tt.body)
			got, err := c.Agents(t.Context())
			answered(t, tt.want, tt.err, got, err)
		})
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       Config
		err        string
	}{
		{"offered", `{"turnFallbackTimeout":5000,"turn_servers":["turn:a","turn:b:1"]}`, Config{[]string{"turn:a", "turn:b:1"}, true}, ""},
		{"offered and empty", `{"turn_servers":[]}`, Config{[]string{}, true}, ""},
		{"not offered", `{"turnFallbackTimeout":5000}`, Config{}, ""},
		{"null", `{"turn_servers":null}`, Config{}, "turn_servers is a JSON null, not an array"},
		{"text", `{"turn_servers":"turn:a"}`, Config{}, "turn_servers is a JSON string, not an array"},
		{"objects", `{"turn_servers":["turn:a",{"urls":"turn:b"}]}`, Config{}, "turn_servers[1] is a JSON object, not a string"},
		{"array", `[]`, Config{}, "a JSON array instead of an object"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := start(t, http.StatusOK, tt.body)
			got, err := c.Config(t.Context())
			answered(t, tt.want, tt.err, got, err)
		})
	}
}

// An order is repeated with the same key and body, and with the bearer.
func TestOrders(t *testing.T) {
	type order struct{ Path, Key, Bearer, Body string }
	var got []order
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, order{r.Method + " " + r.URL.Path, r.Header.Get("Idempotency-Key"), r.Header.Get("Authorization"), string(body)})
		if len(got) == 1 {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	for _, do := range []func() error{
		func() error {
			return c.ReloadConfig(t.Context(), "run/1", []string{"turn:t:3478?transport=udp", "turn:u"})
		},
		func() error { return c.ReloadConfig(t.Context(), "run/2", nil) },
		func() error { return c.ReconnectTURNPeers(t.Context(), "run/3") },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	first := order{"POST /admin/reload-config", "run/1", "Bearer adm-key", `{"turn_servers":["turn:t:3478?transport=udp","turn:u"]}`}
	want := []order{
		first, first,
		{"POST /admin/reload-config", "run/2", "Bearer adm-key", `{"turn_servers":[]}`},
		{"POST /admin/reconnect-turn-peers", "run/3", "Bearer adm-key", ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAcceptedOrders(t *testing.T) {
	for _, body := range []string{"", "ok", "{}", `{"status":"reloaded","error":null}`, `{"error":""}`, `{"error":false}`, `[]`} {
		t.Run(body, func(t *testing.T) {
			c, _ := start(t, http.StatusAccepted, body)
			if err := c.ReconnectTURNPeers(t.Context(), "run/1"); err != nil {
				t.Error(err)
			}
		})
	}
}
