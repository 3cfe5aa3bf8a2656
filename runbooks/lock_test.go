package runbooks

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
			} else if o := held.Owner; o.Operator != "ann@bastion" || o.Host != "bastion" || o.PID != os.Getpid() || o.Doing != "fake" || o.Since.IsZero() {
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
	panicky.Survey = func(context.Context) (Situation, error) { return Situation{}, errBroken }
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

func TestHeldErrorWithoutRecord(t *testing.T) {
	t.Parallel()
	if got := (&HeldError{Owner: readOwner(filepath.Join(t.TempDir(), "none"))}).Error(); got != "lock mesh: held by another process" {
		t.Errorf("got %q", got)
	}
}

// An unfinished run is in the way until somebody decides about it.
func TestUnfinishedRun(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	first := fakeRecovery((&lamp{}).step("one"))
	expect(t, interruptIn(t, e, first, "one"), Interrupted)

	next := &lamp{}
	_, err := e.Run(t.Context(), Request{Recovery: fakeRecovery(next.step("one"))})
	var unfinished *UnfinishedError
	if !errors.As(err, &unfinished) || unfinished.Run.Run != first.Run || unfinished.Run.Operator != "ann@bastion" || next.applied != 0 {
		t.Fatalf("got error %v, applied %d times", err, next.applied)
	}
	if text := err.Error(); !strings.Contains(text, "fake of "+first.Run) || !strings.Contains(text, "by ann@bastion, is unfinished") {
		t.Errorf("got %q", text)
	}
	if _, err := e.Run(t.Context(), Request{Recovery: fakeRecovery(next.step("one")), Override: "01ANOTHER"}); !errors.As(err, &unfinished) {
		t.Errorf("another override: got error %v", err)
	}
	result := mustRun(t, e, Request{Recovery: fakeRecovery(next.step("one")), Override: first.Run, Reason: "the first was a rehearsal"})
	expect(t, result, Done)
	_, events := journal(t, e, result.Run)
	if m := events[0].Metadata; m["override"] != first.Run || m["reason"] != "the first was a rehearsal" {
		t.Errorf("the override is not recorded: %v", m)
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
