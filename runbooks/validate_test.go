package runbooks

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

func mustValidate(t *testing.T, e *Engine, req ValidateRequest) Validation {
	t.Helper()
	req.Scenario = "A"
	v, err := e.Validate(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// verdicts are those of the checks, by id.
func verdicts(v Validation) map[string]probes.Verdict {
	all := map[string]probes.Verdict{}
	for _, c := range v.Checks {
		all[c.ID] = c.Verdict
	}
	return all
}

// After a recovery that worked, every fault put into the mesh turns the
// validation, and healing it turns it back.
func TestValidateFaults(t *testing.T) {
	t.Parallel()
	l, m, e := labWith(t, "turn-killed", lab.Options{Agents: 3})
	result := mustRun(t, e, Request{Recovery: turnRecovery(t, m, l, "turn-3")})
	expect(t, result, Done)
	good := readFile(t, l.EnvFile)
	for _, tt := range []struct {
		name, fault, target string
		do, undo            func()
		fails, unknown      []string // of the checks
		want                probes.Verdict
	}{
		{name: "nothing is wrong", want: probes.Pass},
		{name: "an agent is gone", fault: "agent-gone", target: "agent-1", fails: []string{"links.baseline"}, want: probes.Fail},
		{name: "the replacement refuses", fault: "turn-refuses-allocate", target: "turn-3", fails: []string{"turn.replacement"}, want: probes.Fail},
		{name: "the replacement is dead", fault: "turn-killed", target: "turn-3", fails: []string{"turn.replacement"}, want: probes.Fail},
		{
			name: "the failed server is in the file again", fails: []string{"turn.configuration"}, want: probes.Fail,
			do: func() {
				writeFile(t, l.EnvFile, strings.Replace(good, "TURN_SERVERS=\"", "TURN_SERVERS=\""+uriOf(l, "turn-1")+",", 1))
			},
			undo: func() { writeFile(t, l.EnvFile, good) },
		},
		{
			name: "the controller gives the failed server again", fails: []string{"turn.configuration"}, want: probes.Fail,
			do: func() { reload(t, m, uriOf(l, "turn-3"), uriOf(l, "turn-2"), uriOf(l, "turn-1")) }, undo: func() { reload(t, m, uriOf(l, "turn-3"), uriOf(l, "turn-2")) },
		},
		{name: "controller is down", fault: "controller-down", unknown: []string{"connections", "links.baseline", "turn.configuration", "turn.unused"}, want: probes.Unknown},
		{name: "controller with a page", fault: "controller-html", unknown: []string{"connections", "links.baseline", "turn.configuration", "turn.unused"}, want: probes.Unknown},
		{name: "controller cut short", fault: "controller-truncated", unknown: []string{"connections", "links.baseline", "turn.configuration", "turn.unused"}, want: probes.Unknown},
		{name: "controller with wrong types", fault: "controller-wrong-types", unknown: []string{"connections", "links.baseline", "turn.configuration", "turn.unused"}, want: probes.Unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.fault != "" {
				inject(t, l, tt.fault, tt.target)
				defer mustBeSteady(t, l)
				defer heal(t, l, tt.fault, tt.target)
			}
			if tt.do != nil {
				tt.do()
				defer tt.undo()
			}
			if tt.fault == "agent-gone" { // the others notice in their own time
				eventually(t, "the links of the agent that is gone", func() bool { return !connectedTo(l, tt.target) })
			}
			v := mustValidate(t, e, ValidateRequest{Phase: PhaseImmediate})
			wantVerdict(t, v, probes.Fail, tt.fails)
			wantVerdict(t, v, probes.Unknown, tt.unknown)
			if v.Verdict != tt.want || v.FailoverID != result.FailoverID {
				t.Errorf("verdict %s, want %s: %+v", v.Verdict, tt.want, v.Checks)
			}
		})
	}
	t.Run("events", func(t *testing.T) {
		passed, failed := atWitness(t, m, result.FailoverID, "failover_recovery_validated"), atWitness(t, m, result.FailoverID, "failover_recovery_failed")
		if len(passed) != 1 || len(failed) != 5 {
			t.Fatalf("%d validated and %d failed; an unknown verdict is neither", len(passed), len(failed))
		}
		if diff := cmp.Diff([]any{"immediate"}, passed[0].Metadata["phases"]); diff != "" || passed[0].Metrics["registered_agents"] != 3.0 || passed[0].Scenario != "A" {
			t.Errorf("event %+v\n%s", passed[0], diff)
		}
	})
	t.Run("no TURN server works", func(t *testing.T) {
		for _, target := range []string{"turn-2", "turn-3"} {
			inject(t, l, "turn-killed", target)
		}
		got := verdicts(mustValidate(t, e, ValidateRequest{Phase: PhaseShort}))
		if got["delivery"] != probes.Fail {
			t.Errorf("delivery: %s", got["delivery"])
		}
	})
}

func wantVerdict(t *testing.T, v Validation, want probes.Verdict, checks []string) {
	t.Helper()
	got := verdicts(v)
	for _, id := range checks {
		if got[id] != want {
			t.Errorf("%s: %s, want %s", id, got[id], want)
		}
	}
}

func reload(t *testing.T, m *Mesh, servers ...string) {
	t.Helper()
	if err := m.Controller.ReloadConfig(t.Context(), NewRunID(), servers); err != nil {
		t.Error(err)
	}
}

func connectedTo(l *lab.Lab, agent string) bool {
	for _, link := range l.Links() {
		if link.State == wire.StateConnected && (link.Local == agent || link.Peer == agent) {
			return true
		}
	}
	return false
}

// On a mesh that has only what the oldest servers offer, a healthy mesh never
// fails, and what it does not show never passes.
func TestValidateSeedOnlyMesh(t *testing.T) {
	t.Parallel()
	l := steadyLab(t, lab.Options{Agents: 2, SeedOnly: true})
	m := meshOf(t, l)
	v := mustValidate(t, engineOf(t, m), ValidateRequest{Phase: PhaseAll})
	want := map[string]probes.Verdict{
		"agents": probes.Pass, "connections": probes.Pass, "delivery": probes.Pass, "errors": probes.Pass,
		"links.baseline": probes.Unknown, "latency": probes.Unknown, "audit": probes.Unknown,
		"turn.configuration": probes.Unknown, "turn.unused": probes.Unknown, "turn.replacement": probes.Unknown,
	}
	if diff := cmp.Diff(want, verdicts(v)); diff != "" || v.Verdict != probes.Unknown {
		t.Errorf("verdict %s\n%s", v.Verdict, diff)
	}

	inject(t, l, "turn-killed", "turn-1")
	mustBeSteady(t, l)
	e := engineOf(t, m)
	expect(t, mustRun(t, e, Request{Recovery: turnRecovery(t, m, l, "turn-3")}), Done)
	mustBeSteady(t, l)
	v = mustValidate(t, e, ValidateRequest{Phase: PhaseAll})
	maps.Copy(want, map[string]probes.Verdict{
		"audit": probes.Pass, "turn.configuration": probes.Pass, "turn.unused": probes.Pass, "turn.replacement": probes.Pass,
	})
	if diff := cmp.Diff(want, verdicts(v)); diff != "" || v.Verdict != probes.Unknown {
		t.Errorf("after the recovery: verdict %s\n%s", v.Verdict, diff)
	}
}

// A recovery is found by its journal, else at the witness; one that cannot be
// found leaves unknown what needs it, and a wrong id fails the audit.
func TestValidateFindsTheRecovery(t *testing.T) {
	t.Parallel()
	l, m, e := labWith(t, "turn-killed", lab.Options{Agents: 2})
	short := func(e *Engine, failover string) Validation {
		return mustValidate(t, e, ValidateRequest{Phase: PhaseShort, FailoverID: failover})
	}
	if got := verdicts(short(e, ""))["audit"]; got != probes.Unknown {
		t.Errorf("no recovery yet: audit %s", got)
	}
	expect(t, mustRun(t, e, Request{Recovery: turnRecovery(t, m, l, "turn-3"), FailoverID: "fo-1"}), Done)
	for _, tt := range []struct {
		name, failover string
		engine         *Engine
		want           probes.Verdict
		found          string
	}{
		{"the last one", "", e, probes.Pass, "fo-1"},
		{"by its id", "fo-1", e, probes.Pass, "fo-1"},
		{"a wrong id", "fo-2", e, probes.Fail, "fo-2"},
		{"from another machine by its id", "fo-1", engineOf(t, m), probes.Pass, "fo-1"},
		{"from another machine without", "", engineOf(t, m), probes.Unknown, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := short(tt.engine, tt.failover)
			if got := verdicts(v)["audit"]; got != tt.want || v.FailoverID != tt.found {
				t.Errorf("audit %s of %q, want %s of %q", got, v.FailoverID, tt.want, tt.found)
			}
		})
	}
	subject := engineOf(t, m).findSubject(t.Context(), "A", "fo-1")
	if !subject.known || subject.facts.Failed != l.TURN[0].URI.Address() || len(subject.facts.Baseline) != 2 || subject.EndedAt.IsZero() {
		t.Errorf("from the witness: %+v", subject)
	}
	if v := verdicts(mustValidate(t, engineOf(t, m), ValidateRequest{Phase: PhaseImmediate, FailoverID: "fo-1"})); v["turn.configuration"] != probes.Pass || v["links.baseline"] != probes.Pass {
		t.Errorf("from another machine: %v", v)
	}
}

