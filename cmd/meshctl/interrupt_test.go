package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The first ^C lets a running change finish, the second one does not wait for
// it. What the journal has is enough to go on.
func TestSecondInterruptExitsAtOnce(t *testing.T) {
	t.Parallel()
	l, env := terminalLab(t)
	controller := newSlowReload(t, l.Controller)
	config, err := os.ReadFile(l.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.Config, bytes.ReplaceAll(config, []byte(l.Controller), []byte(controller.URL)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := onTerminal(t, env, "turn", "recover", "--failed", address(l.TURN[0]), "--replacement", l.Spare, "--monitor", "1s", "--yes")
	if !poll(func() bool { return closed(controller.reached) }) {
		t.Fatalf("no change was begun:\n%s", s.stdout.String())
	}
	if !poll(func() bool { _, _ = io.WriteString(s.tty, "\x03"); return s.exited() }) { // the terminal may be gone
		t.Fatal("still there")
	}
	shown := s.ends(t, exitInterrupted)
	journals, err := filepath.Glob(filepath.Join(l.Dir, "state", "lab", "runs", "*.jsonl"))
	if err != nil || len(journals) != 1 {
		t.Fatalf("journals: %v, %v", journals, err)
	}
	journal, err := os.ReadFile(journals[0])
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(journal, []byte("interrupted")) || strings.Contains(shown, "runs resume") {
		t.Errorf("it waited for the change to end:\n%s", shown)
	}
	close(controller.release)
	run := strings.TrimSuffix(filepath.Base(journals[0]), ".jsonl")
	onTerminal(t, env, "runs", "resume", run).ends(t, exitOK)
	onTerminal(t, env, "witness", "verify", run).ends(t, exitOK)
}

// slowReload stands before a controller: reloads do not get through until
// release is closed.
type slowReload struct {
	*httptest.Server
	reached, release chan struct{}
}

func newSlowReload(t *testing.T, controller string) *slowReload {
	t.Helper()
	target, err := url.Parse(controller)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{DisableKeepAlives: true}
	s := &slowReload{reached: make(chan struct{}), release: make(chan struct{})}
	var once sync.Once
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/admin/reload-config" || closed(s.release) {
			proxy.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // else the end of the client is not noticed
		once.Do(func() { close(s.reached) })
		select {
		case <-s.release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
