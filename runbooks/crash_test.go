package runbooks

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/lab"
)

// crashEvery is at which boundaries these tests kill: at every nth, 1 with
// MESHCTL_CRASH=1 (make crash), where every fifth run is killed again in its
// resume. Without it they take a sample of the engine, and none of the runbooks.
func crashEvery() (nth int, all bool) {
	nth, err := strconv.Atoi(os.Getenv("MESHCTL_CRASH"))
	return nth, err == nil && nth > 0
}

// gate stands before a server, counts what may change something, and knows
// when nothing is under way any more: what a killed process has sent may still
// arrive after its end.
type gate struct {
	*httptest.Server
	mu    sync.Mutex
	open  map[net.Conn]bool
	byKey map[string]int // raw requests that may change something
}

func newGate(t *testing.T, h http.Handler) *gate {
	t.Helper()
	g := &gate{open: map[net.Conn]bool{}, byKey: map[string]int{}}
	g.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == gatePing {
			return
		}
		if key := r.Header.Get("Idempotency-Key"); r.Method == http.MethodPost && key != "" {
			g.mu.Lock()
			g.byKey[key]++
			g.mu.Unlock()
		}
		h.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context()))) // what has begun ends, whoever died
	}))
	g.Config.ConnState = func(c net.Conn, state http.ConnState) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.open[c] = true
		if state == http.StateClosed || state == http.StateHijacked {
			delete(g.open, c)
		}
	}
	g.Start()
	t.Cleanup(g.Close)
	return g
}

func before(t *testing.T, server string) *gate {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{DisableKeepAlives: true}
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	return newGate(t, proxy)
}

const gatePing = "/gate-ping"

// settle waits until everything that was sent before has been answered. Its own
// connection is accepted after all of a process that has died.
func (g *gate) settle(t *testing.T) {
	t.Helper()
	if _, err := call(t.Context(), http.MethodGet, g.URL+gatePing, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no connection is open", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.open) == 0
	})
}

// take gives the requests by key since the last time.
func (g *gate) take() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	taken := g.byKey
	g.byKey = map[string]int{}
	return taken
}

// crashSite is what a runbook is carried out on, again and again.
type crashSite struct {
	order            crashOrder
	effects, witness *gate  // of the first, every effect is one request
	reset            func() // makes the effects undone again
	want             int    // effects of a whole run
	engine           *Engine
}

// tally is what make crash prints.
type tally struct{ boundaries, kills, effects, events int }

// process runs the order in a process of its own; false: it was killed.
func (s *crashSite) process(t *testing.T, killAt int, run string) (crashReport, bool) {
	t.Helper()
	order := s.order
	order.KillAt, order.Run = killAt, run
	data, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	cmd := childProcess(t, "crash", order.StateDir, order.Witness)
	cmd.Env = append(cmd.Env, childCrash+"="+string(data))
	out, err := cmd.Output()
	for _, g := range []*gate{s.effects, s.witness} {
		g.settle(t)
	}
	if exit, ok := err.(*exec.ExitError); ok && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL { //nolint:errorlint // as Output gives it
		return crashReport{}, false
	}
	var report crashReport
	if err != nil || json.Unmarshal(out, &report) != nil {
		t.Fatalf("killed at %d, run %q: %v\n%s", killAt, run, err, out)
	}
	return report, true
}

// unfinished is the run to resume; "" when a new one has to begin or all is done.
func (s *crashSite) unfinished(t *testing.T) (run string, done bool) {
	t.Helper()
	runs, err := Runs(s.order.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		switch {
		case r.Damage != "":
			t.Fatalf("damaged: %+v", r)
		case r.Unfinished():
			return r.Run, false
		case r.Changes:
			done = true
		}
	}
	return "", done
}

