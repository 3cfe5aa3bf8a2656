package lab

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// client makes a new connection for every call and leaves none open.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// call is one HTTP request of a test.
type call struct {
	method, url, body string
	bearer, key       string
}

func (c call) request(t *testing.T) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), c.method, c.url, strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	if c.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	if c.key != "" {
		r.Header.Set("Idempotency-Key", c.key)
	}
	return r
}

// do gives the status and body of the reply.
func (c call) do(t *testing.T) (int, string) {
	t.Helper()
	reply, err := client.Do(c.request(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reply.Body.Close() }()
	body, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode, string(body)
}

// fails gives the error of a call that gets no reply.
func (c call) fails(t *testing.T) error {
	t.Helper()
	reply, err := client.Do(c.request(t))
	if err == nil {
		_ = reply.Body.Close()
		t.Fatalf("%s %s: HTTP %s, want no reply", c.method, c.url, reply.Status)
	}
	return err
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	return call{method: http.MethodGet, url: url}.do(t)
}

// openTestSite serves a handler for the length of a test.
func openTestSite(t *testing.T, handler http.Handler) *site {
	t.Helper()
	s, err := openSite(handler)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.down(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSiteGoesAndComesBack(t *testing.T) {
	entered := make(chan struct{})
	var left atomic.Bool
	s := openTestSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			close(entered)
			<-r.Context().Done()
			<-time.After(20 * time.Millisecond)
			left.Store(true)
			return
		}
		writeOK(w)
	}))
	url := s.url()
	waiting := make(chan error, 1)
	running := call{method: http.MethodGet, url: url + "/wait"}.request(t)
	go func() {
		reply, err := client.Do(running)
		if err == nil {
			_ = reply.Body.Close()
		}
		waiting <- err
	}()
	<-entered
	if err := s.down(); err != nil {
		t.Fatal(err)
	}
	if !left.Load() {
		t.Error("a request outlives the site")
	}
	if err := <-waiting; err == nil {
		t.Error("a running request survived")
	}
	if err := (call{method: http.MethodGet, url: url}).fails(t); !refused(err) {
		t.Errorf("while down: %v, want connection refused", err)
	}
	if err := s.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.url() != url {
		t.Errorf("came back as %s, was %s", s.url(), url)
	}
	if status, _ := get(t, url); status != http.StatusOK {
		t.Errorf("back: HTTP %d", status)
	}
}

func TestSiteWhosePortIsTaken(t *testing.T) {
	s := openTestSite(t, http.NotFoundHandler())
	if err := s.down(); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp4", s.address)
	if err != nil {
		t.Fatal(err)
	}
	back := make(chan error, 1)
	go func() { back <- s.up(t.Context()) }()
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-back; err != nil {
		t.Error(err)
	}
}
