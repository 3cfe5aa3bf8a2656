package runbooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

// A run leaves a whole record: every intent before its outcome, the completion
// only when all is done, and everything at the witness.
func TestRunIsRecorded(t *testing.T) {
	t.Parallel()
	e, l := witnessMesh(t, lab.Options{})
	first, second := &lamp{}, &lamp{}
	var notes []string
	e.Notify = func(n Note) { notes = append(notes, n.Step) }
	result := mustRun(t, e, Request{
		Recovery: fakeRecovery(first.step("one"), second.step("two"), readOnly("see", Observation{Met: true, Summary: "seen"}, nil)),
		Reason:   "because", IncidentID: "INC-7",
	})
	expect(t, result, Done)
	if first.applied != 1 || second.applied != 1 || first.keys[0] != result.Run+"/one" {
		t.Errorf("applied %d and %d times, keys %v", first.applied, second.applied, first.keys)
	}
	names, events := journal(t, e, result.Run)
	want := []string{
		"run_started", "run_step_intent", "run_step_done", "run_step_intent", "run_step_done", "run_step_done", completion, "run_finished",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	for _, event := range events {
		if event.FailoverID != result.Run || event.IncidentID != "INC-7" || event.Scenario != "A" || event.Metadata["operator"] != "ann@bastion" || event.Metadata["host"] != "bastion" {
			t.Errorf("event %s is not stamped: %+v", event.Name, event)
		}
	}
	if events[0].Metadata["reason"] != "because" || events[7].Metadata["outcome"] != "done" {
		t.Errorf("start %v, end %v", events[0].Metadata, events[7].Metadata)
	}
	if a := result.Audit; a.Events != 8 || a.Delivered != 8 || a.Chain != witnessclient.ChainOK || a.Problem != "" {
		t.Errorf("audit %+v", a)
	}
	if n := l.WitnessCount(); n.Accepted != 8 || len(n.ByKey) != 8 {
		t.Errorf("the witness got %+v", n)
	}
	if !slices.Contains(notes, "one") || !slices.Contains(notes, "see") {
		t.Errorf("notes of steps %v", notes)
	}
	if result.RecoveredAt.IsZero() || len(result.Changed()) != 2 {
		t.Errorf("recovered at %v, changed %v", result.RecoveredAt, result.Changed())
	}
}

func TestStepThatIsMetIsNotApplied(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	met := &lamp{on: true}
	result := mustRun(t, e, Request{Recovery: fakeRecovery(met.step("one"))})
	expect(t, result, Done)
	if met.applied != 0 || result.Steps[0].Applied || len(result.Changed()) != 0 {
		t.Errorf("applied %d times, %+v", met.applied, result.Steps)
	}
	names, events := journal(t, e, result.Run)
	if slices.Contains(names, "run_step_intent") || events[1].Metadata["noop"] != true {
		t.Errorf("events %v, %v", names, events[1].Metadata)
	}
}

// Apply finds its own intent in the journal's file, with all an undo needs.
func TestIntentIsOnDiskBeforeEffect(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	one := &lamp{}
	s := one.step("one")
	rec := fakeRecovery(s)
	var found []witnessclient.Event
	rec.Steps[0].Apply = func(ctx context.Context, key string, o Observation) error {
		contents, err := witnessclient.ReadJournal(journalPath(e.StateDir, rec.Run))
		if err != nil {
			return err
		}
		for _, r := range contents.Records {
			if r.Event.Name == "run_step_intent" {
				found = append(found, r.Event)
			}
		}
		return one.apply(ctx, key, o)
	}
	expect(t, mustRun(t, e, Request{Recovery: rec}), Done)
	if len(found) != 1 {
		t.Fatalf("intents on disk during apply: %v", found)
	}
	m := found[0].Metadata
	before, _ := json.Marshal(m["before"])
	if m["step"] != "one" || m["key"] != rec.Run+"/one" || string(before) != `{"was":"off"}` || m["effect"] != "idempotent" {
		t.Errorf("intent %v", m)
	}
}

func TestRunbookThatCouldHangIsRefused(t *testing.T) {
	t.Parallel()
	good := (&lamp{}).step("one")
	for _, tt := range []struct {
		name, want string
		change     func(s *Step)
	}{
		{"no timeout", "no timeout", func(s *Step) { s.Timeout = 0 }},
		{"timeout below zero", "no timeout", func(s *Step) { s.Timeout = -1 }},
		{"no id", "ids must be unique", func(s *Step) { s.ID = "" }},
		{"id used before", "ids must be unique", func(s *Step) { s.ID = "first" }},
		{"nothing to observe", "needs either observe or watch", func(s *Step) { s.Observe = nil }},
		{"observe and watch", "needs either observe or watch", func(s *Step) { s.Watch = &Watch{} }},
		{"change without apply", "apply does not fit", func(s *Step) { s.Apply = nil }},
		{"check with apply", "apply does not fit", func(s *Step) { s.Effect = ReadOnly }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := engineOf(t, newMesh(t, "http://127.0.0.1:1", secretKey, "http://127.0.0.1:1", secretKey))
			s, first := good, &lamp{}
			tt.change(&s)
			_, err := e.Run(t.Context(), Request{Recovery: fakeRecovery(first.step("first"), s)})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want %q", err, tt.want)
			}
			if runs, err := Runs(e.StateDir); err != nil || len(runs) != 0 || first.applied != 0 {
				t.Errorf("runs %v, %v; applied %d times", runs, err, first.applied)
			}
		})
	}
}

