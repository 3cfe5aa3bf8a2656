package runbooks

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

// Flushed is what a flush delivered.
type Flushed struct {
	Sent         int      `json:"sent"`
	AlreadyThere int      `json:"already_there"`
	Left         int      `json:"left"`
	Problems     []string `json:"problems"`
}

// Flush delivers what earlier runs could not, journal by journal. One that
// cannot be delivered does not keep the others.
func (e *Engine) Flush(ctx context.Context) (Flushed, error) {
	journals, err := witnessclient.List(RunsDir(e.StateDir))
	flushed := Flushed{Problems: []string{}}
	if err != nil {
		return flushed, fmt.Errorf("flush: %w", err)
	}
	for _, j := range journals {
		if j.Err != nil {
			flushed.Problems = append(flushed.Problems, j.Err.Error())
			continue
		}
		if j.Unacked == 0 {
			continue
		}
		e.note("flush", j.Stamp.Run, 0)
		d, err := e.flushOne(ctx, j.Path)
		flushed.Sent, flushed.AlreadyThere = flushed.Sent+d.Sent, flushed.AlreadyThere+d.AlreadyThere
		if err != nil {
			d.Left = j.Unacked
			flushed.Problems = append(flushed.Problems, fmt.Sprintf("%s: %v", j.Stamp.Run, err))
		}
		flushed.Left += d.Left
		if ctx.Err() != nil {
			return flushed, context.Cause(ctx)
		}
	}
	return flushed, nil
}

func (e *Engine) flushOne(ctx context.Context, path string) (witnessclient.Delivery, error) {
	journal, err := witnessclient.OpenJournal(path)
	if err != nil {
		return witnessclient.Delivery{}, err
	}
	defer journal.Close() //nolint:errcheck // every append was synced already
	d, err := witnessclient.Deliver(ctx, e.Mesh.Witness, journal)
	return d, errors.Join(err, d.LastError)
}

// LogEvent journals one event by itself and hands it to the witness.
func (e *Engine) LogEvent(ctx context.Context, event witnessclient.Event) (run string, audit Audit, err error) {
	stamp := e.Stamp
	stamp.Run = NewRunID()
	if err := os.MkdirAll(RunsDir(e.StateDir), 0o700); err != nil {
		return "", Audit{}, err
	}
	journal, err := witnessclient.CreateJournal(journalPath(e.StateDir, stamp.Run), stamp)
	if err != nil {
		return "", Audit{}, err
	}
	r := e.newRun(nil, journal)
	defer r.close()
	for _, ev := range []witnessclient.Event{
		{Name: witnessclient.RunStarted, Metadata: fields(startRecord{Runbook: "witness log", Mesh: e.Mesh.Name, PID: os.Getpid()})},
		event,
		{Name: witnessclient.RunFinished, Metadata: map[string]any{"outcome": string(Done)}},
	} {
		if err := r.event(ev); err != nil {
			return stamp.Run, Audit{}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return stamp.Run, Audit{}, err
	}
	return stamp.Run, r.deliver(), nil
}

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
	switch {
	case err != nil:
		evidence.Verdict = evidence.Verdict.Worse(probes.Unknown)
		evidence.Summary += "; the witness could not be compared: " + err.Error()
		return evidence
	case held.Missing > 0 && held.Missing == v.Events-v.Acked && held.Extra+held.Duplicated+held.Altered == 0:
		evidence.Verdict = evidence.Verdict.Worse(probes.Unknown)
		evidence.Summary += fmt.Sprintf("; %d events are not delivered yet: meshctl witness flush", held.Missing)
	case !held.OK():
		evidence.Verdict = probes.Fail
		evidence.Summary += fmt.Sprintf("; the witness differs: %d missing, %d extra, %d duplicated, %d altered", held.Missing, held.Extra, held.Duplicated, held.Altered)
	default:
		evidence.Summary += fmt.Sprintf("; the witness holds the same %d events", held.Matching)
	}
	evidence.Witness = &held
	return evidence
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
