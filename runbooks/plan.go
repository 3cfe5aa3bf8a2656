package runbooks

import (
	"context"
	"fmt"
)

// Plan is what a run would do, observed and not applied.
type Plan struct {
	Runbook  string     `json:"runbook"`
	Scenario string     `json:"scenario"`
	GoalMet  bool       `json:"goal_met"`
	Blast    string     `json:"blast_radius"`
	Notes    []string   `json:"notes,omitempty"`
	Problems []Problem  `json:"problems,omitempty"`
	Steps    []StepPlan `json:"steps"`
	facts    []byte
}

// StepPlan is one step of a plan.
type StepPlan struct {
	ID       string `json:"id"`
	Title    string `json:"title"`
	Effect   Effect `json:"effect"`
	Met      bool   `json:"met"`
	Summary  string `json:"summary,omitempty"`
	Diff     string `json:"diff,omitempty"`
	Undoable bool   `json:"undoable"`
	// NothingToUndo says why nothing would be left to undo.
	NothingToUndo string `json:"nothing_to_undo,omitempty"`
	Match         string `json:"match,omitempty"`
}

// Changes tells whether the plan would change anything.
func (p Plan) Changes() bool {
	for _, s := range p.Steps {
		if s.Effect != ReadOnly && !s.Met {
			return true
		}
	}
	return false
}

// MakePlan surveys the mesh and observes every changing step. It only reads.
func MakePlan(ctx context.Context, rec *Recovery, past []RunSummary) (Plan, error) {
	if err := checkSteps(rec.Steps); err != nil {
		return Plan{}, err
	}
	situation, err := rec.Survey(ctx, past)
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{
		Runbook: rec.Runbook, Scenario: rec.Scenario, GoalMet: situation.GoalMet, Blast: situation.Blast,
		Notes: situation.Notes, Problems: situation.Problems, facts: situation.Facts,
	}
	for _, s := range rec.Steps {
		planned, err := planStep(ctx, s)
		if err != nil {
			plan.Problems = append(plan.Problems, Problem{
				Summary: fmt.Sprintf("step %s cannot be observed: %v", s.ID, err),
				Hint:    "nothing was changed; make the target readable and try again",
			})
			continue
		}
		plan.Steps = append(plan.Steps, planned)
	}
	return plan, ctx.Err()
}

// planStep observes a changing step; a check of changes has nothing to show yet.
func planStep(ctx context.Context, s Step) (StepPlan, error) {
	planned := StepPlan{ID: s.ID, Title: s.Title, Effect: s.Effect, Undoable: s.Undo != nil, NothingToUndo: s.NothingToUndo}
	if s.Effect == ReadOnly {
		return planned, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	o, err := s.Observe(ctx)
	planned.Met, planned.Summary, planned.Diff, planned.Match = o.Met, o.Summary, o.Diff, o.Match
	return planned, err
}

func (p Plan) match(step string) string {
	for _, s := range p.Steps {
		if s.ID == step {
			return s.Match
		}
	}
	return ""
}
