package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/witnessclient"
)

// herd registers agents that only hold a socket: they link to nobody.
func herd(t *testing.T, l *Lab, size int, r *recorder) {
	t.Helper()
	var agents []*mesh.Agent
	t.Cleanup(func() {
		var closing sync.WaitGroup
		for _, a := range agents {
			closing.Go(func() { _ = a.Close() })
		}
		closing.Wait()
	})
	for i := range size {
		a, err := mesh.StartAgent(t.Context(), mesh.AgentOptions{
			ID: fmt.Sprintf("meshctl-HERD-%d", i+1), SignalingURLs: []string{l.SignalingURL}, Passive: true, Loopback: true, Emit: r.add,
		})
		if err != nil {
			t.Fatal(err)
		}
		agents = append(agents, a)
	}
}

// again tells whether so many agents have registered since a time, and that
// signaling knows them all now.
func (r *recorder) again(l *Lab, since time.Time, agents int) error {
	ids := map[string]bool{}
	for _, e := range r.after(since, "agent_registered") {
		ids[e.AgentID] = true
	}
	if n := len(l.registered()); len(ids) != agents || n != agents {
		return fmt.Errorf("%d agents registered again, %d are known", len(ids), n)
	}
	return nil
}

// peak is the largest number of events within one window.
func peak(events []witnessclient.Event, window time.Duration) int {
	var times []time.Time
	for _, e := range events {
		times = append(times, e.Timestamp)
	}
	slices.SortFunc(times, time.Time.Compare)
	most, first := 0, 0
	for i, at := range times {
		for at.Sub(times[first]) >= window {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// A hundred WebSockets are cut in one moment. All
// come back, none tries again and again, and no link notices.
func TestCase16NginxReloads(t *testing.T) {
	need(t, "nginx")
	const size = 97
	var r recorder
	o := patientLab(&r)
	o.LB = "nginx"
	l := startLab(t, o)
	herd(t, l, size, &r)
	l.mustBeSteady(t, 200*time.Millisecond)
	before, all := created(l), size+len(l.Agents)
	if n := len(l.signaling[0].local()); n != all {
		t.Errorf("%d agents at the primary, not %d", n, all)
	}
	broken := time.Now()
	inject(t, l, "nginx-reload", "")
	eventually(t, "all registered again", func() error { return r.again(l, broken, all) })
	lost, back := r.after(broken, "signaling_connection_lost"), r.after(broken, "signaling_connected")
	failed := r.after(broken, "signaling_connection_failed")
	cut, last := lost[0].Timestamp, back[len(back)-1].Timestamp
	report(t, 16, fmt.Sprintf("nginx-reload of %d WebSockets, at most %d back per 100 ms, %d failed attempts", all, peak(back, 100*time.Millisecond), len(failed)),
		cut.Sub(broken), last.Sub(cut), "cut after 1 s, then spread over 0.25 s")
	if attempts := len(back) + len(failed); attempts > 3*all {
		t.Errorf("%d attempts of %d agents", attempts, all)
	}
	heal(t, l, "nginx-reload", "")
	l.mustBeSteady(t, 200*time.Millisecond)
	if after := created(l); after != before {
		t.Errorf("links were touched:\n%s\n%s", before, after)
	}
	intact(t, l)
}

// The primary behind nginx ends: agents are at a backup by the same address.
func TestNginxTakesABackup(t *testing.T) {
	need(t, "nginx")
	var r recorder
	o := patientLab(&r)
	o.LB, o.Agents = "nginx", 2
	l := startLab(t, o)
	l.mustBeSteady(t, 200*time.Millisecond)
	for _, command := range [][]string{l.Balancer.Test, l.Balancer.Reload} {
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%q: %v: %s", command, err, out)
		}
	}
	broken := time.Now()
	inject(t, l, "signaling-down", "signaling-1")
	eventually(t, "all at a backup", func() error {
		if n := len(l.signaling[1].local()) + len(l.signaling[2].local()); n != 2 {
			return fmt.Errorf("%d agents", n)
		}
		return nil
	})
	t.Logf("at a backup after %s", time.Since(broken))
	heal(t, l, "signaling-down", "signaling-1")
	intact(t, l)
}

// Its workers end with it.
func TestNginxIsGoneAfterClose(t *testing.T) {
	need(t, "nginx")
	l := startLab(t, Options{NoAgents: true, LB: "nginx"})
	inject(t, l, "nginx-reload", "")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(t.Context(), l.Balancer.HTTPURL+"/health"); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after Close: %v", err)
	}
}
