package runbooks

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// ownAgents registers agents of another run of meshctl.
func ownAgents(t *testing.T, l *lab.Lab, n int) {
	t.Helper()
	for i := range n {
		a, err := mesh.StartAgent(t.Context(), mesh.AgentOptions{
			ID: fmt.Sprintf("meshctl-X-%d", i+1), SignalingURLs: []string{l.SignalingURL}, TURNServers: []wire.ServerURI{l.TURN[0].URI},
			Username: l.Username, Password: l.Password, RelayOnly: true, Loopback: true, Timing: mesh.LabTiming(),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Close() })
	}
}

func TestAgentsAreCountedWithoutOurOwn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		mesh, own      int
		expected       int
		want           probes.Verdict
		registered     int
		connectionsAre probes.Verdict
	}{
		{"only the mesh", 2, 0, 2, probes.Pass, 2, probes.Pass},
		{"the mesh and ours", 2, 2, 2, probes.Pass, 2, probes.Pass},
		{"fewer than before, and ours", 2, 2, 3, probes.Warn, 2, probes.Pass},
		{"one, and ours", 1, 2, 0, probes.Pass, 1, probes.Unknown},
		{"ours alone", 0, 3, 0, probes.Fail, 0, probes.Unknown},
		{"nobody", 0, 0, 0, probes.Fail, 0, probes.Unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := startLab(t, lab.Options{Agents: tt.mesh, NoAgents: tt.mesh == 0})
			if tt.mesh > 1 {
				mustBeSteady(t, l)
			}
			ownAgents(t, l, tt.own)
			v := &validation{mesh: meshOf(t, l), run: NewRunID(), subject: Subject{facts: turnFacts{Agents: tt.expected}}}
			got := v.agents(t.Context())
			if got.verdict != tt.want || (got.facts["registered_agents"] != tt.registered) {
				t.Errorf("got %+v, want %s", got, tt.want)
			}
			if got := v.connections(t.Context()); got.verdict != tt.connectionsAre {
				t.Errorf("connections: %+v, want %s", got, tt.connectionsAre)
			}
		})
	}
}

// Our agents leave between the count and the question whose they are: the mesh
// is empty all the same.
func TestAgentsThatLeaveMeanwhile(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	for _, counts := range [][2]int{{3, 0}, {3, 1}, {1, 3}} {
		var asked atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, stats(counts[min(asked.Add(1)-1, 1)]))
		}))
		t.Cleanup(server.Close)
		m := meshOf(t, l)
		m.SignalingStats = client(t, control.Options{URL: server.URL})
		v := &validation{mesh: m, run: NewRunID()}
		if n, _, err := v.registered(t.Context(), 0); err != nil || n != min(counts[0], counts[1]) {
			t.Errorf("%v: %d agents, %v", counts, n, err)
		}
	}
}

// Without signaling nobody can say whose the agents are.
func TestAgentsWithoutSignaling(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	r, _ := scripted(t, l, map[string]string{"GET /stats": stats(3)})
	inject(t, l, "signaling-down", "")
	v := &validation{mesh: r.mesh, run: NewRunID()}
	judged(t, v.agents(t.Context()), probes.Unknown, "3 agents are registered, and whose they are is not known")
	judged(t, v.connections(t.Context()), probes.Unknown, "whose they are is not known")
}
