package runbooks

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/witnessclient"
)

// While one changes the mesh, another is told who, and changes nothing.
func TestLock(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	other := &Engine{StateDir: e.StateDir, Mesh: e.Mesh, Stamp: witnessclient.Stamp{Operator: "bob@laptop", Host: "laptop"}}
	theirs := &lamp{}
	s := (&lamp{}).step("one")
	inside := s.Apply
	s.Apply = func(ctx context.Context, key string, o Observation) error {
		for name, try := range map[string]func() error{
			"run": func() error {
				_, err := other.Run(ctx, Request{Recovery: fakeRecovery(theirs.step("one"))})
				return err
			},
			"resume": func() error { _, err := other.Resume(ctx, strings.Split(key, "/")[0], false); return err },
			"abort":  func() error { _, err := other.Abort(ctx, strings.Split(key, "/")[0], true); return err },
		} {
			var held *HeldError
			if err := try(); !errors.As(err, &held) {
				t.Errorf("%s: got error %v", name, err)
			} else if o := held.Owner; o.Operator != "ann@bastion" || o.Host != "bastion" || o.PID != os.Getpid() || o.Doing != "fake" || !strings.HasPrefix(key, o.Run+"/") || o.Since.IsZero() {
				t.Errorf("%s: owner %+v", name, o)
			}
		}
		if result, err := other.Run(ctx, Request{Recovery: fakeRecovery(theirs.step("one")), DryRun: true}); err != nil || result.Outcome != Planned {
			t.Errorf("a dry run needs no lock: %v, %v", result.Outcome, err)
		}
		return inside(ctx, key, o)
	}
	expect(t, mustRun(t, e, Request{Recovery: fakeRecovery(s)}), Done)
	if theirs.applied != 0 {
		t.Error("the other one applied something")
	}
	if _, err := os.Stat(filepath.Join(e.StateDir, "owner.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the owner's record is left: %v", err)
	}
	result, err := other.Run(t.Context(), Request{Recovery: fakeRecovery(theirs.step("one"))})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, result, Done)
}

// The lock is free after every kind of end.
func TestLockIsFreed(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	panicky := fakeRecovery()
	panicky.Survey = func(context.Context, []RunSummary) (Situation, error) { return Situation{}, errBroken }
	if _, err := e.Run(t.Context(), Request{Recovery: panicky}); !errors.Is(err, errBroken) {
		t.Fatalf("got error %v", err)
	}
	rec := fakeRecovery((&lamp{}).step("one"))
	expect(t, interruptIn(t, e, rec, "one"), Interrupted)
	if _, err := e.Resume(t.Context(), rec.Run, false); err == nil { // of an unknown runbook
		t.Fatal("resumed")
	}
	e.knows(rec)
	expect(t, mustResume(t, e, rec.Run), Done)
}

// What a killed process leaves is told from one that lives.
func TestStaleOwner(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	var notes []string
	e.Notify = func(n Note) { notes = append(notes, n.Text) }
	if err := os.MkdirAll(e.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	record := filepath.Join(e.StateDir, "owner.json")
	stale := Owner{Operator: "eve@bastion", Host: "bastion", PID: 1 << 30, Run: "01OLD", Doing: "turn recover", Since: time.Now()}
	if err := writeOwner(record, stale); err != nil {
		t.Fatal(err)
	}
	if got := e.liveOwner(record); got != (Owner{}) {
		t.Errorf("the record of a dead process passes for an owner: %+v", got)
	}
	expect(t, mustRun(t, e, Request{Recovery: fakeRecovery()}), Done)
	if all := strings.Join(notes, "\n"); !strings.Contains(all, "eve@bastion (pid 1073741824 on bastion) died while doing turn recover, run 01OLD") {
		t.Errorf("notes %s", all)
	}
	stale.Host = "elsewhere" // whether that one lives cannot be seen from here
	if err := writeOwner(record, stale); err != nil {
		t.Fatal(err)
	}
	if got := e.liveOwner(record); got.Operator != "eve@bastion" {
		t.Errorf("owner %+v", got)
	}
}

func TestHeldErrorWithoutRecord(t *testing.T) {
	t.Parallel()
	if got := (&HeldError{Owner: readOwner(filepath.Join(t.TempDir(), "none"))}).Error(); got != "lock mesh: held by another process" {
		t.Errorf("got %q", got)
	}
}

func TestRunsOfAStateDirectory(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	if runs, err := Runs(e.StateDir); err != nil || len(runs) != 0 {
		t.Errorf("before the first run: %v, %v", runs, err)
	}
	first := mustRun(t, e, Request{Recovery: fakeRecovery(), FailoverID: "fo-1"})
	second := mustRun(t, e, Request{Recovery: fakeRecovery(readOnly("check", Observation{Blind: "dark"}, nil))})
	runs, err := Runs(e.StateDir)
	if err != nil || len(runs) != 2 {
		t.Fatalf("runs %+v, %v", runs, err)
	}
	a, b := runs[0], runs[1]
	if a.Run != first.Run || a.FailoverID != "fo-1" || a.Outcome != "done" || a.Scenario != "A" || a.Undelivered != 0 || !a.Changes || a.Finished.Before(a.Started) {
		t.Errorf("first %+v", a)
	}
	if b.Run != second.Run || b.FailoverID != second.Run || b.Outcome != "unknown" || b.Unfinished() {
		t.Errorf("second %+v", b)
	}
	records, err := RunRecords(e.StateDir, first.Run)
	if err != nil || len(records) != 3 {
		t.Errorf("records %v, %v", records, err)
	}
	var noRun *NoRunError
	if _, err := RunRecords(e.StateDir, "01NO"); !errors.As(err, &noRun) {
		t.Errorf("got error %v", err)
	}
}