// A failed or refused run is no recovery to validate.
func TestOnlyFinishedRecoveriesAreValidated(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	result := mustRun(t, e, Request{Recovery: fakeRecovery((&lamp{}).step("one"), readOnly("check", Observation{}, nil)), UndoOnFailure: true})
	expect(t, result, Undone)
	if s := e.findSubject(t.Context(), "A", ""); s.FailoverID != "" || s.known {
		t.Errorf("found %+v", s)
	}
	done := mustRun(t, e, Request{Recovery: fakeRecovery()})
	if s := e.findSubject(t.Context(), "A", ""); s.FailoverID != done.Run || !s.known {
		t.Errorf("found %+v", s)
	}
	if s := e.findSubject(t.Context(), "B", ""); s.FailoverID != "" {
		t.Errorf("found %+v for another scenario", s)
	}
}

func TestValidateWithoutWitness(t *testing.T) {
	t.Parallel()
	e, l := witnessMesh(t, lab.Options{})
	inject(t, l, "witness-down", "")
	v := mustValidate(t, e, ValidateRequest{Phase: PhaseStability})
	if v.Verdict != probes.Unknown || v.Audit.Delivered != 0 || v.Audit.Events != 2 {
		t.Errorf("verdict %s, audit %+v", v.Verdict, v.Audit)
	}
	heal(t, l, "witness-down", "")
	if flushed, err := e.Flush(t.Context()); err != nil || flushed.Sent != 2 {
		t.Errorf("flushed %+v, %v", flushed, err)
	}
	exactlyOnce(t, l, e, v.Run)
}

