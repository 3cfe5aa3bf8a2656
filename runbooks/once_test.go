package runbooks

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/probes"
)

// A step that must not be done twice is done twice by nobody.
func TestOnceInDoubt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		effect bool
		want   Outcome
	}{
		{"its effect is not seen", false, Failed},
		{"its effect is seen", true, Done},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, _ := witnessMesh(t, lab.Options{})
			one := &lamp{}
			applied := 0
			s := one.step("one")
			s.Effect = Once
			s.Apply = func(context.Context, string, Observation) error {
				applied++
				one.mu.Lock()
				defer one.mu.Unlock()
				one.on = tt.effect
				return errBroken
			}
			rec := fakeRecovery(s)
			e.knows(rec)
			result := interruptIn(t, e, rec, "one")
			expect(t, result, Interrupted)
			resumed := mustResume(t, e, result.Run)
			expect(t, resumed, tt.want)
			if applied != 1 {
				t.Errorf("applied %d times", applied)
			}
			if tt.want == Failed && !strings.Contains(resumed.Reason, "must not be done twice") {
				t.Errorf("reason %q", resumed.Reason)
			}
		})
	}
}

// inDoubt is an interrupted run whose step "one" was begun once, without an
// effect that could be seen.
func inDoubt(t *testing.T, e *Engine) (rec *Recovery, one *lamp) {
	t.Helper()
	one = &lamp{}
	s := one.step("one")
	s.Effect = Once
	real := s.Apply
	s.Apply = func(ctx context.Context, key string, o Observation) error {
		if one.applied++; one.applied == 1 {
			return errBroken
		}
		return real(ctx, key, o)
	}
	rec = fakeRecovery(s, (&lamp{}).step("two"))
	e.knows(rec)
	expect(t, interruptIn(t, e, rec, "one"), Interrupted)
	return rec, one
}

// A human is asked with the facts there are, and decides.
func TestDecideAboutAStepInDoubt(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	for _, tt := range []struct {
		name    string
		done    bool
		want    Outcome
		applied int
		undone  int // by an abort, had it come instead
	}{
		{"it was done", true, Undetermined, 1, 1},
		{"it was not done", false, Done, 3, 0}, // the lamp counts the second apply twice
	} {
		t.Run(tt.name, func(t *testing.T) {
			anew(t, e)
			rec, one := inDoubt(t, e)
			asked := mustResume(t, e, rec.Run)
			expect(t, asked, Failed)
			for _, fact := range []string{"one was begun 20", "by ann@bastion", "(key " + rec.Run + "/one)", "must not be done twice", "on: false"} {
				if !strings.Contains(asked.Reason, fact) {
					t.Errorf("reason %q lacks %q", asked.Reason, fact)
				}
			}
			if asked.InDoubt != "one" || one.applied != 1 {
				t.Errorf("in doubt: %q, applied %d times", asked.InDoubt, one.applied)
			}
			if err := e.Decide(rec.Run, "one", tt.done, "looked at it"); err != nil {
				t.Fatal(err)
			}
			resumed := mustResume(t, e, rec.Run)
			expect(t, resumed, tt.want)
			if one.applied != tt.applied {
				t.Errorf("applied %d times, want %d", one.applied, tt.applied)
			}
			if tt.done && (resumed.Steps[0].Verdict != probes.Unknown || !strings.Contains(resumed.Reason, "taken as done by ann@bastion: looked at it")) {
				t.Errorf("%+v, %q", resumed.Steps[0], resumed.Reason)
			}
		})
	}
}

func TestDecideRefuses(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	rec, _ := inDoubt(t, e)
	var param *ParamError
	for _, step := range []string{"two", "none"} {
		if err := e.Decide(rec.Run, step, true, "?"); !errors.As(err, &param) {
			t.Errorf("%s: got error %v", step, err)
		}
	}
	if err := e.Decide(rec.Run, "one", false, "looked"); err != nil {
		t.Fatal(err)
	}
	if err := e.Decide(rec.Run, "one", true, "again"); !errors.As(err, &param) {
		t.Errorf("decided twice: got error %v", err)
	}
	// What was certainly not done is not undone.
	aborted, err := e.Abort(t.Context(), rec.Run, true)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, aborted, Undone)
	if len(aborted.Undo) != 0 || len(aborted.Steps) != 0 {
		t.Errorf("undo %+v, steps %+v", aborted.Undo, aborted.Steps)
	}
}
