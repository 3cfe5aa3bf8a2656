package runbooks

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/probes"
)

// Undo goes backwards and touches only what the run applied.
func TestUndoOnFailure(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	var order []string
	one, met, three := &lamp{order: &order}, &lamp{on: true, order: &order}, &lamp{order: &order}
	never := &lamp{order: &order}
	result := mustRun(t, e, Request{
		Recovery: fakeRecovery(one.step("one"), met.step("met"), three.step("three"),
			readOnly("check", Observation{Summary: "it is bad"}, nil), never.step("never")),
		UndoOnFailure: true,
	})
	expect(t, result, Undone)
	if diff := cmp.Diff([]string{"apply one", "apply three", "undo three", "undo one"}, order); diff != "" {
		t.Error(diff)
	}
	if result.FailedStep != "check" || len(result.Changed()) != 0 || !met.lit() || one.keys[1] != result.Run+"/one/undo" {
		t.Errorf("failed at %s, changed %v, keys %v", result.FailedStep, result.Changed(), one.keys)
	}
	names, events := journal(t, e, result.Run)
	if names[len(names)-1] != "run_finished" || events[len(events)-1].Metadata["outcome"] != "undone" || slices.Contains(names, completion) {
		t.Errorf("events %v", names)
	}
	expect(t, mustRun(t, e, Request{Recovery: fakeRecovery()}), Done) // nothing is in the way
}

// Without being asked to, nothing is undone; what stands is said, and the run
// stays in the way of the next one.
func TestFailureStands(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	one := &lamp{}
	result := mustRun(t, e, Request{Recovery: fakeRecovery(one.step("one"), readOnly("check", Observation{}, nil))})
	expect(t, result, Failed)
	if !slices.Equal(result.Changed(), []string{"one"}) || one.undone != 0 {
		t.Errorf("changed %v, undone %d times", result.Changed(), one.undone)
	}
	var unfinished *UnfinishedError
	if _, err := e.Run(t.Context(), Request{Recovery: fakeRecovery()}); !errors.As(err, &unfinished) || unfinished.Run.Run != result.Run {
		t.Errorf("got error %v", err)
	}
	if result.Audit.Delivered != result.Audit.Events || result.Audit.Chain == "ok" {
		t.Errorf("audit %+v", result.Audit)
	}
}

// A run counts as undone only when nothing stands any more.
func TestUndoThatDoesNotWork(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	for _, tt := range []struct {
		name    string
		undo    func(ctx context.Context, key string, before json.RawMessage) error
		summary string
	}{
		{"cannot be undone", nil, "this step cannot be undone"},
		{"fails", func(context.Context, string, json.RawMessage) error { return errBroken }, "it broke"},
		{"hangs", func(ctx context.Context, _ string, _ json.RawMessage) error { <-ctx.Done(); return errBroken }, "it broke"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			anew(t, e)
			one, two := &lamp{}, &lamp{}
			s := two.step("two")
			s.Undo = tt.undo
			result := mustRun(t, e, Request{
				Recovery: fakeRecovery(one.step("one"), s, readOnly("check", Observation{}, nil)), UndoOnFailure: true,
			})
			expect(t, result, Failed)
			if one.undone != 1 || !slices.Equal(result.Changed(), []string{"two"}) {
				t.Errorf("one undone %d times, changed %v", one.undone, result.Changed())
			}
			if u := result.Undo[0]; u.ID != "two" || u.Verdict != probes.Fail || u.Summary != tt.summary {
				t.Errorf("undo %+v", result.Undo)
			}
			runs, err := Runs(e.StateDir)
			if err != nil || len(runs) != 1 || !runs[0].Unfinished() {
				t.Errorf("runs %+v, %v", runs, err)
			}
		})
	}
}

// A step whose apply failed may have been applied: it is undone too.
func TestUndoOfStepThatFailed(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	one := &lamp{}
	s := one.step("one")
	s.Apply = func(context.Context, string, Observation) error { return errBroken }
	expect(t, mustRun(t, e, Request{Recovery: fakeRecovery(s), UndoOnFailure: true}), Undone)
	if one.undone != 1 {
		t.Errorf("undone %d times", one.undone)
	}
}

