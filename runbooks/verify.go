package runbooks

import (
	"context"
	"fmt"

	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

// Evidence is the verdict on one journal.
type Evidence struct {
	witnessclient.Verification
	Verdict probes.Verdict            `json:"verdict"`
	Summary string                    `json:"summary"`
	Witness *witnessclient.Comparison `json:"witness"` // null: not asked, or no answer
}

// VerifyEvidence checks journals, all of them when none is named, and compares
// them with what the witness holds.
func (e *Engine) VerifyEvidence(ctx context.Context, runs []string, ask bool) ([]Evidence, error) {
	if len(runs) == 0 {
		all, err := Runs(e.StateDir)
		if err != nil {
			return nil, err
		}
		for _, r := range all {
			runs = append(runs, r.Run)
		}
	}
	verified := make([]Evidence, 0, len(runs))
	for _, run := range runs {
		if _, err := findRun(e.StateDir, run); err != nil {
			return nil, err
		}
		v, err := witnessclient.VerifyJournal(journalPath(e.StateDir, run))
		if err != nil {
			return nil, err
		}
		verified = append(verified, e.judgeEvidence(ctx, v, ask))
	}
	return verified, nil
}

func (e *Engine) judgeEvidence(ctx context.Context, v witnessclient.Verification, ask bool) Evidence {
	evidence := Evidence{Verification: v, Verdict: probes.Pass, Summary: "whole and anchored"}
	switch v.Chain {
	case witnessclient.ChainBroken:
		evidence.Verdict, evidence.Summary = probes.Fail, fmt.Sprintf("broken at line %d: %s", v.Line, v.Reason)
		return evidence
	case witnessclient.ChainUnanchored:
		evidence.Verdict, evidence.Summary = probes.Unknown, "unanchored tail: "+v.Reason
	}
	if !ask {
		return evidence
	}
	held, err := witnessclient.VerifyWitness(ctx, e.Mesh.Witness, v)
	if err != nil {
		evidence.Verdict = evidence.Verdict.Worse(probes.Unknown)
		evidence.Summary += "; the witness could not be compared: " + err.Error()
		return evidence
	}
	evidence.Witness = &held
	evidence.compare(held)
	return evidence
}

// compare adds what the witness holds. A file that ends before what the witness
// holds has lost its end, whatever it looks like by itself.
func (e *Evidence) compare(held witnessclient.Comparison) {
	verdict, summary := probes.Fail, ""
	switch waiting := e.Events - e.Acked; {
	case held.OK():
		verdict, summary = probes.Pass, fmt.Sprintf("the witness holds the same %d events", held.Matching)
	case held.Beyond > 0:
		e.Chain = witnessclient.ChainUnanchored
		summary = fmt.Sprintf("unanchored tail: the witness holds %d events more than the file, whose end is missing", held.Beyond)
	case held.Missing > 0 && held.Missing <= waiting && held.Extra+held.Duplicated+held.Altered == 0:
		verdict, summary = probes.Unknown, fmt.Sprintf("%d events are not delivered yet: meshctl witness flush", held.Missing)
	case held.Missing > waiting:
		summary = fmt.Sprintf("the witness holds fewer events than it acknowledged: %d are missing", held.Missing)
	default:
		summary = fmt.Sprintf("the witness differs: %d missing, %d extra, %d duplicated, %d altered", held.Missing, held.Extra, held.Duplicated, held.Altered)
	}
	e.Verdict = e.Verdict.Worse(verdict)
	e.Summary += "; " + summary
	if verdict == probes.Fail && held.Reason != "" {
		e.Summary += " (" + held.Reason + ")"
	}
}

// EvidenceVerdict is the verdict on all journals; none at all prove nothing
// and damage nothing.
func EvidenceVerdict(all []Evidence) probes.Verdict {
	verdict := probes.Skip
	for _, e := range all {
		verdict = verdict.Worse(e.Verdict)
	}
	return verdict
}
