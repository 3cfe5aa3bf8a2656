package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/secret"
)

const token = "tok-5f0c9e"

// start serves h on loopback and gives a client for it.
func start(t *testing.T, h http.HandlerFunc, change func(*Options)) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	o := Options{URL: server.URL, Bearer: secret.New(token)}
	if change != nil {
		change(&o)
	}
	return newClient(t, o)
}

func newClient(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
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

func TestGet(t *testing.T) {
	var got http.Header
	c := start(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		if r.Method != http.MethodGet || r.URL.Path != "/base/stats" {
			t.Errorf("got %s %s", r.Method, r.URL.Path)
		}
		w.Header().Set("Date", "Fri, 02 Jan 2026 03:04:05 GMT")
		_, _ = io.WriteString(w, `{"n":1}`)
	}, func(o *Options) { o.URL += "/base/" })
	reply, err := c.Get(t.Context(), "read stats", "/stats")
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC); !reply.Date.Equal(want) {
		t.Errorf("got date %v, want %v", reply.Date, want)
	}
	if string(reply.Body) != `{"n":1}` || reply.Code != 200 {
		t.Errorf("got reply %d %s", reply.Code, reply.Body)
	}
	if got.Get("Authorization") != "Bearer "+token || got.Get("User-Agent") != "meshctl" {
		t.Errorf("got headers %v", got)
	}
}

func TestGetWithAQuery(t *testing.T) {
	var got string
	c := start(t, func(w http.ResponseWriter, r *http.Request) { got = r.URL.Path + " " + r.URL.Query().Get("query") }, nil)
	if _, err := c.GetQuery(t.Context(), "query", "/api/v1/query", url.Values{"query": {"up==0 ?"}}); err != nil || got != "/api/v1/query up==0 ?" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestPostSendsTheBodyAsItIs(t *testing.T) {
	line := `{"event":"a<b>&c","prev":"00"}`
	var body, key, contentType string
	c := start(t, func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		body, key, contentType = string(raw), r.Header.Get("Idempotency-Key"), r.Header.Get("Content-Type")
		w.WriteHeader(http.StatusNoContent)
	}, nil)
	reply, err := c.Post(t.Context(), "log event", "/api/log", "run/1", json.RawMessage(line), false)
	if err != nil {
		t.Fatal(err)
	}
	if body != line || key != "run/1" || contentType != "application/json" || reply.Code != 204 {
		t.Errorf("got body %s, key %q, type %q, code %d", body, key, contentType, reply.Code)
	}
	if _, err := c.Post(t.Context(), "log event", "/api/log", "", nil, false); err != nil {
		t.Fatal(err)
	}
	if body != "" || key != "" || contentType != "" {
		t.Errorf("no body: got body %s, key %q, type %q", body, key, contentType)
	}
	if _, err := c.Post(t.Context(), "log event", "/api/log", "", make(chan int), false); err == nil {
		t.Error("a body that cannot be encoded was accepted")
	}
}

func TestAttempts(t *testing.T) {
	for _, tt := range []struct {
		name  string
		call  func(context.Context, *Client) error
		codes []int // answered in turn, the last one for ever
		want  int   // attempts
		ok    bool
	}{
		{"get recovers", get, []int{503, 502, 200}, 3, true},
		{"get gives up", get, []int{503}, 3, false},
		{"get, a refusal is final", get, []int{401}, 1, false},
		{"post with key and retry", post("k", true), []int{500, 429, 200}, 3, true},
		{"post without key", post("", true), []int{503}, 1, false},
		{"post without retry", post("k", false), []int{503}, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var keys, bodies []string
			c := start(t, func(w http.ResponseWriter, r *http.Request) {
				raw, _ := io.ReadAll(r.Body)
				keys, bodies = append(keys, r.Header.Get("Idempotency-Key")), append(bodies, string(raw))
				w.WriteHeader(tt.codes[min(len(keys), len(tt.codes))-1])
			}, nil)
			err := tt.call(t.Context(), c)
			if tt.ok != (err == nil) {
				t.Errorf("got error %v", err)
			}
			if err != nil {
				as[*StatusError](t, err)
			}
			if len(keys) != tt.want {
				t.Errorf("got %d attempts, want %d", len(keys), tt.want)
			}
			if len(slices.Compact(keys)) != 1 || len(slices.Compact(bodies)) != 1 {
				t.Errorf("attempts differ: keys %q bodies %q", keys, bodies)
			}
		})
	}
}