// What an earlier undo took back and a resume applied again stands again: an
// abort must undo it once more, and not say "undone" for the first time.
func TestUndoAfterResume(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	one, stuck := &lamp{}, &lamp{}
	s := stuck.step("stuck")
	refuse := true
	s.Undo = func(ctx context.Context, key string, before json.RawMessage) error {
		if refuse {
			return errBroken
		}
		return stuck.undo(ctx, key, before)
	}
	rec := fakeRecovery(one.step("one"), s, readOnly("check", Observation{}, nil))
	e.knows(rec)
	result := mustRun(t, e, Request{Recovery: rec, UndoOnFailure: true})
	expect(t, result, Failed)
	if one.lit() || !stuck.lit() {
		t.Fatalf("one %v, stuck %v", one.lit(), stuck.lit())
	}
	result, err := e.Resume(t.Context(), result.Run, false)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, result, Failed)
	if !one.lit() || stuck.applied != 1 {
		t.Fatalf("one %v, stuck applied %d times", one.lit(), stuck.applied)
	}
	refuse = false
	result, err = e.Abort(t.Context(), result.Run, true)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, result, Undone)
	if one.lit() || stuck.lit() {
		t.Errorf("undone, and yet one is on: %v, stuck: %v", one.lit(), stuck.lit())
	}
}

// An undo leaves alone what somebody else has changed since, does nothing
// where all is as before already, and is not blind.
func TestUndoIsGuarded(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	for _, tt := range []struct {
		name    string
		since   func(l *lamp)
		want    Outcome
		undone  int
		summary string
	}{
		{"as the run left it", func(*lamp) {}, Undone, 1, "as before"},
		{"as before already", func(l *lamp) { l.on = false }, Undone, 0, "as before"},
		{"changed by somebody else", func(l *lamp) { l.on, l.match = false, "green" }, Failed, 0, "too late to undo one"},
		{"cannot be read", func(l *lamp) { l.blinded = errBroken }, Failed, 0, "what is there now cannot be read: it broke"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			anew(t, e)
			one := &lamp{match: "off"}
			rec := fakeRecovery(one.step("one"), readOnly("check", Observation{}, nil))
			e.knows(rec)
			expect(t, mustRun(t, e, Request{Recovery: rec}), Failed)
			tt.since(one)
			aborted, err := e.Abort(t.Context(), rec.Run, true)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, aborted, tt.want)
			if one.undone != tt.undone || !strings.Contains(aborted.Undo[0].Summary, tt.summary) {
				t.Errorf("undone %d times, %+v", one.undone, aborted.Undo)
			}
			if remains := aborted.Changed(); (len(remains) == 1) != (tt.want == Failed) {
				t.Errorf("remains %v", remains)
			}
		})
	}
}

// A step whose effect is over leaves nothing to undo, and is no reason for
// "changes stand".
func TestNothingToUndo(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	one, knock := &lamp{}, (&lamp{}).step("knock")
	knock.Undo, knock.NothingToUndo = nil, "the sound is gone"
	result := mustRun(t, e, Request{Recovery: fakeRecovery(one.step("one"), knock, readOnly("check", Observation{}, nil)), UndoOnFailure: true})
	expect(t, result, Undone)
	if u := result.Undo[0]; u.ID != "knock" || u.Verdict != probes.Skip || u.Summary != "nothing to undo: the sound is gone" || len(result.Changed()) != 0 {
		t.Errorf("undo %+v, changed %v", result.Undo, result.Changed())
	}
	knock.Undo = one.undo
	if _, err := e.Run(t.Context(), Request{Recovery: fakeRecovery(knock)}); err == nil {
		t.Error("an undo and nothing to undo were accepted")
	}
}

// ^C during an undo lets the running one end; the rest can be undone later.
func TestInterruptDuringUndo(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	one, two := &lamp{}, &lamp{}
	ctx, interrupt := context.WithCancel(t.Context())
	s := two.step("two")
	s.Undo = func(ctx context.Context, key string, before json.RawMessage) error {
		interrupt()
		return errors.Join(ctx.Err(), two.undo(ctx, key, before))
	}
	rec := fakeRecovery(one.step("one"), s, readOnly("check", Observation{}, nil))
	e.knows(rec)
	expect(t, mustRun(t, e, Request{Recovery: rec}), Failed)
	stopped, err := e.Abort(ctx, rec.Run, true)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, stopped, Interrupted)
	if two.undone != 1 || one.undone != 0 || !slices.Equal(stopped.Changed(), []string{"one"}) {
		t.Errorf("undone %d and %d times, changed %v", two.undone, one.undone, stopped.Changed())
	}
	aborted, err := e.Abort(t.Context(), rec.Run, true)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, aborted, Undone)
	if two.undone != 1 || one.undone != 1 {
		t.Errorf("undone %d and %d times", two.undone, one.undone)
	}
}