// A plan ends although a target does not answer.
func TestPlanBoundsEveryObservation(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	one := &lamp{}
	s := one.step("one")
	s.Timeout = 50 * time.Millisecond
	s.Observe = func(ctx context.Context) (Observation, error) {
		<-ctx.Done()
		return Observation{}, fmt.Errorf("the target did not answer: %w", ctx.Err())
	}
	result := mustRun(t, e, Request{Recovery: fakeRecovery(s)})
	expect(t, result, Refused)
	if !strings.Contains(result.Reason, "step one cannot be observed: the target did not answer") || one.applied != 0 {
		t.Errorf("reason %q, applied %d times", result.Reason, one.applied)
	}
}

func TestPlanThatChangesNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		situation Situation
		surveyErr error
		confirm   func(Plan) (bool, error)
		want      Outcome
		reason    string
	}{
		{name: "goal is met", situation: Situation{GoalMet: true}, want: NothingToDo},
		{name: "precondition fails", situation: Situation{Problems: []Problem{{"no room", "make some"}, {"and dark", ""}}}, want: Refused, reason: "no room"},
		{name: "precondition fails and goal is met", situation: Situation{GoalMet: true, Problems: []Problem{{"no room", ""}}}, want: Refused, reason: "no room"},
		{name: "not confirmed", confirm: func(Plan) (bool, error) { return false, nil }, want: Refused, reason: "not confirmed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := engineOf(t, newMesh(t, "http://127.0.0.1:1", secretKey, "http://127.0.0.1:1", secretKey))
			one := &lamp{}
			rec := fakeRecovery(one.step("one"))
			rec.Survey = func(context.Context, []RunSummary) (Situation, error) { return tt.situation, nil }
			result := mustRun(t, e, Request{Recovery: rec, Confirm: tt.confirm})
			expect(t, result, tt.want)
			if result.Reason != tt.reason || one.applied != 0 || result.Run != "" {
				t.Errorf("reason %q, applied %d times, run %q", result.Reason, one.applied, result.Run)
			}
			if runs, err := Runs(e.StateDir); err != nil || len(runs) != 0 {
				t.Errorf("runs %v, %v", runs, err)
			}
		})
	}
}

