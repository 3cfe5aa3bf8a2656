package runbooks

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/runbooks/targets"
)

// What is there counts, not what apply says.
func TestApplyIsJudgedByItsEffect(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	for _, tt := range []struct {
		name   string
		apply  func(ctx context.Context, l *lamp) error
		want   Outcome
		reason string
	}{
		{"works", func(_ context.Context, l *lamp) error { l.on = true; return nil }, Done, ""},
		{"says yes and does nothing", func(context.Context, *lamp) error { return nil }, Failed, "not so after 500ms: on: false"},
		{"fails", func(context.Context, *lamp) error { return errBroken }, Failed, "apply: it broke"},
		{"works and the reply is lost", func(_ context.Context, l *lamp) error { l.on = true; return errBroken }, Done, ""},
		{"works and the reply never comes", func(ctx context.Context, l *lamp) error {
			l.on = true
			<-ctx.Done()
			return errBroken
		}, Done, ""},
		{"hangs", func(ctx context.Context, _ *lamp) error { <-ctx.Done(); return errBroken }, Failed, "apply: it broke"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			anew(t, e)
			one, after := &lamp{}, &lamp{}
			s := one.step("one")
			s.Apply = func(ctx context.Context, _ string, _ Observation) error { return tt.apply(ctx, one) }
			result := mustRun(t, e, Request{Recovery: fakeRecovery(s, after.step("after"))})
			expect(t, result, tt.want)
			if !strings.Contains(result.Reason, tt.reason) || !result.Steps[0].Applied || after.lit() != (tt.want == Done) {
				t.Errorf("reason %q, steps %+v, next step applied: %v", result.Reason, result.Steps, after.lit())
			}
		})
	}
}

// A target that has changed since the plan is not touched: with nothing applied
// yet the run is refused, later it has failed.
func TestTargetChangedSincePlan(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	for _, tt := range []struct {
		name    string
		changes int // which of the two steps
		want    Outcome
	}{
		{"first step", 0, Refused},
		{"second step", 1, Failed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			anew(t, e)
			lamps := []*lamp{{match: "a"}, {match: "b"}}
			result := mustRun(t, e, Request{
				Recovery: fakeRecovery(lamps[0].step("one"), lamps[1].step("two")),
				Confirm:  func(Plan) (bool, error) { lamps[tt.changes].match = "changed"; return true, nil },
			})
			expect(t, result, tt.want)
			if lamps[tt.changes].applied != 0 || lamps[0].applied != tt.changes || !strings.Contains(result.Reason, "changed since the plan was made") {
				t.Errorf("applied %d and %d times, reason %q", lamps[0].applied, lamps[1].applied, result.Reason)
			}
			runs, err := Runs(e.StateDir)
			if err != nil || len(runs) != 1 || runs[0].Unfinished() != (tt.want == Failed) {
				t.Errorf("runs %+v, %v", runs, err)
			}
		})
	}
}

// The same when only Apply itself notices, after the intent was journalled. It
// was certainly not applied, so it is not undone either, then or later.
func TestApplyFindsTargetChanged(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	changed := func(context.Context, string, Observation) error { return &targets.ChangedError{Object: "the file"} }
	t.Run("first step", func(t *testing.T) {
		anew(t, e)
		one := &lamp{}
		s := one.step("one")
		s.Apply = changed
		result := mustRun(t, e, Request{Recovery: fakeRecovery(s), UndoOnFailure: true})
		expect(t, result, Refused)
		if one.undone != 0 || len(result.Changed()) != 0 {
			t.Errorf("undone %d times, changed %v", one.undone, result.Changed())
		}
	})
	t.Run("second step", func(t *testing.T) {
		anew(t, e)
		one, two := &lamp{}, &lamp{}
		s := two.step("two")
		s.Apply = changed
		result := mustRun(t, e, Request{Recovery: fakeRecovery(one.step("one"), s), UndoOnFailure: true})
		expect(t, result, Undone)
		if one.undone != 1 || two.undone != 0 || len(result.Undo) != 1 {
			t.Errorf("undone %d and %d times, %+v", one.undone, two.undone, result.Undo)
		}
	})
}

// A step that this mesh cannot show is never green by itself; a later step may
// bring the proof.
func TestBlindStep(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	for _, tt := range []struct {
		name   string
		proved bool
		want   Outcome
	}{
		{"never proved", false, Undetermined},
		{"proved late", true, Done},
	} {
		t.Run(tt.name, func(t *testing.T) {
			anew(t, e)
			blind, later := &lamp{}, &lamp{}
			s := blind.step("blind")
			s.Observe = func(context.Context) (Observation, error) {
				if tt.proved && later.lit() {
					return Observation{Met: true, Summary: "seen now"}, nil
				}
				return Observation{Blind: "no endpoint shows it"}, nil
			}
			result := mustRun(t, e, Request{Recovery: fakeRecovery(s, later.step("later"))})
			expect(t, result, tt.want)
			if blind.applied != 1 || later.applied != 1 {
				t.Errorf("applied %d and %d times", blind.applied, later.applied)
			}
			names, _ := journal(t, e, result.Run)
			if slices.Contains(names, completion) != tt.proved {
				t.Errorf("events %v", names)
			}
			if !tt.proved && (result.Reason != "step blind: no endpoint shows it" || !result.RecoveredAt.IsZero()) {
				t.Errorf("reason %q, recovered at %v", result.Reason, result.RecoveredAt)
			}
		})
	}
}

// An error of a proof that comes late is no proof.
func TestBlindStepStaysUnknownWhenItCannotBeRead(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	blind, later := &lamp{}, &lamp{}
	s := blind.step("blind")
	s.Observe = func(context.Context) (Observation, error) {
		if later.lit() {
			return Observation{Met: true}, errBroken
		}
		return Observation{Blind: "no endpoint shows it"}, nil
	}
	expect(t, mustRun(t, e, Request{Recovery: fakeRecovery(s, later.step("later"))}), Undetermined)
}

// The mesh counts as recovered when the recovery was proved, not when it had
// been watched.
func TestRecoveredBeforeStabilityWasWatched(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	one := &lamp{}
	var watched time.Time
	see := readOnly("watch", Observation{}, nil)
	see.After = true
	see.Observe = func(context.Context) (Observation, error) { watched = time.Now(); return Observation{Met: true}, nil }
	result := mustRun(t, e, Request{Recovery: fakeRecovery(one.step("one"), see)})
	expect(t, result, Done)
	if result.RecoveredAt.IsZero() || !result.RecoveredAt.Before(watched) || !result.Ended.After(watched) {
		t.Errorf("recovered at %v, watched at %v, ended at %v", result.RecoveredAt, watched, result.Ended)
	}
}
