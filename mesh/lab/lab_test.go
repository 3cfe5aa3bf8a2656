package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/witnessclient"
)

const patience = 60 * time.Second // of tests: only a failure takes that long

// startLab starts a lab that ends with the test.
func startLab(t *testing.T, o Options) *Lab {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	l, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// need finds a real program, or skips the test; CI must have it.
func need(t *testing.T, program string) (path string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if program == "nginx" {
		path, err = NginxPath()
	}
	switch {
	case err != nil && os.Getenv("CI") != "":
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
	return path
}

func (l *Lab) mustBeSteady(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := l.Steady(ctx, d); err != nil {
		t.Fatal(err)
	}
}

// eventually polls a fact.
func eventually(t *testing.T, what string, fact func() error) {
	t.Helper()
	if err := poll(t.Context(), patience, fact); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func inject(t *testing.T, l *Lab, name, target string) {
	t.Helper()
	if err := l.Inject(t.Context(), Fault{Name: name, Target: target}); err != nil {
		t.Fatal(err)
	}
}

func heal(t *testing.T, l *Lab, name, target string) {
	t.Helper()
	if err := l.Heal(t.Context(), Fault{Name: name, Target: target}); err != nil {
		t.Fatal(err)
	}
}

// allOn tells whether every link is connected through one TURN server.
func (l *Lab) allOn(server wire.ServerURI) error {
	links := l.Links()
	if want := len(l.Agents) * (len(l.Agents) - 1); len(links) != want {
		return fmt.Errorf("%d links, not %d", len(links), want)
	}
	for _, link := range links {
		if relay, known := link.Relay(); link.State != wire.StateConnected || !known || relay != server.String() {
			return fmt.Errorf("%s to %s is %s on %q", link.Local, link.Peer, link.State, relay)
		}
	}
	return nil
}

func (l *Lab) admin(t *testing.T) *control.Client {
	t.Helper()
	c, err := control.New(control.Options{URL: l.ControllerURL, AdminKey: l.AdminKey})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestMeshLosesItsTURNServer(t *testing.T) {
	for _, backend := range []string{"pion", "coturn"} {
		t.Run(backend, func(t *testing.T) {
			if backend == "coturn" {
				need(t, "turnserver")
			}
			l := startLab(t, Options{TURN: backend, Agents: 3})
			l.mustBeSteady(t, 200*time.Millisecond)
			for _, fault := range []string{"turn-killed", "turn-silent"} {
				t.Run(fault, func(t *testing.T) { losesTURN(t, l, fault) })
			}
			if c := l.Delivery(); c.Duplicated > 0 || c.Corrupt > 0 || c.Received == 0 || c.Sent < c.Received {
				t.Errorf("delivery %+v", c)
			}
		})
	}
}

// losesTURN breaks the first server and brings it back into use.
func losesTURN(t *testing.T, l *Lab, fault string) {
	l.useFirst(t)
	broken := time.Now()
	inject(t, l, fault, "turn-1")
	eventually(t, "all links on turn-2", func() error { return l.allOn(l.TURN[1].URI) })
	l.mustBeSteady(t, 200*time.Millisecond)
	checkOutages(t, l, broken)
	heal(t, l, fault, "turn-1")
	admin := l.admin(t)
	if err := admin.ReloadConfig(t.Context(), "", texts(l.fleet.TURNServers())); err != nil {
		t.Fatal(err)
	}
	if err := admin.ReconnectTURNPeers(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all links on turn-1 again", func() error { return l.allOn(l.TURN[0].URI) })
	l.mustBeSteady(t, 0)
}

// checkOutages wants every direction to have been cut for as long as ICE needs
// to notice, and to be back.
func checkOutages(t *testing.T, l *Lab, since time.Time) {
	t.Helper()
	outages := l.Outages(since)
	if len(outages) != len(l.Agents)*(len(l.Agents)-1) {
		t.Errorf("%d directions", len(outages))
	}
	for _, o := range outages {
		if !o.Recovered || o.Outage <= 0 || o.FirstAfter.Sub(o.LastBefore) != o.Outage || !o.FirstAfter.After(since) {
			t.Errorf("%+v", o)
		}
	}
}

func TestMeshMovesToTheSpareServer(t *testing.T) {
	l := startLab(t, Options{Agents: 3, Agent: unhurried})
	l.mustBeSteady(t, 200*time.Millisecond)
	admin, spare := l.admin(t), l.TURN[2].URI
	list := []string{spare.String(), l.TURN[1].URI.String()}
	if err := admin.ReloadConfig(t.Context(), "R1/1", list); err != nil {
		t.Fatal(err)
	}
	config, err := admin.Config(t.Context())
	if diff := cmp.Diff(control.Config{TURNServers: list, Offered: true}, config); err != nil || diff != "" {
		t.Fatalf("error %v, %s", err, diff)
	}
	if err := admin.ReconnectTURNPeers(t.Context(), "R1/2"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all links on turn-3", func() error { return l.allOn(spare) })
	l.mustBeSteady(t, 100*time.Millisecond)
	stats, err := admin.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if stats.TotalAgents != 3 || len(stats.Connections) != 6 {
		t.Errorf("stats: %d agents and %d connections", stats.TotalAgents, len(stats.Connections))
	}
	l.mustHaveEvents(t, "turn_connection_detected", spare.String())
	if c := l.Delivery(); c.Duplicated > 0 {
		t.Errorf("delivery %+v", c)
	}
	inject(t, l, "agent-gone", "agent-1")
	heal(t, l, "agent-gone", "agent-1")
	eventually(t, "a new agent uses turn-3 too", func() error { return l.allOn(spare) })
	// A new agent may get again what the one before it did not acknowledge.
	if c := l.Delivery(); c.Corrupt > 0 {
		t.Errorf("delivery %+v", c)
	}
	var keys []string
	for _, r := range l.Requests() {
		if r.Write() {
			keys = append(keys, r.Path+" "+r.Key)
		}
	}
	if diff := cmp.Diff([]string{"/admin/reload-config R1/1", "/admin/reconnect-turn-peers R1/2"}, keys); diff != "" {
		t.Error(diff)
	}
}

// mustHaveEvents asks the witness for events that name a TURN server.
func (l *Lab) mustHaveEvents(t *testing.T, name, server string) {
	t.Helper()
	c, err := witnessclient.New(witnessclient.Options{URL: l.WitnessURL, APIKey: l.WitnessKey})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	events, err := c.Query(t.Context(), witnessclient.Query{
		Match: map[string]any{"event": name, "metadata.turn_server": server}, From: "-5m", To: "now",
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(events) == 0 {
		t.Errorf("no %s for %s", name, server)
	}
}

func TestSeedOnly(t *testing.T) {
	l := startLab(t, Options{Agents: 2, SeedOnly: true})
	l.mustBeSteady(t, 0)
	const want = `{"total_agents":2,"connections":[{"state":"connected"},{"state":"connected"}]}`
	for _, url := range []string{l.ControllerURL, l.SignalingHTTPURL} {
		status, body := get(t, url+"/stats")
		if diff := cmp.Diff(parsed(t, want), parsed(t, body)); status != 200 || diff != "" {
			t.Errorf("%s/stats: HTTP %d %s", url, status, diff)
		}
	}
	admin := l.admin(t)
	var notOffered *control.NotOfferedError
	if _, err := admin.Config(t.Context()); !errors.As(err, &notOffered) {
		t.Errorf("config: %v", err)
	}
	if err := admin.ReloadConfig(t.Context(), "", []string{l.TURN[2].URI.String()}); err != nil {
		t.Fatal(err)
	}
	if err := admin.ReconnectTURNPeers(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all links on turn-3", func() error { return l.allOn(l.TURN[2].URI) })
}

func TestStartRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		options Options
		want    string
	}{
		{"too many agents", Options{Agents: 31}, "31 agents"},
		{"negative agents", Options{Agents: -1}, "-1 agents"},
		{"unknown TURN server", Options{TURN: "rfc5766"}, "neither pion nor coturn"},
		{"too much traffic", Options{TrafficInterval: time.Millisecond}, "less than"},
		{"a directory that is a file", Options{Dir: file, NoAgents: true}, "not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := Start(t.Context(), tt.options)
			if l != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestClose(t *testing.T) {
	ends := []struct {
		name string
		end  func(l *Lab, cancel context.CancelFunc)
	}{
		{"by Close", func(l *Lab, _ context.CancelFunc) { _ = l.Close() }},
		{"by its context", func(_ *Lab, cancel context.CancelFunc) { cancel() }},
	}
	for _, tt := range ends {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			l, err := Start(ctx, Options{Agents: 2})
			if err != nil {
				t.Fatal(err)
			}
			tt.end(l, cancel)
			eventually(t, "the directory is gone", func() error {
				if _, err := os.Stat(l.Dir); !errors.Is(err, os.ErrNotExist) {
					return fmt.Errorf("%s is still there", l.Dir)
				}
				return nil
			})
			if err := l.Close(); err != nil {
				t.Errorf("close again: %v", err)
			}
			for _, url := range []string{l.ControllerURL, l.SignalingHTTPURL, l.WitnessURL, l.ControlURL} {
				if err := (call{method: http.MethodGet, url: url}).fails(t); !refused(err) {
					t.Errorf("%s: %v, want connection refused", url, err)
				}
			}
			if err := l.Inject(t.Context(), Fault{Name: "turn-killed"}); !errors.Is(err, errClosed) {
				t.Errorf("inject: %v", err)
			}
			if err := l.Steady(t.Context(), 0); err == nil {
				t.Error("a closed lab is steady")
			}
		})
	}
}

func TestCloseKeepsAGivenDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lab")
	need(t, "turnserver")
	l := startLab(t, Options{Dir: dir, NoAgents: true, TURN: "coturn"})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{"webrtc-production.env", "witness.jsonl"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestSteadySaysWhatIsMissing(t *testing.T) {
	l := startLab(t, Options{Agents: 2})
	inject(t, l, "agent-gone", "agent-2")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := l.Steady(ctx, 0)
	if err == nil || !strings.Contains(err.Error(), "agent-1 to agent-2: not connected") || !strings.HasPrefix(err.Error(), "mesh not steady after") {
		t.Errorf("error %v", err)
	}
}
