package runbooks

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/witnessclient"
)

// knows makes the engine find a made-up recovery again.
func (e *Engine) knows(rec *Recovery) {
	e.known = []Runbook{{Name: rec.Runbook, Build: func(*Mesh, json.RawMessage) (*Recovery, error) { return rec, nil }}}
}

func mustResume(t *testing.T, e *Engine, run string) Result {
	t.Helper()
	result, err := e.Resume(t.Context(), run, false)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// interruptIn runs a recovery and is interrupted while the named step applies.
func interruptIn(t *testing.T, e *Engine, rec *Recovery, step string) Result {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	for i := range rec.Steps {
		if apply := rec.Steps[i].Apply; rec.Steps[i].ID == step {
			rec.Steps[i].Apply = func(ctx context.Context, key string, o Observation) error {
				interrupt()
				return apply(ctx, key, o)
			}
		}
	}
	result, err := e.Run(ctx, Request{Recovery: rec})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// An interrupt lets the running apply finish, leaves a mark and frees the lock;
// the resumed run observes first and applies nothing twice.
func TestInterruptAndResume(t *testing.T) {
	t.Parallel()
	e, l := witnessMesh(t, lab.Options{})
	one, two, three := &lamp{match: "1"}, &lamp{match: "2"}, &lamp{match: "3"}
	var survived error
	rec := fakeRecovery(one.step("one"), two.step("two"), three.step("three"), readOnly("check", Observation{Met: true}, nil))
	apply := rec.Steps[1].Apply
	rec.Steps[1].Apply = func(ctx context.Context, key string, o Observation) error {
		survived = ctx.Err()
		return apply(ctx, key, o)
	}
	restored := ""
	rec.Restore = func(facts json.RawMessage) error { restored = string(facts); return nil }
	e.knows(rec)
	result := interruptIn(t, e, rec, "two")
	expect(t, result, Interrupted)
	if survived != nil || one.applied != 1 || two.applied != 1 || three.applied != 0 {
		t.Fatalf("apply's context: %v; applied %d, %d and %d times", survived, one.applied, two.applied, three.applied)
	}
	names, _ := journal(t, e, result.Run)
	if names[len(names)-1] != "note:interrupted" || slices.Contains(names, "run_finished") {
		t.Errorf("events %v", names)
	}
	e.Stamp.Operator = "bob@bastion"
	resumed := mustResume(t, e, result.Run)
	expect(t, resumed, Done)
	if one.applied != 1 || two.applied != 1 || three.applied != 1 {
		t.Errorf("applied %d, %d and %d times", one.applied, two.applied, three.applied)
	}
	if resumed.Run != result.Run || resumed.FailoverID != result.FailoverID || restored != `{"seen":1}` {
		t.Errorf("run %s, failover %s, restored %s", resumed.Run, resumed.FailoverID, restored)
	}
	_, events := journal(t, e, result.Run)
	last := events[len(events)-1]
	if last.Name != "run_finished" || last.Metadata["operator"] != "bob@bastion" || events[0].Metadata["operator"] != "ann@bastion" {
		t.Errorf("last event %+v", last)
	}
	if a := resumed.Audit; a.Delivered != a.Events || a.Chain != witnessclient.ChainOK {
		t.Errorf("audit %+v", a)
	}
	for key, n := range l.WitnessCount().ByKey {
		if n != 1 {
			t.Errorf("the witness holds %s %d times", key, n)
		}
	}
	var finished *FinishedError
	if _, err := e.Resume(t.Context(), result.Run, false); !errors.As(err, &finished) || finished.Outcome != "done" {
		t.Errorf("got error %v", err)
	}
}

// The same key on every attempt lets the other side recognise a repetition.
func TestResumeAppliesUnderTheSameKey(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	one := &lamp{}
	var keys []string
	rec := fakeRecovery(one.step("one"))
	rec.Steps[0].Apply = func(ctx context.Context, key string, o Observation) error {
		if keys = append(keys, key); len(keys) == 1 {
			return errBroken // nothing of it arrived
		}
		return one.apply(ctx, key, o)
	}
	e.knows(rec)
	result := interruptIn(t, e, rec, "one")
	expect(t, result, Interrupted)
	expect(t, mustResume(t, e, result.Run), Done)
	if diff := cmp.Diff([]string{result.Run + "/one", result.Run + "/one"}, keys); diff != "" {
		t.Error(diff)
	}
}

// A resumed run that finds a target changed has failed: what it did before the
// interrupt stands, so it is never "nothing was changed".
func TestResumeFindsTargetChanged(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	one, two := &lamp{match: "1"}, &lamp{match: "2"}
	rec := fakeRecovery(one.step("one"), two.step("two"))
	e.knows(rec)
	result := interruptIn(t, e, rec, "one")
	expect(t, result, Interrupted)
	two.match = "changed"
	resumed := mustResume(t, e, result.Run)
	expect(t, resumed, Failed)
	if two.applied != 0 || !one.lit() || !strings.Contains(resumed.Reason, "changed since the plan was made") {
		t.Errorf("applied %d times, reason %q", two.applied, resumed.Reason)
	}
	var unfinished *UnfinishedError
	if _, err := e.Run(t.Context(), Request{Recovery: fakeRecovery()}); !errors.As(err, &unfinished) {
		t.Errorf("got error %v", err)
	}
}

// An interrupt before anything was applied can be resumed as well, and one in
// the plan leaves nothing at all.
func TestInterruptBeforeAnyChange(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	one := &lamp{}
	rec := fakeRecovery(one.step("one"))
	e.knows(rec)
	ctx, interrupt := context.WithCancel(t.Context())
	result, err := e.Run(ctx, Request{Recovery: rec, Confirm: func(Plan) (bool, error) { interrupt(); return true, nil }})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, result, Interrupted)
	if one.applied != 0 {
		t.Error("applied after the interrupt")
	}
	expect(t, mustResume(t, e, result.Run), Done)

	result, err = e.Run(ctx, Request{Recovery: fakeRecovery((&lamp{}).step("one"))})
	if err != nil || result.Outcome != Interrupted || result.Run != "" {
		t.Errorf("got %+v, %v", result, err)
	}
}

func TestAbort(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		undo bool
		want Outcome
		lit  bool
	}{
		{"and leave it", false, Aborted, true},
		{"and undo", true, Undone, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, _ := witnessMesh(t, lab.Options{})
			one, two := &lamp{}, &lamp{}
			rec := fakeRecovery(one.step("one"), two.step("two"))
			e.knows(rec)
			result := interruptIn(t, e, rec, "one")
			expect(t, result, Interrupted)
			aborted, err := e.Abort(t.Context(), result.Run, tt.undo)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, aborted, tt.want)
			if one.lit() != tt.lit || two.applied != 0 || (len(aborted.Changed()) == 1) != tt.lit {
				t.Errorf("one is on: %v, two applied %d times, changed %v", one.lit(), two.applied, aborted.Changed())
			}
			expect(t, mustRun(t, e, Request{Recovery: fakeRecovery()}), Done) // nothing is in the way
		})
	}
}

