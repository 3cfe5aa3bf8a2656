package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/infrafabric/meshctl/witnessclient"
)

// A process that stays tells the configured receivers of every event by
// itself, and knows when nobody was told.
func TestPager(t *testing.T) {
	var got, status atomic.Int32
	status.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		got.Add(1)
		w.WriteHeader(int(status.Load()))
	}))
	defer server.Close()
	a := &app{getenv: func(key string) string { return map[string]string{"HOOK": server.URL + "/CANARY"}[key] }}
	c := defaultConfig()
	c.Notify.Routes = []notifyTarget{{Type: "slack", URLEnv: "HOOK"}}
	page, event := a.pager(c), witnessclient.Event{Name: "mesh_healing_failed_final", AgentID: "agent-1"}
	if err := page(t.Context(), event); err != nil || got.Load() != 1 {
		t.Errorf("page = %v, %d messages, want one", err, got.Load())
	}
	status.Store(http.StatusForbidden)
	if err := page(t.Context(), event); err == nil || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("page to a receiver that refuses = %v", err)
	}
	if err := a.pager(defaultConfig())(t.Context(), event); err != nil {
		t.Errorf("page without receivers = %v, want none", err)
	}
}
