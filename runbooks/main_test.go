package runbooks

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		os.Exit(child(role))
	}
	goleak.VerifyTestMain(m)
}

const patience = 60 * time.Second // only a failure takes that long

// labs bounds how many labs run at once.
var labs = make(chan struct{}, 3)

func startLab(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	labs <- struct{}{}
	t.Cleanup(func() { <-labs })
	l, err := lab.Start(t.Context(), o)
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

// need skips a test where a real server is missing; CI must have it.
func need(t *testing.T, program string) {
	t.Helper()
	_, err := exec.LookPath(program)
	switch {
	case err != nil && os.Getenv("CI") != "":
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
}

// steadyLab starts a lab in which everybody hears everybody.
func steadyLab(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	l := startLab(t, o)
	mustBeSteady(t, l)
	return l
}

// labWith is a steady lab whose turn-1 has a fault, "" for none, and who works
// on it.
func labWith(t *testing.T, fault string, o lab.Options) (*lab.Lab, *Mesh, *Engine) {
	t.Helper()
	l := steadyLab(t, o)
	if fault != "" {
		inject(t, l, fault, "turn-1")
		mustBeSteady(t, l)
	}
	m := meshOf(t, l)
	return l, m, engineOf(t, m)
}

func mustBeSteady(t *testing.T, l *lab.Lab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := l.Steady(ctx, 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
}

func inject(t *testing.T, l *lab.Lab, name, target string) {
	t.Helper()
	if err := l.Inject(t.Context(), lab.Fault{Name: name, Target: target}); err != nil {
		t.Fatal(err)
	}
}

func heal(t *testing.T, l *lab.Lab, name, target string) {
	t.Helper()
	if err := l.Heal(t.Context(), lab.Fault{Name: name, Target: target}); err != nil {
		t.Fatal(err)
	}
}

// eventually polls a fact.
func eventually(t *testing.T, what string, fact func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !fact() {
		select {
		case <-deadline.C:
			t.Fatalf("not seen in %s: %s", patience, what)
		case <-ticker.C:
		}
	}
}

// testTimings are short enough for tests and long enough for a busy machine.
func testTimings() Timings {
	return Timings{
		Scale: 1, Monitor: 1500 * time.Millisecond, Short: 100 * time.Millisecond, ErrorWindow: 200 * time.Millisecond,
		Delivery: time.Second, StatsMaxAge: 6 * time.Second, StepDeadline: 30 * time.Second, // tests in which a step is to fail shorten it
	}
}

// testThresholds are the defaults, but a busy machine is no slow mesh.
func testThresholds() Thresholds {
	limits := DefaultThresholds()
	for _, ms := range []*float64{
		&limits.DeliveryLatencyWarn, &limits.DeliveryLatencyFail, &limits.RTTDirectWarn, &limits.RTTDirectFail, &limits.RTTRelayWarn, &limits.RTTRelayFail,
		&limits.JitterWarn, &limits.JitterFail,
	} {
		*ms = 60_000
	}
	return limits
}

// meshOf is a lab as a mesh that runbooks work on.
func meshOf(t *testing.T, l *lab.Lab) *Mesh {
	t.Helper()
	m := newMesh(t, l.ControllerURL, l.AdminKey, l.WitnessURL, l.WitnessKey)
	m.EnvFile, m.SignalingURLs, m.RelayOnly = l.EnvFile, []string{l.SignalingURL}, true
	m.TURN = probes.Credentials{Username: l.Username, Password: l.Password}
	m.SignalingStats = client(t, control.Options{Service: "signaling server", URL: l.SignalingHTTPURL})
	return m
}

func newMesh(t *testing.T, controller string, admin secret.Secret, witness string, key secret.Secret) *Mesh {
	t.Helper()
	w, err := witnessclient.New(witnessclient.Options{URL: witness, APIKey: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return &Mesh{
		Name: "test", Loopback: true, Agent: mesh.LabTiming(), Thresholds: testThresholds(), Timings: testTimings(),
		Controller: client(t, control.Options{URL: controller, AdminKey: admin}), Witness: w,
	}
}

func client(t *testing.T, o control.Options) *control.Client {
	t.Helper()
	c, err := control.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func engineOf(t *testing.T, m *Mesh) *Engine {
	t.Helper()
	return &Engine{
		StateDir: filepath.Join(t.TempDir(), "state"), Mesh: m,
		Stamp: witnessclient.Stamp{Operator: "ann@bastion", OperatorSource: "--operator", Host: "bastion", Version: "test"},
	}
}

// anew gives the engine another mesh with nothing behind it, at the same witness.
func anew(t *testing.T, e *Engine) {
	t.Helper()
	m := *e.Mesh
	m.Name = NewRunID()
	e.StateDir, e.Mesh = t.TempDir(), &m
}

// witnessMesh is a mesh without agents, for steps that are made up here; its
// witness is real.
func witnessMesh(t *testing.T, o lab.Options) (*Engine, *lab.Lab) {
	t.Helper()
	o.NoAgents = true
	l := startLab(t, o)
	return engineOf(t, meshOf(t, l)), l
}

func mustRun(t *testing.T, e *Engine, req Request) Result {
	t.Helper()
	result, err := e.Run(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// expect checks how a run ended.
func expect(t *testing.T, r Result, want Outcome) {
	t.Helper()
	if r.Outcome != want {
		t.Fatalf("outcome %s at step %q: %s; want %s\nsteps: %+v\nundo: %+v", r.Outcome, r.FailedStep, r.Reason, want, r.Steps, r.Undo)
	}
}

// journal gives the events of a run, by name, as they are on the disk.
func journal(t *testing.T, e *Engine, run string) (names []string, events []witnessclient.Event) {
	t.Helper()
	contents, err := witnessclient.ReadJournal(journalPath(e.StateDir, run))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range contents.Records {
		if r.IsEvent() {
			names, events = append(names, r.Event.Name), append(events, r.Event)
		} else {
			names = append(names, "note:"+r.Note)
		}
	}
	return names, events
}

// atWitness asks the witness for events of a failover with that name.
func atWitness(t *testing.T, m *Mesh, failover, name string) []witnessclient.Event {
	t.Helper()
	events, err := m.Witness.Query(t.Context(), witnessclient.Query{Match: map[string]any{"failover_id": failover, "event": name}})
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writes are the calls to the lab's controller that may change something.
func writes(l *lab.Lab) []lab.Request {
	var changing []lab.Request
	for _, r := range l.Requests() {
		if r.Write() {
			changing = append(changing, r)
		}
	}
	return changing
}

// script is a controller whose answers the test decides.
type script struct {
	mu       sync.Mutex
	replies  map[string]string // "GET /stats" to the body; missing: 404
	status   map[string]int    // other than 200
	requests []*http.Request
	bodies   []string
	onReload func(s *script, servers []string)
	url      string
}

func newScript(t *testing.T, replies map[string]string) *script {
	t.Helper()
	s := &script{replies: replies, status: map[string]int{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	call := r.Method + " " + r.URL.Path
	var body json.RawMessage
	_ = json.NewDecoder(r.Body).Decode(&body) // some calls have none
	s.requests, s.bodies = append(s.requests, r), append(s.bodies, string(body))
	reply, known := s.replies[call]
	switch {
	case s.status[call] != 0:
		w.WriteHeader(s.status[call])
	case !known:
		w.WriteHeader(http.StatusNotFound)
	case call == "POST /admin/reload-config" && s.onReload != nil:
		var order struct {
			Servers []string `json:"turn_servers"`
		}
		if json.Unmarshal(body, &order) == nil {
			s.onReload(s, order.Servers)
		}
	}
	_, _ = w.Write([]byte(reply))
}

func (s *script) set(call, reply string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies[call] = reply
}

// asked gives the bodies of the calls of that kind.
func (s *script) asked(call string) (bodies []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range s.requests {
		if r.Method+" "+r.URL.Path == call {
			bodies = append(bodies, s.bodies[i])
		}
	}
	return bodies
}

var secretKey = secret.New("test-key")
