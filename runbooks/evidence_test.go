package runbooks

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

// exactlyOnce checks that the witness stored every event of a run once.
func exactlyOnce(t *testing.T, l *lab.Lab, e *Engine, run string) {
	t.Helper()
	records, err := RunRecords(e.StateDir, run)
	if err != nil {
		t.Fatal(err)
	}
	events := 0
	for _, r := range records {
		if r.IsEvent() {
			events++
		}
	}
	stored := 0
	for key, n := range l.WitnessCount().ByKey {
		if strings.HasPrefix(key, run+"/") {
			stored++
			if n != 1 {
				t.Errorf("%s is stored %d times", key, n)
			}
		}
	}
	if stored != events || events == 0 {
		t.Errorf("the witness stored %d of %d events", stored, events)
	}
}

// onBothWitnesses tries with a witness that recognises an event that it has,
// and with one that does not.
func onBothWitnesses(t *testing.T, try func(*testing.T, *Engine, *lab.Lab)) {
	for name, noDedup := range map[string]bool{"recognises duplicates": false, "does not": true} {
		t.Run(name, func(t *testing.T) {
			e, l := witnessMesh(t, lab.Options{NoDedup: noDedup})
			try(t, e, l)
		})
	}
}

// A dead witness does not stop a recovery. Its events stay, and a flush
// delivers each of them exactly once, to a witness that knows duplicates and to
// one that does not.
func TestWitnessDown(t *testing.T) {
	t.Parallel()
	onBothWitnesses(t, func(t *testing.T, e *Engine, l *lab.Lab) {
		inject(t, l, "witness-down", "")
		one := &lamp{}
		result := mustRun(t, e, Request{Recovery: fakeRecovery(one.step("one"))})
		expect(t, result, Done)
		if a := result.Audit; a.Delivered != 0 || a.Events != 5 || a.Chain != witnessclient.ChainOK || a.Problem == "" {
			t.Errorf("audit %+v", a)
		}
		flushed, err := e.Flush(t.Context())
		if err != nil || flushed.Sent != 0 || flushed.Left != 5 || len(flushed.Problems) != 1 {
			t.Errorf("flushed %+v, %v", flushed, err)
		}
		heal(t, l, "witness-down", "")
		flushed, err = e.Flush(t.Context())
		if err != nil || flushed.Sent != 5 || flushed.Left != 0 || len(flushed.Problems) != 0 {
			t.Errorf("flushed %+v, %v", flushed, err)
		}
		exactlyOnce(t, l, e, result.Run)
		before := l.WitnessCount().Requests
		flushed, err = e.Flush(t.Context())
		if err != nil || flushed.Sent+flushed.AlreadyThere+flushed.Left != 0 || l.WitnessCount().Requests != before {
			t.Errorf("a second flush: %+v, %v", flushed, err)
		}
	})
}

// The reply to one event is lost: it is asked for, not sent again.
func TestWitnessLosesReply(t *testing.T) {
	t.Parallel()
	onBothWitnesses(t, func(t *testing.T, e *Engine, l *lab.Lab) {
		inject(t, l, "witness-loses-reply", "")
		result := mustRun(t, e, Request{Recovery: fakeRecovery((&lamp{}).step("one"))})
		expect(t, result, Done)
		if _, err := e.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		exactlyOnce(t, l, e, result.Run)
		runs, err := Runs(e.StateDir)
		if err != nil || runs[0].Undelivered != 0 {
			t.Errorf("runs %+v, %v", runs, err)
		}
	})
}

// Where audit is required, nothing is changed that the witness has not
// acknowledged the intent of.
func TestRequireAudit(t *testing.T) {
	t.Parallel()
	t.Run("witness is down", func(t *testing.T) {
		e, l := witnessMesh(t, lab.Options{})
		e.RequireAudit = true
		inject(t, l, "witness-down", "")
		one := &lamp{}
		result := mustRun(t, e, Request{Recovery: fakeRecovery(one.step("one"))})
		expect(t, result, Refused)
		if one.applied != 0 || !strings.Contains(result.Reason, "the witness did not acknowledge") {
			t.Errorf("applied %d times, reason %q", one.applied, result.Reason)
		}
		heal(t, l, "witness-down", "")
		expect(t, mustRun(t, e, Request{Recovery: fakeRecovery(one.step("one"))}), Done) // a refused run is not in the way
	})
	t.Run("witness refuses the key", func(t *testing.T) {
		e, l := witnessMesh(t, lab.Options{})
		e.RequireAudit = true
		inject(t, l, "witness-401", "")
		one := &lamp{}
		expect(t, mustRun(t, e, Request{Recovery: fakeRecovery(one.step("one"))}), Refused)
		if one.applied != 0 {
			t.Errorf("applied %d times", one.applied)
		}
	})
	t.Run("witness goes down on the way", func(t *testing.T) {
		e, l := witnessMesh(t, lab.Options{})
		e.RequireAudit = true
		one, two := &lamp{}, &lamp{}
		s := one.step("one")
		s.Apply = func(ctx context.Context, key string, o Observation) error {
			inject(t, l, "witness-down", "")
			return one.apply(ctx, key, o)
		}
		result := mustRun(t, e, Request{Recovery: fakeRecovery(s, two.step("two"))})
		expect(t, result, Failed)
		if one.applied != 1 || two.applied != 0 || result.FailedStep != "two" || !slices.Equal(result.Changed(), []string{"one"}) {
			t.Errorf("applied %d and %d times, changed %v", one.applied, two.applied, result.Changed())
		}
	})
	t.Run("witness is there", func(t *testing.T) {
		e, l := witnessMesh(t, lab.Options{})
		e.RequireAudit = true
		one := &lamp{}
		s := one.step("one")
		s.Apply = func(ctx context.Context, key string, o Observation) error {
			if n := l.WitnessCount().Accepted; n != 2 {
				t.Errorf("the witness holds %d events when the change is made, not start and intent", n)
			}
			return one.apply(ctx, key, o)
		}
		expect(t, mustRun(t, e, Request{Recovery: fakeRecovery(s)}), Done)
	})
}

