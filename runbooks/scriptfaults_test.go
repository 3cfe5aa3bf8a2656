package runbooks

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks/targets"
	"github.com/infrafabric/meshctl/witnessclient"
)

// Each test here puts back one fault of the shell scripts that meshctl
// replaces, and wants the right answer instead.

// The script printed SUCCESSFUL when the delivery test failed, when no audit
// event of the failover existed, and when under 80 % were connected.
func TestScriptFault01SuccessWithoutDeliveryAuditOrConnections(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	r, _ := scripted(t, l, map[string]string{
		"GET /stats": stats(3, append(repeated(7, "connected"), repeated(3, "failed")...)...),
	})
	v := &validation{mesh: r.mesh, run: "V", subject: Subject{FailoverID: "NEVER-LOGGED"}}
	for name, got := range map[string]answer{
		"delivery": judgeDelivery(mesh.DeliveryResult{Pairs: []mesh.PairResult{{From: "a", To: "b", Error: "no path"}}}, testThresholds()),
		"audit":    v.audit(t.Context()), "connections": v.connections(t.Context()),
	} {
		if got.verdict != probes.Fail {
			t.Errorf("%s: %+v, want fail", name, got)
		}
		whole := overall([]CheckResult{{Verdict: probes.Pass, Required: true}, {Verdict: got.verdict, Required: true}})
		if whole != probes.Fail {
			t.Errorf("with %s failed the whole is %s", name, whole)
		}
	}
}

// queryWitness is a witness that takes notes of queries and answers as told.
func queryWitness(t *testing.T, status int, reply string) (*witnessclient.Client, func() []*http.Request, func() []string) {
	t.Helper()
	var mu sync.Mutex
	var requests []*http.Request
	var bodies []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		requests, bodies = append(requests, r), append(bodies, string(body))
		mu.Unlock()
		w.WriteHeader(status)
		_, _ = io.WriteString(w, reply)
	}))
	t.Cleanup(server.Close)
	c, err := witnessclient.New(witnessclient.Options{URL: server.URL, APIKey: secretKey})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, func() []*http.Request { mu.Lock(); defer mu.Unlock(); return requests },
		func() []string { mu.Lock(); defer mu.Unlock(); return bodies }
}

// A syntax error made the script ask for the time "-m", and a refused query
// counted as no errors.
func TestScriptFault02ErrorTrendIsMalformedAndRefusedQueryIsZero(t *testing.T) {
	t.Parallel()
	client, _, bodies := queryWitness(t, http.StatusBadRequest, `{"error":"bad time"}`)
	v := &validation{mesh: &Mesh{Witness: client, Timings: testTimings(), Thresholds: testThresholds()}}
	if got := v.errors(t.Context()); got.verdict != probes.Unknown {
		t.Errorf("a refused query: %+v, want unknown", got)
	}
	var query struct {
		Query map[string]any               `json:"query"`
		Range struct{ From, To time.Time } `json:"time_range"`
	}
	if err := json.Unmarshal([]byte(bodies()[0]), &query); err != nil {
		t.Fatalf("%v: %s", err, bodies()[0])
	}
	if window := query.Range.To.Sub(query.Range.From); window != errorWindows*v.mesh.Timings.ErrorWindow {
		t.Errorf("asked for %s: %s", window, bodies()[0])
	}
}

func TestErrorTrend(t *testing.T) {
	for _, tt := range []struct {
		name   string
		counts [errorWindows]int
		want   probes.Verdict
	}{
		{"quiet", [3]int{0, 0, 0}, probes.Pass},
		{"falling", [3]int{9, 5, 1}, probes.Pass},
		{"gone", [3]int{50, 50, 0}, probes.Pass},
		{"steady", [3]int{2, 2, 2}, probes.Warn},
		{"rose once", [3]int{5, 1, 2}, probes.Warn},
		{"rising twice", [3]int{0, 1, 2}, probes.Fail},
		{"many in the newest", [3]int{90, 50, 11}, probes.Fail},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := judgeErrors(tt.counts, 10, time.Minute); got.verdict != tt.want {
				t.Errorf("got %+v, want %s", got, tt.want)
			}
		})
	}
}

