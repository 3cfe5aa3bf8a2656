package runbooks

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

func TestNearestExpiry(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	targets := []wire.ServerURI{{Scheme: "turns", Host: "a", Port: 1}, {Scheme: "turns", Host: "b", Port: 2}}
	report := func(v probes.Verdict, summary, notAfter string) probes.Report {
		return probes.Report{Verdict: v, Findings: []probes.Finding{{Code: "c", Verdict: v, Summary: summary, Facts: []probes.Fact{{Name: "not_after", Value: notAfter}}}}}
	}
	p := nearestExpiry(targets, []probes.Report{report(probes.Pass, "", "2026-03-01T00:00:00Z"), report(probes.Pass, "", "2026-02-01T00:00:00Z")}, now)
	if p.Verdict != probes.Pass || p.Summary != "the nearest to expire is that of b:2, in 31 days" || p.Measured["days_left"] != 31 {
		t.Errorf("%+v", p)
	}
	p = nearestExpiry(targets, []probes.Report{report(probes.Warn, "soon", "2026-01-05T00:00:00Z"), report(probes.Fail, "expired", "2025-12-01T00:00:00Z")}, now)
	if p.Verdict != probes.Fail || p.Summary != "b:2: expired" {
		t.Errorf("%+v", p)
	}
}

func TestCompare(t *testing.T) {
	before := Status{Parts: []Part{
		{Kind: "turn", Name: "a", Verdict: probes.Pass, Facts: map[string]any{}}, {Kind: "turn", Name: "gone", Verdict: probes.Pass},
		{Kind: "agents", Verdict: probes.Pass, Facts: map[string]any{"registered": 3.0, "same": []any{"x"}}, Measured: map[string]float64{"m": 1}},
	}}
	after := Status{Parts: []Part{
		{Kind: "turn", Name: "a", Verdict: probes.Fail, Code: "turn.silent", Summary: "nothing answers"}, {Kind: "turn", Name: "new", Verdict: probes.Warn, Summary: "s"},
		{Kind: "agents", Verdict: probes.Pass, Facts: map[string]any{"registered": 2, "same": []string{"x"}}, Measured: map[string]float64{"m": 2}},
	}}
	want := []Change{
		{Part: "agents", What: "registered", Was: 3.0, Now: 2},
		{Part: "turn a", What: "verdict", Was: "pass", Now: "fail", Why: "nothing answers"},
		{Part: "turn gone", What: "verdict", Was: "pass"},
		{Part: "turn new", What: "verdict", Now: "warn", Why: "s"},
	}
	got := Compare(before, after)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if text := got[1].Text(); text != "pass -> fail (nothing answers)" {
		t.Errorf("text %q", text)
	}
	if text := got[2].Text(); text != "pass -> (not there)" {
		t.Errorf("text %q", text)
	}
}

func TestStatusOfAgents(t *testing.T) {
	server := func(agents int, registry string) signalingAnswer {
		a := signalingAnswer{agents: agents}
		if registry != "" {
			a.registry = &probes.Finding{Code: registry}
		}
		return a
	}
	const shared, separate, unproven = probes.CodeRegistryShared, probes.CodeRegistrySeparate, probes.CodeRegistryUnproven
	for _, tt := range []struct {
		name    string
		servers []signalingAnswer
		verdict probes.Verdict
		said    string
	}{
		{"one", []signalingAnswer{server(2, "")}, probes.Pass, "2 agents"},
		{"shared", []signalingAnswer{server(2, shared), server(2, shared)}, probes.Pass, "2 agents"},
		{"separate", []signalingAnswer{server(2, separate), server(1, separate)}, probes.Pass, "3 agents"},
		{"one of two is dead", []signalingAnswer{server(2, unproven), server(-1, "")}, probes.Pass, "2 agents registered"},
		{"fewer than have links", []signalingAnswer{server(1, "")}, probes.Warn, "1 agent registered, and 2 have links"},
		{"mixed", []signalingAnswer{server(2, shared), server(2, separate), server(1, separate)}, probes.Unknown, "2 or more"},
		{"unproven", []signalingAnswer{server(2, unproven), server(2, unproven)}, probes.Unknown, "2 or more"},
		{"all are dead", []signalingAnswer{server(-1, ""), server(-1, "")}, probes.Unknown, "no signaling server"},
		{"nobody", []signalingAnswer{server(0, shared), server(0, shared)}, probes.Fail, "no agents"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &survey{signaling: func() []signalingAnswer { return tt.servers }}
			s.census = func() (*census, error) { return &census{owners: map[string]bool{"a": true, "b": true}}, nil }
			if p := s.agentsPart(t.Context())[0]; p.Verdict != tt.verdict || !strings.Contains(p.Summary, tt.said) {
				t.Errorf("%s %q, want %s %q", p.Verdict, p.Summary, tt.verdict, tt.said)
			}
		})
	}
}