// killAndEnd kills a run at one boundary and its resume at another (0: not),
// resumes until all is done, and checks the whole. It gives false when the run
// ended before the boundary.
func (s *crashSite) killAndEnd(t *testing.T, first, second int, sum *tally) bool {
	t.Helper()
	s.reset()
	s.order.StateDir = t.TempDir()
	s.engine.StateDir = s.order.StateDir
	s.effects.take()
	s.witness.take()
	report, lived := s.process(t, first, "")
	if !lived {
		sum.kills++
	}
	for attempt := 0; ; attempt++ {
		run, done := s.unfinished(t)
		if done {
			break
		}
		if attempt == 5 {
			t.Fatalf("killed at %d and %d: never ends: %+v", first, second, report)
		}
		s.decide(t, run, report)
		killAt := 0
		if attempt == 0 {
			killAt = second
		}
		var ended bool
		if report, ended = s.process(t, killAt, run); !ended {
			sum.kills++
		} else if report.Outcome != Done && report.InDoubt == "" {
			t.Fatalf("killed at %d and %d: %+v", first, second, report)
		}
	}
	s.check(t, first, second, sum)
	return !lived
}

// decide does what a human would: look at the server, and say what is there.
func (s *crashSite) decide(t *testing.T, run string, report crashReport) {
	t.Helper()
	if report.InDoubt == "" {
		return
	}
	s.effects.mu.Lock()
	done := s.effects.byKey[run+"/"+report.InDoubt] > 0
	s.effects.mu.Unlock()
	if err := s.engine.Decide(run, report.InDoubt, done, "looked at the server"); err != nil {
		t.Fatal(err)
	}
}

// check: every effect once by raw requests, no event lost, none twice.
func (s *crashSite) check(t *testing.T, first, second int, sum *tally) {
	t.Helper()
	if flushed, err := s.engine.Flush(t.Context()); err != nil || flushed.Left != 0 {
		t.Errorf("killed at %d and %d: %+v, %v", first, second, flushed, err)
	}
	effects := s.effects.take()
	for key, n := range effects {
		if n != 1 {
			t.Errorf("killed at %d and %d: %s was requested %d times", first, second, key, n)
		}
	}
	if s.want >= 0 && len(effects) != s.want {
		t.Errorf("killed at %d and %d: effects %v, want %d", first, second, effects, s.want)
	}
	posted, events := s.witness.take(), 0
	for key, n := range posted {
		if n != 1 {
			t.Errorf("killed at %d and %d: event %s was posted %d times", first, second, key, n)
		}
	}
	evidence, err := s.engine.VerifyEvidence(t.Context(), nil, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range evidence {
		events += v.Events
		if v.Witness == nil || !v.Witness.OK() {
			t.Errorf("killed at %d and %d: %s, %+v", first, second, v.Summary, v.Witness)
		}
	}
	if events != len(posted) {
		t.Errorf("killed at %d and %d: %d events in the journals, %d posted", first, second, events, len(posted))
	}
	sum.effects, sum.events = sum.effects+len(effects), sum.events+events
}

// everyBoundary kills at every nth boundary until a run gets through. Of the
// kills again, some take their turn, or all are made.
func (s *crashSite) everyBoundary(t *testing.T, nth int, again, all bool) {
	t.Helper()
	var sum tally
	for at := 1; s.killAndEnd(t, at, 0, &sum); at += nth {
		sum.boundaries = at
		switch {
		case !again || at%5 != 0:
		case all:
			for second := 1; second <= at+20; second += 5 {
				s.killAndEnd(t, at, second, &sum)
			}
		default:
			s.killAndEnd(t, at, 1+(at*7)%60, &sum)
		}
	}
	t.Logf("%s: %d boundaries, %d kills, %d effects, %d events", s.order.Runbook, sum.boundaries, sum.kills, sum.effects, sum.events)
}

// TestCrashEngine: every kind of step, killed wherever something can be lost.
func TestCrashEngine(t *testing.T) {
	t.Parallel()
	l := startLab(t, lab.Options{NoAgents: true, NoDedup: true})
	var mu sync.Mutex
	on := map[string]bool{}
	effects := newGate(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodPost {
			on[r.URL.Path] = true
		}
		state := "off"
		if on[r.URL.Path] {
			state = "on"
		}
		_, _ = w.Write([]byte(state))
	}))
	site := newCrashSite(t, l, effects, switchboardName, nil)
	site.want = 3
	site.reset = func() {
		mu.Lock()
		defer mu.Unlock()
		clear(on)
	}
	nth, all := crashEvery()
	if !all {
		nth = 6
	}
	site.everyBoundary(t, nth, all, true)
}