func TestConfirmSeesThePlan(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	one, met := &lamp{}, &lamp{on: true}
	var shown Plan
	_, err := e.Run(t.Context(), Request{
		Recovery: fakeRecovery(one.step("one"), met.step("met"), readOnly("see", Observation{Met: true}, nil)),
		Confirm:  func(p Plan) (bool, error) { shown = p; return false, errBroken },
	})
	if !errors.Is(err, errBroken) || one.applied != 0 {
		t.Errorf("got error %v, applied %d times", err, one.applied)
	}
	want := []StepPlan{
		{ID: "one", Title: "switch on one", Effect: Idempotent, Summary: "on: false", Diff: "- off\n+ on", Undoable: true},
		{ID: "met", Title: "switch on met", Effect: Idempotent, Met: true, Summary: "on: true", Diff: "- off\n+ on", Undoable: true},
		{ID: "see", Title: "check see", Effect: ReadOnly},
	}
	if diff := cmp.Diff(want, shown.Steps); diff != "" || !shown.Changes() {
		t.Errorf("changes: %v\n%s", shown.Changes(), diff)
	}
}

// A dry run leaves no trace: no directory, no lock, no event, no change.
func TestDryRunWritesNothing(t *testing.T) {
	t.Parallel()
	e, l := witnessMesh(t, lab.Options{})
	one := &lamp{}
	result := mustRun(t, e, Request{Recovery: fakeRecovery(one.step("one")), DryRun: true})
	expect(t, result, Planned)
	if !result.Plan.Changes() || result.Plan.Steps[0].Diff == "" {
		t.Errorf("plan %+v", result.Plan)
	}
	if _, err := os.Stat(e.StateDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state directory is there: %v", err)
	}
	if n := l.WitnessCount(); n.Requests != 0 || one.applied != 0 || len(l.Requests()) != 0 {
		t.Errorf("witness %+v, applied %d times, controller %v", n, one.applied, l.Requests())
	}
}

// The outcomes of checks: unseen is not unmet, and neither is done.
func TestCheckOutcomes(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	watch := func(v probes.Verdict) Step {
		return Step{ID: "check", Effect: ReadOnly, Timeout: time.Minute, Watch: &Watch{
			Every: 5 * time.Millisecond, For: 10 * time.Millisecond, NeedInARow: 2, Sample: func(context.Context) Sample { return Sample{v, "sampled"} },
		}}
	}
	for _, tt := range []struct {
		name   string
		check  Step
		want   Outcome
		reason string
	}{
		{"met", readOnly("check", Observation{Met: true}, nil), Done, ""},
		{"not met", readOnly("check", Observation{Summary: "3 are down"}, nil), Failed, "not so after 300ms: 3 are down"},
		{"not readable", readOnly("check", Observation{}, errBroken), Undetermined, "step check: could not be seen for 300ms: it broke"},
		{"blind", readOnly("check", Observation{Blind: "not offered"}, nil), Undetermined, "step check: not offered"},
		{"watch passes", watch(probes.Pass), Done, ""},
		{"watch warns", watch(probes.Warn), Done, ""},
		{"watch without data", watch(probes.Unknown), Undetermined, "too little data"},
		{"watch fails", watch(probes.Fail), Failed, "sampled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			anew(t, e)
			one := &lamp{}
			result := mustRun(t, e, Request{Recovery: fakeRecovery(one.step("one"), tt.check)})
			expect(t, result, tt.want)
			if !strings.Contains(result.Reason, tt.reason) {
				t.Errorf("reason %q, want %q", result.Reason, tt.reason)
			}
			names, _ := journal(t, e, result.Run)
			if done := slices.Contains(names, completion); done != (tt.want == Done) || result.RecoveredAt.IsZero() == done {
				t.Errorf("completion event: %v, recovered at %v", done, result.RecoveredAt)
			}
			runs, err := Runs(e.StateDir)
			if err != nil || len(runs) != 1 || runs[0].Unfinished() != (tt.want == Failed) {
				t.Errorf("runs %+v, %v", runs, err)
			}
		})
	}
}
