package runbooks

import (
	"bytes"
	"strings"
	"testing"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

// A file whose end was cut off is whole by itself; what the witness holds
// beyond it gives it away.
func TestTailThatIsMissing(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	result := mustRun(t, e, Request{Recovery: fakeRecovery((&lamp{}).step("one"))})
	expect(t, result, Done)
	path := journalPath(e.StateDir, result.Run)
	lines := bytes.SplitAfter([]byte(readFile(t, path)), []byte("\n"))
	for keep := 2; keep < len(lines)-1; keep++ {
		writeFile(t, path, string(bytes.Join(lines[:keep], nil)))
		all, err := e.VerifyEvidence(t.Context(), []string{result.Run}, true)
		if err != nil {
			t.Fatal(err)
		}
		// Only lines of delivery may be missing unnoticed: they are not evidence.
		lost := bytes.Contains(bytes.Join(lines[keep:], nil), []byte(`{"event"`))
		if v := all[0]; lost != (v.Verdict == probes.Fail) || lost != strings.Contains(v.Summary, "unanchored tail: the witness holds") || lost && v.Chain != witnessclient.ChainUnanchored {
			t.Errorf("%d lines of %d kept: %s %s %s", keep, len(lines)-1, v.Verdict, v.Chain, v.Summary)
		}
	}
}

// A witness that has lost what it acknowledged is not a flush that is due.
func TestWitnessHoldsFewer(t *testing.T) {
	t.Parallel()
	v := Evidence{Verification: witnessclient.Verification{Events: 5, Acked: 5, Chain: witnessclient.ChainOK}, Verdict: probes.Pass}
	v.compare(witnessclient.Comparison{Matching: 4, Missing: 1, Reason: "the witness does not hold run_started (line 2)"})
	if v.Verdict != probes.Fail || !strings.Contains(v.Summary, "fewer events than it acknowledged: 1 are missing (the witness does not hold run_started (line 2))") {
		t.Errorf("%s %s", v.Verdict, v.Summary)
	}
}