func newCrashSite(t *testing.T, l *lab.Lab, effects *gate, runbook string, params any) *crashSite {
	t.Helper()
	raw, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	controller, witness := before(t, l.ControllerURL), before(t, l.WitnessURL)
	if effects == nil {
		effects = controller
	}
	s := &crashSite{effects: effects, witness: witness, order: crashOrder{
		Runbook: runbook, Params: raw, Effects: effects.URL, Controller: controller.URL, AdminKey: l.AdminKey.Reveal(),
		Witness: witness.URL, WitnessKey: l.WitnessKey.Reveal(), Signaling: l.SignalingURL, Username: l.Username, Password: l.Password.Reveal(), EnvFile: l.EnvFile,
	}}
	s.engine, err = s.order.engine(&bomb{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.engine.Mesh.Witness.Close)
	t.Cleanup(s.engine.Mesh.Controller.Close)
	return s
}

const crashMonitor = 300 * time.Millisecond

// crashCase is on what a runbook can be crashed: a fault, params, and how many
// requests a whole run makes (-1: that depends on where agents are).
type crashCase struct {
	fault  string
	params func(l *lab.Lab) any
	want   int
}

var crashCases = map[string]crashCase{
	TurnRecoverName: {"turn-killed", func(l *lab.Lab) any {
		return TurnRecoverParams{Failed: l.TURN[0].URI.Address(), Replacement: l.TURN[2].URI.String(), Monitor: crashMonitor}
	}, 1},
	TurnDrainName: {"", func(l *lab.Lab) any {
		return TurnMoveParams{Server: l.TURN[0].URI.Address(), Monitor: crashMonitor}
	}, -1},
	TurnRestoreName: {"", func(l *lab.Lab) any {
		return TurnMoveParams{Server: l.TURN[2].URI.String(), New: true, Monitor: crashMonitor}
	}, -1},
	MeshAdaptName: {"", func(*lab.Lab) any { return MeshAdaptParams{Bandwidth: control.Bandwidth{Mbps: 50}} }, 1},
}

// TestCrashRunbooks: the same with the runbooks there are, on a whole mesh.
func TestCrashRunbooks(t *testing.T) {
	for _, rb := range All() {
		t.Run(strings.ReplaceAll(rb.Name, " ", "-"), func(t *testing.T) {
			nth, all := crashEvery()
			if !all {
				t.Skip("takes minutes: make crash")
			}
			c, known := crashCases[rb.Name]
			if !known {
				t.Fatalf("nobody has said on what %s can be crashed", rb.Name)
			}
			l := steadyLab(t, lab.Options{Agents: 2, NoDedup: true})
			if c.fault != "" {
				inject(t, l, c.fault, "turn-1")
				mustBeSteady(t, l)
			}
			site := newCrashSite(t, l, nil, rb.Name, c.params(l))
			site.want = c.want
			env, servers := readFile(t, l.EnvFile), configured(t, meshOf(t, l))
			direct := client(t, control.Options{URL: l.ControllerURL, AdminKey: l.AdminKey})
			site.reset = func() {
				writeFile(t, l.EnvFile, env)
				err := errors.Join(
					direct.ReloadConfig(t.Context(), NewRunID(), servers), direct.SetBandwidth(t.Context(), NewRunID(), control.Bandwidth{}),
				)
				if err != nil {
					t.Fatal(err)
				}
			}
			site.everyBoundary(t, nth, true, false)
		})
	}
}
