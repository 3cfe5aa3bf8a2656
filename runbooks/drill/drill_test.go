package drill_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks/drill"
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