// The next run delivers what an earlier one could not.
func TestNextRunDeliversTheRest(t *testing.T) {
	t.Parallel()
	e, l := witnessMesh(t, lab.Options{})
	inject(t, l, "witness-down", "")
	first := mustRun(t, e, Request{Recovery: fakeRecovery()})
	heal(t, l, "witness-down", "")
	second := mustRun(t, e, Request{Recovery: fakeRecovery()})
	if a := first.Audit; a.Delivered != 0 {
		t.Errorf("first audit %+v", a)
	}
	exactlyOnce(t, l, e, first.Run)
	exactlyOnce(t, l, e, second.Run)
}

func TestLogEvent(t *testing.T) {
	t.Parallel()
	e, l := witnessMesh(t, lab.Options{})
	run, audit, err := e.LogEvent(t.Context(), "witness log", witnessclient.Event{Name: "incident_declared", Severity: "critical"})
	if err != nil || audit.Events != 3 || audit.Delivered != 3 || audit.Chain != witnessclient.ChainOK {
		t.Errorf("audit %+v, %v", audit, err)
	}
	exactlyOnce(t, l, e, run)
	expect(t, mustRun(t, e, Request{Recovery: fakeRecovery()}), Done) // it changes nothing and is never in the way
}

func TestVerifyEvidence(t *testing.T) {
	t.Parallel()
	e, l := witnessMesh(t, lab.Options{})
	verify := func(ask bool) (probes.Verdict, []Evidence) {
		t.Helper()
		all, err := e.VerifyEvidence(t.Context(), nil, ask)
		if err != nil {
			t.Fatal(err)
		}
		return EvidenceVerdict(all), all
	}
	if v, _ := verify(true); v != probes.Skip {
		t.Errorf("no journals: %s", v)
	}
	delivered := mustRun(t, e, Request{Recovery: fakeRecovery((&lamp{}).step("one"))})
	if v, all := verify(true); v != probes.Pass || all[0].Witness == nil || all[0].Witness.Matching != 5 {
		t.Errorf("whole: %s, %+v", v, all)
	}
	inject(t, l, "witness-down", "")
	if v, all := verify(true); v != probes.Unknown || !strings.Contains(all[0].Summary, "the witness could not be compared") {
		t.Errorf("witness down: %s, %+v", v, all)
	}
	if v, _ := verify(false); v != probes.Pass {
		t.Errorf("witness not asked: %s", v)
	}
	kept := mustRun(t, e, Request{Recovery: fakeRecovery()})
	heal(t, l, "witness-down", "")
	if v, all := verify(true); v != probes.Unknown || !strings.Contains(all[1].Summary, "3 events are not delivered yet") {
		t.Errorf("undelivered: %s, %+v", v, all)
	}
	path := journalPath(e.StateDir, delivered.Run)
	writeFile(t, path, strings.Replace(readFile(t, path), `"step":"one"`, `"step":"two"`, 1))
	if v, all := verify(true); v != probes.Fail || all[0].Chain != witnessclient.ChainBroken || all[0].Line == 0 {
		t.Errorf("changed afterwards: %s, %+v", v, all)
	}
	if _, err := e.VerifyEvidence(t.Context(), []string{"01NO"}, false); err == nil {
		t.Error("a run that does not exist was verified")
	}
	flushed, err := e.Flush(t.Context())
	if err != nil || flushed.Sent != 3 || len(flushed.Problems) != 1 {
		t.Errorf("a damaged journal keeps the others: %+v, %v", flushed, err)
	}
	exactlyOnce(t, l, e, kept.Run)
}

// An unfinished run is whole as far as it goes, which is not proof of its end.
func TestEvidenceOfUnfinishedRun(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	result := mustRun(t, e, Request{Recovery: fakeRecovery((&lamp{}).step("one"), readOnly("check", Observation{}, nil))})
	expect(t, result, Failed)
	all, err := e.VerifyEvidence(t.Context(), []string{result.Run}, true)
	if err != nil || len(all) != 1 || all[0].Verdict != probes.Unknown || all[0].Chain != witnessclient.ChainUnanchored {
		t.Errorf("evidence %+v, %v", all, err)
	}
}