func get(ctx context.Context, c *Client) error {
	_, err := c.Get(ctx, "read", "/x")
	return err
}

func post(key string, retry bool) func(context.Context, *Client) error {
	return func(ctx context.Context, c *Client) error {
		_, err := c.Post(ctx, "write", "/x", key, map[string]int{"n": 1}, retry)
		return err
	}
}

// A keep-alive connection that dies under a request makes net/http repeat the
// request by itself when it carries an Idempotency-Key.
func TestOnceIsOnceOnTheWire(t *testing.T) {
	var mu sync.Mutex
	posts := 0
	c := start(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		posts++
		first := posts == 1
		mu.Unlock()
		if !first {
			panic(http.ErrAbortHandler) // closes the connection without an answer
		}
	}, nil)
	if err := post("k", false)(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	e := as[*UnreachableError](t, post("k", false)(t.Context(), c))
	if !e.Sent {
		t.Error("Sent is false, but the server had the request")
	}
	if want := "write " + e.URL + ": connection closed before an answer"; e.Error() != want {
		t.Errorf("got %q, want %q", e, want)
	}
	mu.Lock()
	defer mu.Unlock()
	if posts != 2 {
		t.Errorf("the server saw %d requests, want 2", posts)
	}
}

func TestBadReplies(t *testing.T) {
	for _, tt := range []struct {
		name   string
		handle http.HandlerFunc
		want   string // after "read stats URL: "
	}{
		{"404", answer(404, "nope"), "the controller does not offer GET /stats"},
		{"401 with reason", answer(401, `{"error":"token expired"}`), "HTTP 401 Unauthorized: token expired"},
		{"403 html", answer(403, "<html>\x1b[31mno</html>"), "HTTP 403 Forbidden"},
		{"400 text", answer(400, "bad\x1b[31m\nrequest"), "HTTP 400 Bad Request: bad [31m request"},
		{"the token comes back", answer(400, "your token is "+token+"!"), "HTTP 400 Bad Request: your token is [redacted]!"},
		{"unknown status", answer(799, ""), "HTTP 799"},
		{"too large", answer(200, strings.Repeat("x", 2000)), "unusable reply: larger than the limit of 1000 bytes"},
		{"cut short", cutShort, "unusable reply: cut short after 8 bytes: unexpected EOF"},
		{"empty", answer(200, " "), "unusable reply: the body is empty"},
		{"html", answer(200, "<!doctype html>"), "unusable reply: a page of HTML or XML instead of JSON"},
		{"half", answer(200, `{"a":1,`), `unusable reply: not JSON, or cut short: "{\"a\":1,"`},
		{"the token comes back in no JSON", answer(200, token), `unusable reply: not JSON, or cut short: "[redacted]"`},
		{"the token comes back where the text is cut", answer(200, strings.Repeat("x", 57)+token),
			`unusable reply: not JSON, or cut short: "` + strings.Repeat("x", 57) + `[re..."`},
		{"array", answer(200, `[1]`), "unusable reply: a JSON array instead of an object"},
		{"null", answer(200, `null`), "unusable reply: a JSON null instead of an object"},
		{"deep", answer(200, strings.Repeat("[", 900)), `unusable reply: not JSON, or cut short: "` + strings.Repeat("[", 60) + `..."`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := start(t, tt.handle, func(o *Options) { o.Service, o.MaxBody = "controller", 1000 })
			reply, err := c.Get(t.Context(), "read stats", "/stats")
			if err == nil {
				_, err = reply.Object()
			}
			if err == nil {
				t.Fatal("no error")
			}
			if want := "read stats " + c.base.String() + "/stats: " + tt.want; err.Error() != want {
				t.Errorf("got  %q\nwant %q", err, want)
			}
		})
	}
}

func answer(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func cutShort(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "100")
	_, _ = io.WriteString(w, `{"total_`)
}