// A mesh without agents of its own: two agents that have no connection are a
// failure, and a link that fails counts.
func TestStatusOfConnections(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		agents     int
		verdict    probes.Verdict
		said       string
	}{
		{"none, two agents", `{"total_agents":2,"connections":[]}`, 2, probes.Fail, "no connections, with 2 agents"},
		{"none, one agent", `{"total_agents":1,"connections":[]}`, 1, probes.Unknown, "no connections, with 1 agent"},
		{"ours do not count", `{"total_agents":2,"connections":[{"state":"connected","local":"meshctl-x-1"}]}`, 0, probes.Unknown, "no connections"},
		{"half", `{"total_agents":2,"connections":[{"state":"connected","path":"host"},{"state":"failed"}]}`, 2, probes.Fail, "1 of 2 connected (1 host); 1 failed"},
		{"nine of ten", `{"total_agents":2,"connections":[` + strings.Repeat(`{"state":"connected"},`, 9) + `{"state":"new"}]}`, 2, probes.Warn, "9 of 10 connected (9 unsaid); 1 new"},
		{"one of three relayed", links("host", "host", "relay"), 2, probes.Warn, "3 of 3 connected (2 host, 1 relay); 33 % are relayed (limit 20 %)"},
		{"most relayed", links("host", "relay", "relay"), 2, probes.Fail, "67 % are relayed (limit 50 %)"},
		{"paths that are not all said", links("relay", "relay", ""), 2, probes.Pass, "3 of 3 connected (2 relay, 1 unsaid)"},
		{"not JSON", `{"total_agents":2`, 2, probes.Unknown, "no usable statistics"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := serveText(t, tt.body)
			m := &Mesh{Controller: client(t, control.Options{URL: server}), Thresholds: DefaultThresholds()}
			s := &survey{mesh: m, signaling: func() []signalingAnswer { return []signalingAnswer{{agents: tt.agents}} }}
			s.census = func() (*census, error) { return m.takeCensus(t.Context()) }
			s.lists = func() turnLists { return turnLists{fileThere: true} }
			if p := s.connectionsPart(t.Context())[0]; p.Verdict != tt.verdict || !strings.Contains(p.Summary, tt.said) {
				t.Errorf("%s %q, want %s %q", p.Verdict, p.Summary, tt.verdict, tt.said)
			}
			m.RelayOnly = true
			if p := s.connectionsPart(t.Context())[0]; strings.Contains(p.Summary, "are relayed") {
				t.Errorf("in a relay-only mesh: %s", p.Summary)
			}
		})
	}
}

// links are the /stats of connected links over these paths.
func links(paths ...string) string {
	var all []string
	for _, path := range paths {
		all = append(all, fmt.Sprintf(`{"state":"connected","path":%q}`, path))
	}
	return `{"total_agents":2,"connections":[` + strings.ReplaceAll(strings.Join(all, ","), `,"path":""`, "") + `]}`
}

// A mesh that is too large to be read is not called broken.
func TestStatusOfATooLargeMesh(t *testing.T) {
	body := `{"total_agents":9,"connections":[` + strings.Repeat(`{"state":"new"},`, 200_000) + `{"state":"new"}]}`
	m := &Mesh{Controller: client(t, control.Options{URL: serveText(t, body)})}
	s := &survey{mesh: m, census: func() (*census, error) { return m.takeCensus(t.Context()) }}
	if p := s.controllerPart(t.Context())[0]; p.Verdict != probes.Unknown || !strings.Contains(p.Summary, "more than 200000 entries") || p.Hint == "" {
		t.Errorf("%+v", p)
	}
}

func serveText(t *testing.T, body string) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-served })
	return "http://" + listener.Addr().String()
}
