package drill_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks"
	"github.com/infrafabric/meshctl/runbooks/drill"
	"github.com/infrafabric/meshctl/witnessclient"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A drill that recovers nothing must not end well, although the agents have
// helped themselves; what did not happen is null, not zero.
func TestLeftFaultFails(t *testing.T) {
	dir := t.TempDir()
	report, err := drill.RunA(t.Context(), drill.Options{Agents: 3, Dir: dir, LeaveFault: true})
	if err != nil {
		t.Fatal(err)
	}
	if report.Verdict != probes.Fail || report.Manual.Met || !report.Automatic.Met {
		t.Errorf("verdict %s, manual %+v, automatic %+v", report.Verdict, report.Manual, report.Automatic)
	}
	failed := map[string]bool{}
	for _, c := range report.Validation.Checks {
		failed[c.ID] = c.Verdict == probes.Fail
	}
	if !failed["turn.configuration"] || !failed["turn.replacement"] {
		t.Errorf("checks %+v", report.Validation.Checks)
	}
	data, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Run    any
		Manual map[string]any
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Run != nil || doc.Manual["recovered_ms"] != nil {
		t.Errorf("run %v, manual %v", doc.Run, doc.Manual)
	}
	if journals, err := filepath.Glob(filepath.Join(dir, "state", "runs", "*.jsonl")); err != nil || len(journals) != 1 {
		t.Errorf("kept journals %v, %v", journals, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "lab", "witness.jsonl")); err != nil {
		t.Error(err)
	}
}

// The whole drill: fault, recovery by the agents, recovery by hand, validation
// of all phases and the evidence.
func TestDrillA(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	report, err := drill.RunA(t.Context(), drill.Options{Agents: 3, Stamp: witnessclient.Stamp{Operator: "ann@bastion"}})
	if err != nil {
		t.Fatal(err)
	}
	// A busy machine is slow to deliver, which warns and is no fault of the drill.
	for _, c := range report.Validation.Checks {
		if c.Verdict != probes.Pass && c.ID != "delivery" && c.ID != "latency" {
			t.Errorf("check %+v", c)
		}
	}
	if !report.Automatic.Met || !report.Manual.Met || *report.Automatic.RecoveredMS <= 0 || *report.Manual.RecoveredMS <= *report.Automatic.RecoveredMS {
		t.Errorf("automatic %+v, manual %+v", report.Automatic, report.Manual)
	}
	if report.Recovery.Outcome != runbooks.Done || report.Run == nil || *report.FailoverID != *report.Run || len(report.Pairs) != 6 {
		t.Errorf("recovery %+v, pairs %v", report.Recovery, report.Pairs)
	}
	if a := report.Audit; a.Chain != witnessclient.ChainOK || a.Delivered != a.Events || a.Events == 0 {
		t.Errorf("audit %+v", a)
	}
	if d := report.Delivery; d.Sent == 0 || d.Received == 0 || d.Corrupt != 0 {
		t.Errorf("delivery %+v", d)
	}
	if report.Verdict != report.Validation.Verdict {
		t.Errorf("verdict %s (%s), and the validation says %s", report.Verdict, report.Reason, report.Validation.Verdict)
	}
}

// Every pair says when it heard last and first again.
func TestOutageOfEveryPair(t *testing.T) {
	report, err := drill.RunA(t.Context(), drill.Options{Agents: 2, LeaveFault: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Pairs) != 2 {
		t.Fatalf("pairs %+v", report.Pairs)
	}
	for _, p := range report.Pairs {
		if p.OutageMS == nil || p.FirstAfterMS == nil || *p.FirstAfterMS-p.LastBeforeMS < *p.OutageMS-1 || *p.OutageMS < 100 {
			t.Errorf("%+v: an outage is what lies between", p)
		}
	}
}