func TestValidateRequests(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	var param *ParamError
	for _, req := range []ValidateRequest{{Scenario: "B", Phase: PhaseAll}, {Scenario: "A", Phase: "soon"}, {Scenario: "A"}} {
		if _, err := e.Validate(t.Context(), req); !errors.As(err, &param) {
			t.Errorf("%+v: got error %v", req, err)
		}
	}
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	v, err := e.Validate(ctx, ValidateRequest{Scenario: "A", Phase: PhaseAll})
	if err != nil || v.Verdict != probes.Unknown && v.Verdict != probes.Fail {
		t.Errorf("interrupted: %s, %v", v.Verdict, err)
	}
	if names, _ := journal(t, e, v.Run); names[len(names)-1] != "note:interrupted" {
		t.Errorf("events %v", names)
	}
	expect(t, mustRun(t, e, Request{Recovery: fakeRecovery()}), Done) // no validation is in the way
}

// A phase is judged when its time has come, and not before.
func TestPhases(t *testing.T) {
	timings := DefaultTimings()
	for _, tt := range []struct {
		phase string
		due   time.Duration
	}{
		{PhaseImmediate, 0}, {PhaseShort, time.Minute}, {PhaseStability, 15 * time.Minute},
	} {
		t.Run(tt.phase, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := &validation{engine: &Engine{}, mesh: &Mesh{Timings: timings}, subject: Subject{EndedAt: time.Now()}}
				v.noWait = true
				if early := v.awaitPhase(t.Context(), tt.phase); (early == "") != (tt.due == 0) {
					t.Errorf("without waiting: %q", early)
				}
				v.noWait = false
				begun := time.Now()
				if early := v.awaitPhase(t.Context(), tt.phase); early != "" || time.Since(begun) < tt.due || time.Since(begun) > tt.due+5*time.Second {
					t.Errorf("waited %s: %q", time.Since(begun), early)
				}
				v.noWait = true
				if early := v.awaitPhase(t.Context(), tt.phase); early != "" {
					t.Errorf("after its time: %q", early)
				}
			})
		})
	}
	t.Run("not waited for", func(t *testing.T) {
		e, _ := witnessMesh(t, lab.Options{})
		subject := NewSubject("fo", "t1", []string{"a->b"}, time.Now().Add(time.Hour))
		v := mustValidate(t, e, ValidateRequest{Phase: PhaseAll, NoWait: true, Subject: subject})
		if v.Verdict != probes.Unknown || len(v.Checks) != 10 {
			t.Errorf("verdict %s of %d checks", v.Verdict, len(v.Checks))
		}
		for _, c := range v.Checks {
			if c.Verdict != probes.Unknown || !strings.Contains(c.Summary, "phase begins in") {
				t.Errorf("%+v", c)
			}
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
			defer cancel()
			v := &validation{engine: &Engine{}, mesh: &Mesh{Timings: timings}, subject: Subject{EndedAt: time.Now()}}
			if early := v.awaitPhase(ctx, PhaseShort); early != "interrupted before the short phase" {
				t.Errorf("got %q", early)
			}
		})
	})
}

func TestOverall(t *testing.T) {
	for _, tt := range []struct {
		name   string
		checks []CheckResult
		want   probes.Verdict
	}{
		{"none", nil, probes.Unknown},
		{"all pass", []CheckResult{{Verdict: probes.Pass}, {Verdict: probes.Pass}}, probes.Pass},
		{"one warns", []CheckResult{{Verdict: probes.Pass}, {Verdict: probes.Warn}}, probes.Warn},
		{"one required is unknown", []CheckResult{{Verdict: probes.Warn}, {Verdict: probes.Unknown, Required: true}}, probes.Unknown},
		{"one optional is unknown", []CheckResult{{Verdict: probes.Pass}, {Verdict: probes.Unknown}}, probes.Pass},
		{"all optional and unknown", []CheckResult{{Verdict: probes.Unknown}}, probes.Unknown},
		{"one fails", []CheckResult{{Verdict: probes.Unknown, Required: true}, {Verdict: probes.Fail}}, probes.Fail},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := overall(tt.checks); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
