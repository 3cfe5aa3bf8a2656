package runbooks

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/witnessclient"
)

// elsewhereRun is a run that was interrupted on another machine in its second
// of three steps, and an engine on this one.
func elsewhereRun(t *testing.T, e *Engine) (here *Engine, rec *Recovery, lamps []*lamp) {
	t.Helper()
	lamps = []*lamp{{match: "1"}, {match: "2"}, {match: "3"}}
	rec = fakeRecovery(lamps[0].step("one"), lamps[1].step("two"), lamps[2].step("three"))
	e.knows(rec)
	expect(t, interruptIn(t, e, rec, "two"), Interrupted)
	if _, err := e.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	here = &Engine{StateDir: t.TempDir(), Mesh: e.Mesh, Stamp: witnessclient.Stamp{Operator: "bob@laptop", Host: "laptop"}}
	here.known = e.known
	return here, rec, lamps
}

// A run whose laptop is gone is gone on with from another one: nothing is done
// twice, keys stay, and the two machines cannot both go on.
func TestAdoptAndResume(t *testing.T) {
	t.Parallel()
	e, l := witnessMesh(t, lab.Options{NoDedup: true})
	here, rec, lamps := elsewhereRun(t, e)
	first := rec.Run
	id, err := here.Adopt(t.Context(), first, "that laptop is lost")
	if err != nil {
		t.Fatal(err)
	}
	var adopted *AdoptedError
	if _, err := e.Resume(t.Context(), first, false); !errors.As(err, &adopted) || adopted.By != id || adopted.Operator != "bob@laptop" {
		t.Errorf("the other machine resumes it: %v", err)
	}
	if _, err := e.Abort(t.Context(), first, true); !errors.As(err, &adopted) {
		t.Errorf("the other machine undoes it: %v", err)
	}
	resumed := mustResume(t, here, id)
	expect(t, resumed, Done)
	if resumed.FailoverID != first || lamps[0].applied != 1 || lamps[1].applied != 1 || lamps[2].applied != 1 {
		t.Errorf("failover %s; applied %d, %d and %d times", resumed.FailoverID, lamps[0].applied, lamps[1].applied, lamps[2].applied)
	}
	if diff := cmp.Diff([]string{first + "/three"}, lamps[2].keys); diff != "" {
		t.Error(diff)
	}
	names, events := journal(t, here, id)
	if i := slices.Index(names, "run_started"); i < 4 || events[0].Metadata["adopts"] != first || events[0].Metadata["reason"] != "that laptop is lost" {
		t.Errorf("journal %v", names)
	}
	for key, n := range l.WitnessCount().ByKey {
		if n != 1 {
			t.Errorf("the witness holds %s %d times", key, n)
		}
	}
	expect(t, mustRun(t, here, Request{Recovery: fakeRecovery()}), Done) // nothing is in the way
	if aborted, err := e.Abort(t.Context(), first, false); err != nil || aborted.Outcome != Aborted {
		t.Errorf("ended by hand on the other machine: %v, %v", aborted.Outcome, err)
	}
}

// What the other machine applied can be undone from here.
func TestAdoptAndUndo(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	here, rec, lamps := elsewhereRun(t, e)
	first := rec.Run
	id, err := here.Adopt(t.Context(), first, "lost")
	if err != nil {
		t.Fatal(err)
	}
	aborted, err := here.Abort(t.Context(), id, true)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, aborted, Undone)
	if lamps[0].lit() || lamps[1].lit() || lamps[0].keys[1] != first+"/one/undo" {
		t.Errorf("on: %v and %v, keys %v", lamps[0].lit(), lamps[1].lit(), lamps[0].keys)
	}
}

func TestAdoptRefuses(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	here, rec, _ := elsewhereRun(t, e)
	done := fakeRecovery()
	expect(t, mustRun(t, e, Request{Recovery: done, Override: rec.Run, Reason: "test"}), Done)
	validation, err := e.Validate(t.Context(), ValidateRequest{Scenario: "A", Phase: PhaseImmediate})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, run, want string
		engine          *Engine
	}{
		{"unknown", "01NONE", "no journal in the witness", here},
		{"finished", done.Run, "already finished (done)", here},
		{"overridden", rec.Run, "already finished (overridden)", here},
		{"its own", rec.Run, "is a run of this machine", e},
		{"a validation", validation.Run, "is no recovery", here},
	} {
		if _, err := tt.engine.Adopt(t.Context(), tt.run, "?"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got error %v", tt.name, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var ask *AskError
	if _, err := here.Adopt(ended, rec.Run, "?"); !errors.As(err, &ask) {
		t.Errorf("without an answer: got error %v", err)
	}
	if runs, err := Runs(here.StateDir); err != nil || len(runs) != 0 {
		t.Errorf("left %+v, %v", runs, err)
	}
}