// An unreachable /stats left the counters empty and the script went on; no
// connections at all passed.
func TestScriptFault03UnreachableStatsAndNoConnectionsPass(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for _, tt := range []struct {
		name, stats string
		want        probes.Verdict
	}{
		{"no connections of three agents", stats(3), probes.Fail},
		{"no connections of one agent", stats(1), probes.Unknown},
		{"a page", "<html>503</html>", probes.Unknown},
		{"cut short", `{"total_agents":3,"connections":[{"sta`, probes.Unknown},
		{"an error", `{"error":"x"}`, probes.Unknown},
		{"a number as text", `{"total_agents":"3","connections":[]}`, probes.Unknown},
		{"79 %", stats(9, append(repeated(79, "connected"), repeated(21, "failed")...)...), probes.Fail},
		{"80 %", stats(9, append(repeated(80, "connected"), repeated(20, "failed")...)...), probes.Warn},
		{"95 %", stats(9, append(repeated(95, "connected"), repeated(5, "failed")...)...), probes.Pass},
		{"only our own", stats(2, conn("meshctl-X-1", "meshctl-X-2", "connected", "")), probes.Fail},
		{"unreachable", "", probes.Unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := scripted(t, l, map[string]string{"GET /stats": tt.stats})
			if tt.stats == "" {
				r.mesh.Controller = client(t, control.Options{URL: gone.URL})
			}
			v := &validation{mesh: r.mesh}
			if got := v.connections(t.Context()); got.verdict != tt.want {
				t.Errorf("got %+v, want %s", got, tt.want)
			}
		})
	}
}

// The replacement was tried with a STUN client; nothing was allocated.
func TestScriptFault05ReplacementAnswersOnlySTUN(t *testing.T) {
	t.Parallel()
	l := startLab(t, lab.Options{NoAgents: true})
	m := meshOf(t, l)
	inject(t, l, "turn-killed", "turn-1")
	inject(t, l, "turn-refuses-allocate", "turn-3")
	if binding := (probes.STUN{Target: l.TURN[2].URI}).Run(t.Context()); binding.Verdict != probes.Pass {
		t.Fatalf("the replacement does not even answer STUN: %+v", binding)
	}
	env := readFile(t, l.EnvFile)
	result := mustRun(t, engineOf(t, m), Request{Recovery: turnRecovery(t, m, l, "turn-3")})
	expect(t, result, Refused)
	if !strings.Contains(result.Reason, "is not proved to relay") {
		t.Errorf("reason: %s", result.Reason)
	}
	unchanged(t, l, env, 0)
}

// sed replaced the name in comments and inside other names too.
func TestScriptFault06SedEditsCommentsAndOtherHosts(t *testing.T) {
	const before = `# turn1.example.com is our oldest relay
TURN_SERVERS=turn:turn1.example.com:3478,turn:myturn1.example.com:3478,turn:turn1.example.com.au:3478 # turn1.example.com first
STUN_SERVERS='stun:turn1.example.com'
NOTE=turn1.example.com
`
	const want = `# turn1.example.com is our oldest relay
TURN_SERVERS=turn:turn9.example.com:3478,turn:myturn1.example.com:3478,turn:turn1.example.com.au:3478 # turn1.example.com first
STUN_SERVERS='stun:turn9.example.com'
NOTE=turn1.example.com
`
	path := t.TempDir() + "/env"
	writeFile(t, path, before)
	f, err := targets.ReadEnvFile(path)
	if err != nil {
		t.Fatal(err)
	}
	replacement, err := wire.ParseServerURI("turn:turn9.example.com")
	if err != nil {
		t.Fatal(err)
	}
	r := &turnRecover{mesh: &Mesh{EnvFile: path}, params: TurnRecoverParams{Failed: "turn1.example.com"}, replacement: replacement}
	r.edit = r.replaceFailed
	if err := r.applyEnv(t.Context(), "", Observation{Match: f.Hash()}); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, path); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The reload's body held "...", no status was looked at, queries carried no
// bearer, and the admin token went over plain http.
func TestScriptFault07ReloadIsNoJSONAndNobodyLooksAtTheStatus(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	r, s := scripted(t, l, map[string]string{"POST /admin/reload-config": `{"status":"ok"}`})
	if err := r.applyReload(t.Context(), "RUN/reload-config", Observation{}); err != nil {
		t.Fatal(err)
	}
	var body struct {
		Servers []string `json:"turn_servers"`
	}
	sent := s.asked("POST /admin/reload-config")[0]
	if err := json.Unmarshal([]byte(sent), &body); err != nil || !slices.Equal(body.Servers, r.facts.ServersAfter) {
		t.Errorf("sent %s: %v", sent, err)
	}
	s.status["POST /admin/reload-config"] = http.StatusForbidden
	if err := r.applyReload(t.Context(), "RUN/reload-config", Observation{}); err == nil {
		t.Error("403 was taken for a yes")
	}
	client, requests, _ := queryWitness(t, http.StatusOK, `{"results":[]}`)
	if _, err := client.Query(t.Context(), witnessclient.Query{From: "-5m", To: "now"}); err != nil {
		t.Fatal(err)
	}
	if got := requests()[0].Header.Get("Authorization"); got != "Bearer "+secretKey.Reveal() {
		t.Errorf("the query carried %q", got)
	}
	if _, err := control.New(control.Options{URL: "http://webrtc.example.com:8443", AdminKey: secret.New("k")}); err == nil {
		t.Error("the admin token may travel over plain http")
	}
}

