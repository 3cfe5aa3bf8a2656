package sentinel

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/witnessclient"
)

// Somebody is told when healing was given up, also when that fails at first.
func TestPageIsTriedAgain(t *testing.T) {
	var calls atomic.Int64
	s := &Sentinel{counts: newCounts(), recorder: &recorder{}, pages: make(chan witnessclient.Event, 1)}
	s.o.Log = discard()
	told := make(chan witnessclient.Event, 1)
	s.o.Page = func(_ context.Context, e witnessclient.Event) error {
		if calls.Add(1) == 1 {
			return errors.New("no answer")
		}
		told <- e
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.page(ctx) }()
	s.emit(witnessclient.Event{Name: "mesh_healing_attempt"})
	s.emit(witnessclient.Event{Name: "mesh_healing_failed_final", PeerID: "b"})
	select {
	case e := <-told:
		if e.PeerID != "b" {
			t.Errorf("told of %+v", e)
		}
	case <-time.After(30 * time.Second):
		t.Error("nobody was told")
	}
	cancel()
	<-ended
}

// When no TURN server works somebody is paged, once.
func TestCase9NoTURNServerPages(t *testing.T) {
	l := startLab(t, 1)
	o := options(t, l)
	o.Agent.Timing.TURNHealth, o.Agent.Timing.TURNAgain = 50*time.Millisecond, 20*time.Millisecond
	var broken atomic.Bool
	var failures atomic.Int64
	o.Agent.Check = func(context.Context, wire.ServerURI) (time.Duration, error) {
		if !broken.Load() {
			return time.Millisecond, nil
		}
		failures.Add(1)
		return 0, errors.New("the port is closed")
	}
	paged := make(chan witnessclient.Event, 16)
	o.Page = func(_ context.Context, e witnessclient.Event) error { paged <- e; return nil }
	w := start(t, o)
	eventually(t, "it sees", func() error { return w.healthy(http.StatusOK, "ok", "") })
	began := time.Now()
	broken.Store(true)
	select {
	case e := <-paged:
		t.Logf("case 9, no TURN server works: paged %.3f s (expected three checks)", time.Since(began).Seconds())
		if e.Name != "all_turn_servers_unhealthy" || e.Severity != "critical" {
			t.Errorf("paged for %+v", e)
		}
	case <-time.After(60 * time.Second):
		t.Fatalf("nobody was paged: %v", w.metrics())
	}
	eventually(t, "further checks", func() error {
		if n := failures.Load(); n < 30 {
			return fmt.Errorf("%d failures", n)
		}
		return nil
	})
	if n := value(w.metrics(), "meshctl_agent_events_total", "all_turn_servers_unhealthy"); n != 1 || len(paged) > 0 {
		t.Errorf("%v events and %d further pages, want one and none", n, len(paged))
	}
}

// A partition whose healing is given up pages somebody, once for each link.
func TestCase19PartitionPages(t *testing.T) {
	l := startLab(t, 1)
	o := options(t, l)
	o.Agent.Timing.PartitionCheck, o.Agent.Timing.Partition = 50*time.Millisecond, time.Second
	o.Agent.Timing.HealingUnit, o.Agent.Timing.HealingAttempt = time.Millisecond, 100*time.Millisecond
	paged := make(chan witnessclient.Event, 16)
	o.Page = func(_ context.Context, e witnessclient.Event) error { paged <- e; return nil }
	w := start(t, o)
	eventually(t, "it sees", func() error { return w.healthy(http.StatusOK, "ok", "") })
	if err := l.Inject(t.Context(), lab.Fault{Name: "network-cut", Target: "meshctl-sentinel-*<>*"}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	select {
	case e := <-paged:
		t.Logf("case 19, partition without end: paged %.3f s (expected silence of 1 s, then 1.02 s of schedule)", time.Since(began).Seconds())
		if e.Name != "mesh_healing_failed_final" || e.PeerID != "agent-1" {
			t.Errorf("paged for %+v", e)
		}
	case <-time.After(60 * time.Second):
		t.Fatalf("nobody was paged: %v", w.metrics())
	}
	if err := w.healthy(http.StatusServiceUnavailable, "blind", "none of 1 links is connected"); err != nil {
		t.Error(err)
	}
	if n := value(w.metrics(), "webrtc_mesh_healing_failed_total"); n != 1 {
		t.Errorf("%v times given up, not once", n)
	}
}
