package runbooks

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/infrafabric/meshctl/witnessclient"
)

// Subject is the recovery that a validation judges. Without a known recovery
// the checks that need one answer unknown.
type Subject struct {
	FailoverID string
	// Run is the recovery's own run, "" when no recovery is known.
	Run string
	// EndedAt is when the recovery ended; zero when not known.
	EndedAt time.Time
	facts   turnFacts
	known   bool
}

// NewSubject describes a failed server and the mesh before it failed, for a
// rehearsal that knows both. Replacement may be empty: nothing was recovered.
func NewSubject(failoverID, failed string, baseline []string, endedAt time.Time) *Subject {
	return &Subject{
		FailoverID: failoverID, EndedAt: endedAt, known: true,
		facts: turnFacts{Failed: failed, Baseline: baseline, BaselineKnown: true, UsersKnown: true, SurveyedAt: endedAt},
	}
}

// findSubject looks for the recovery in the journals, then at the witness.
func (e *Engine) findSubject(ctx context.Context, scenario, failoverID string) Subject {
	runs, err := Runs(e.StateDir)
	if err == nil {
		for _, r := range slices.Backward(runs) {
			if s := r.subject(scenario, failoverID); s != nil {
				return *s
			}
		}
	}
	if failoverID == "" {
		return Subject{}
	}
	return e.subjectFromWitness(ctx, failoverID)
}

// subject is nil when the run is not a finished recovery of that scenario and id.
func (s RunSummary) subject(scenario, failoverID string) *Subject {
	recovered := s.Outcome == string(Done) || s.Outcome == string(Undetermined)
	if !s.Changes || !recovered || s.Scenario != scenario || (failoverID != "" && s.FailoverID != failoverID) {
		return nil
	}
	subject := &Subject{FailoverID: s.FailoverID, Run: s.Run, EndedAt: s.Finished}
	subject.known = json.Unmarshal(s.start.Facts, &subject.facts) == nil
	return subject
}

// subjectFromWitness rebuilds a recovery that ran on another machine.
func (e *Engine) subjectFromWitness(ctx context.Context, failoverID string) Subject {
	unknown := Subject{FailoverID: failoverID}
	events, err := e.Mesh.Witness.Query(ctx, witnessclient.Query{
		Match: map[string]any{"failover_id": failoverID}, From: "-30d", To: "now",
	})
	if err != nil {
		return unknown
	}
	byRun := map[string]*RunSummary{}
	for _, event := range events {
		run, _ := event.Metadata["run"].(string)
		if byRun[run] == nil {
			byRun[run] = &RunSummary{Run: run}
		}
		byRun[run].add(event)
	}
	for _, s := range byRun {
		if found := s.subject(s.Scenario, failoverID); found != nil {
			return *found
		}
	}
	return unknown
}