// The monitoring loop only printed: ten failed connections or a thousand ended
// in the same "complete".
func TestScriptFault08MonitoringOnlyPrints(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	for name, failed := range map[string]int{"eleven": 11, "a thousand": 1000} {
		t.Run(name, func(t *testing.T) {
			r, _ := scripted(t, l, map[string]string{
				"GET /stats": stats(500, append(repeated(90_000/(1+failed%2), "connected"), repeated(failed, "failed")...)...),
			})
			e := engineOf(t, r.mesh)
			anew(t, e)
			watch := &Watch{Every: 10 * time.Millisecond, For: 50 * time.Millisecond, NeedInARow: 3, Sample: r.sample}
			result := mustRun(t, e, Request{Recovery: fakeRecovery(Step{
				ID: "monitor", Effect: ReadOnly, After: true, Timeout: patience, Watch: watch,
			})})
			expect(t, result, Failed)
			if events := atWitness(t, r.mesh, result.FailoverID, completion); len(events) != 0 {
				t.Errorf("completed: %+v", events)
			}
		})
	}
}

// "No peers are using the replacement" was a warning.
func TestScriptFault09NobodyOnTheReplacementIsAWarning(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	failed, other, spare := l.TURN[0].URI.String(), l.TURN[1].URI.String(), l.TURN[2].URI.String()
	for _, tt := range []struct {
		name  string
		stats string
		users []string
		met   bool
	}{
		{"all moved, one to the replacement", stats(2, conn("a", "b", "connected", spare), conn("b", "a", "connected", other)), []string{"a->b", "b->a"}, true},
		{"all moved, none to the replacement", stats(2, conn("a", "b", "connected", other), conn("b", "a", "connected", other)), []string{"a->b", "b->a"}, false},
		{"one not connected", stats(2, conn("a", "b", "connected", spare), conn("b", "a", "failed", spare)), []string{"a->b", "b->a"}, false},
		{"one gone", stats(2, conn("a", "b", "connected", spare)), []string{"a->b", "b->a"}, false},
		{"one still there", stats(2, conn("a", "b", "connected", spare), conn("b", "a", "connected", failed)), []string{"a->b", "b->a"}, false},
		{"nobody was using it", stats(2, conn("a", "b", "connected", other)), nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := scripted(t, l, map[string]string{"GET /stats": tt.stats})
			r.facts.Users = tt.users
			o, err := r.observeUse(t.Context())
			if err != nil || o.Met != tt.met || o.Blind != "" {
				t.Errorf("got %+v, %v; want met %v", o, err, tt.met)
			}
		})
	}
}

// The audit event was posted once, at the end, unchecked; the operator was
// whatever whoami said.
func TestScriptFault12AuditIsPostedOnceUnchecked(t *testing.T) {
	t.Parallel()
	e, l := witnessMesh(t, lab.Options{NoDedup: true})
	inject(t, l, "witness-loses-reply", "")
	result := mustRun(t, e, Request{Recovery: fakeRecovery((&lamp{}).step("lamp"))})
	expect(t, result, Done)
	if result.Audit.Delivered != result.Audit.Events {
		t.Fatalf("audit %+v", result.Audit)
	}
	for key, n := range l.WitnessCount().ByKey {
		if n != 1 {
			t.Errorf("%s was posted %d times", key, n)
		}
	}
	events := atWitness(t, e.Mesh, result.FailoverID, completion)
	if len(events) != 1 {
		t.Fatalf("%d completion events", len(events))
	}
	for key, want := range map[string]string{"operator": "ann@bastion", "operator_source": "--operator", "host": "bastion"} {
		if got := events[0].Metadata[key]; got != want {
			t.Errorf("%s is %v, want %s", key, got, want)
		}
	}
}

// Agents that meshctl itself put there do not make an empty mesh green.
func TestEmptyMeshWithOurOwnAgents(t *testing.T) {
	t.Parallel()
	l := startLab(t, lab.Options{NoAgents: true})
	m := meshOf(t, l)
	for _, id := range []string{"meshctl-X-1", "meshctl-X-2", "meshctl-X-3"} {
		a, err := mesh.StartAgent(t.Context(), mesh.AgentOptions{
			ID: id, SignalingURLs: m.SignalingURLs, TURNServers: []wire.ServerURI{l.TURN[0].URI}, Username: l.Username, Password: l.Password,
			RelayOnly: true, Loopback: true, Timing: m.Agent,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Close() })
	}
	v, err := engineOf(t, m).Validate(context.Background(), ValidateRequest{Scenario: "A", Phase: PhaseImmediate})
	if err != nil {
		t.Fatal(err)
	}
	if v.Verdict != probes.Fail || v.Checks[0].ID != "agents" || v.Checks[0].Verdict != probes.Fail {
		t.Errorf("verdict %s, agents %+v", v.Verdict, v.Checks[0])
	}
}
