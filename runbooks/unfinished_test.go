package runbooks

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/witnessclient"
)

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
	if names, old := journal(t, e, first.Run); names[len(names)-1] != "run_finished" || old[len(old)-1].Metadata["outcome"] != "overridden" ||
		old[len(old)-1].Metadata["by"] != result.Run || old[len(old)-1].Metadata["reason"] != "the first was a rehearsal" {
		t.Errorf("the overridden run is not ended: %v", names)
	}
	if held := atWitness(t, e.Mesh, first.Run, "run_finished"); len(held) != 1 {
		t.Errorf("the witness holds %d ends of it", len(held))
	}
	expect(t, mustRun(t, e, Request{Recovery: fakeRecovery(next.step("one"))}), Done) // for good
	if m := events[0].Metadata; m["override"] != first.Run || m["reason"] != "the first was a rehearsal" {
		t.Errorf("the override is not recorded: %v", m)
	}
}

// Run ids of one millisecond sort in any order, and an old one sorts before
// all: the run that is named is found, whatever its id.
func TestOverrideFindsTheRunThatIsNamed(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	for _, id := range []string{"00OLDEST", "ZZNEWEST"} {
		anew(t, e)
		first := fakeRecovery((&lamp{}).step("one"))
		first.Run = id
		expect(t, interruptIn(t, e, first, "one"), Interrupted)
		expect(t, mustRun(t, e, Request{Recovery: fakeRecovery(), Override: id, Reason: "test"}), Done)
		var finished *FinishedError
		if _, err := e.Run(t.Context(), Request{Recovery: fakeRecovery(), Override: id, Reason: "again"}); !errors.As(err, &finished) {
			t.Errorf("overriding it again: got error %v", err)
		}
		var noRun *NoRunError
		if _, err := e.Run(t.Context(), Request{Recovery: fakeRecovery(), Override: "01NONE", Reason: "?"}); !errors.As(err, &noRun) {
			t.Errorf("overriding nothing: got error %v", err)
		}
	}
}

// A damaged journal cannot be ended: the run that passes by it says so itself,
// once and for all.
func TestOverrideOfADamagedRun(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	first := fakeRecovery((&lamp{}).step("one"))
	expect(t, interruptIn(t, e, first, "one"), Interrupted)
	path := journalPath(e.StateDir, first.Run)
	damaged := bytes.Replace([]byte(readFile(t, path)), []byte(`"before"`), []byte(`"BEFORE"`), 1)
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	var unfinished *UnfinishedError
	if _, err := e.Run(t.Context(), Request{Recovery: fakeRecovery()}); !errors.As(err, &unfinished) || unfinished.Run.Damage == "" {
		t.Fatalf("got error %v", err)
	}
	expect(t, mustRun(t, e, Request{Recovery: fakeRecovery(), Override: first.Run, Reason: "disk fault"}), Done)
	expect(t, mustRun(t, e, Request{Recovery: fakeRecovery()}), Done)
	if got := readFile(t, path); got != string(damaged) {
		t.Error("the evidence was changed")
	}
}

// The witness knows what the state directory cannot: a run on another machine.
func TestUnfinishedElsewhere(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	first := fakeRecovery((&lamp{}).step("one"), readOnly("check", Observation{}, nil))
	expect(t, mustRun(t, e, Request{Recovery: first}), Failed)

	other := &Engine{StateDir: t.TempDir(), Mesh: e.Mesh, Stamp: witnessclient.Stamp{Operator: "bob@laptop", Host: "laptop"}}
	var unfinished *UnfinishedError
	if _, err := other.Run(t.Context(), Request{Recovery: fakeRecovery()}); !errors.As(err, &unfinished) ||
		!unfinished.Run.Elsewhere || unfinished.Run.Run != first.Run || unfinished.Run.Host != "bastion" {
		t.Fatalf("got error %v", err)
	}
	dry := mustRun(t, other, Request{Recovery: fakeRecovery(), DryRun: true})
	if len(dry.Plan.Notes) != 1 || !strings.Contains(dry.Plan.Notes[0], first.Run) {
		t.Errorf("notes %v", dry.Plan.Notes)
	}
	expect(t, mustRun(t, other, Request{Recovery: fakeRecovery(), Override: first.Run, Reason: "that laptop is lost"}), Done)
	expect(t, mustRun(t, other, Request{Recovery: fakeRecovery()}), Done)

	elsewhere := *e.Mesh
	elsewhere.Name = "another mesh"
	third := &Engine{StateDir: t.TempDir(), Mesh: &elsewhere, Stamp: other.Stamp}
	expect(t, mustRun(t, third, Request{Recovery: fakeRecovery()}), Done)
}

// A witness that does not answer keeps nobody from a recovery, and is said.
func TestUnknownWhetherUnfinishedElsewhere(t *testing.T) {
	t.Parallel()
	e := engineOf(t, newMesh(t, "http://127.0.0.1:1", secretKey, "http://127.0.0.1:1", secretKey))
	result := mustRun(t, e, Request{Recovery: fakeRecovery((&lamp{}).step("one"))})
	expect(t, result, Done)
	if len(result.Plan.Notes) != 1 || !strings.Contains(result.Plan.Notes[0], "unfinished run of this mesh is not known: query events") {
		t.Errorf("notes %v", result.Plan.Notes)
	}
}