func TestRunsThatCannotBeResumed(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	one := &lamp{}
	rec := fakeRecovery(one.step("one"), (&lamp{}).step("two"))
	result := interruptIn(t, e, rec, "one")
	expect(t, result, Interrupted)
	var noRun *NoRunError
	if _, err := e.Resume(t.Context(), "01NOSUCHRUN", false); !errors.As(err, &noRun) {
		t.Errorf("no such run: got error %v", err)
	}
	if _, err := e.Resume(t.Context(), result.Run, false); err == nil || !strings.Contains(err.Error(), `unknown runbook "fake"`) {
		t.Errorf("unknown runbook: got error %v", err)
	}
	e.knows(rec)
	rec.Restore = func(json.RawMessage) error { return errBroken }
	if _, err := e.Abort(t.Context(), result.Run, true); !errors.Is(err, errBroken) {
		t.Errorf("facts that cannot be read: got error %v", err)
	}
	path := journalPath(e.StateDir, result.Run)
	whole := readFile(t, path)
	if err := os.WriteFile(path, []byte(strings.Replace(whole, `"ann@bastion"`, `"eve@bastion"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Resume(t.Context(), result.Run, false); err == nil || !strings.Contains(err.Error(), "open run "+result.Run) {
		t.Errorf("damaged journal: got error %v", err)
	}
	if _, err := e.Run(t.Context(), Request{Recovery: fakeRecovery()}); err == nil || !strings.Contains(err.Error(), "start run: journal") {
		t.Errorf("new run beside a damaged journal: got error %v", err)
	}
	if one.undone != 0 || one.applied != 1 {
		t.Errorf("applied %d times, undone %d times", one.applied, one.undone)
	}
}