// Deeply nested JSON must not overflow the stack of the process.
func TestObjectOfHostileDepth(t *testing.T) {
	if _, err := Object([]byte(strings.Repeat("[", 20<<20))); err == nil {
		t.Error("no error")
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer other.Close()
	c := start(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+"/login?session=s3", http.StatusFound)
	}, nil)
	for _, call := range []func(context.Context, *Client) error{get, post("k", true)} {
		e := as[*StatusError](t, call(t.Context(), c))
		if want := "redirects to " + other.URL + "/login, which is not followed"; e.Code != 302 || e.Detail != want {
			t.Errorf("got %d %q, want 302 %q", e.Code, e.Detail, want)
		}
	}
	if reached {
		t.Error("the redirect was followed")
	}
}

func TestUnreachable(t *testing.T) {
	silent := listen(t)
	closed := listen(t)
	_ = closed.Close()
	for _, tt := range []struct {
		name, url string
		want      string // pattern
		sent      bool
	}{
		{"nobody answers", "http://" + silent.Addr().String(), `^read http://127\.0\.0\.1:\d+/x: no answer after \d\.\ds$`, true},
		{"handshake hangs", "https://" + silent.Addr().String(), `: no answer to the connection attempt after \d\.\ds$`, false},
		{"refused", "http://" + closed.Addr().String(), `: connection refused$`, false},
		{"no such name", "http://controller.invalid", `: name lookup: `, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, Options{URL: tt.url, Timeout: 300 * time.Millisecond})
			e := as[*UnreachableError](t, get(t.Context(), c))
			if !regexp.MustCompile(tt.want).MatchString(e.Error()) {
				t.Errorf("got %q, want %s", e, tt.want)
			}
			if e.Sent != tt.sent {
				t.Errorf("got Sent %v, want %v", e.Sent, tt.sent)
			}
		})
	}
}

// listen gives a listener whose connections are never answered.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestBodyStalls(t *testing.T) {
	c := start(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"a":`)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, func(o *Options) { o.Timeout = 300 * time.Millisecond })
	e := as[*UnreachableError](t, get(t.Context(), c))
	if !strings.Contains(e.Error(), ": no answer after ") || !errors.Is(e, context.DeadlineExceeded) {
		t.Errorf("got %q", e)
	}
}

func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := start(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}, nil)
	err := get(ctx, c)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled in it", err)
	}
	if e := as[*UnreachableError](t, err); !strings.Contains(e.Error(), ": stopped after ") {
		t.Errorf("got %q", e)
	}
}

// A certificate that is not trusted is named, and a CA file adds trust.
func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(answer(200, `{}`))
	server.Config.ErrorLog = nil
	server.StartTLS()
	defer server.Close()
	c := newClient(t, Options{URL: server.URL})
	e := as[*UnreachableError](t, get(t.Context(), c))
	if !strings.Contains(e.Error(), ": certificate not accepted: x509: ") || e.Sent {
		t.Errorf("got %q, sent %v", e, e.Sent)
	}
	trusting := newClient(t, Options{URL: server.URL, CAFile: writeCA(t, server.Certificate())})
	if err := get(t.Context(), trusting); err != nil {
		t.Errorf("with the CA file: %v", err)
	}
}

func TestReplyHoldsNoSecret(t *testing.T) {
	c := start(t, answer(200, `{"echo":"Bearer `+token+`"}`), nil)
	reply, err := c.Get(t.Context(), "read", "/x")
	if err != nil || string(reply.Body) != `{"echo":"Bearer [redacted]"}` {
		t.Errorf("got %s, %v", reply.Body, err)
	}
	short := start(t, answer(200, `{"a":"a"}`), func(o *Options) { o.Bearer = secret.New("a") })
	if reply, err := short.Get(t.Context(), "read", "/x"); err != nil || string(reply.Body) != `{"a":"a"}` {
		t.Errorf("a token of one letter: got %s, %v", reply.Body, err)
	}
}

func TestErrorsPrintNoSecret(t *testing.T) {
	c := start(t, answer(500, token), nil)
	err := get(t.Context(), c)
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", as[*StatusError](t, err)), fmt.Sprintf("%+v", c.options)} {
		if strings.Contains(text, token) {
			t.Errorf("the token is in %q", text)
		}
	}
}
