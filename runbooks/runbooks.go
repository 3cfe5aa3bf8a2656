// Package runbooks answers: what would recover this mesh, what will that
// change, did it work, and can it be proved, resumed or undone?
//
// A runbook is a list of steps that observe, apply and observe again. The
// engine journals every intent before its effect and never reports more than
// it saw: no data is unknown, never a success.
package runbooks

import (
	"context"
	"encoding/json"
	"time"

	"github.com/infrafabric/meshctl/witnessclient"
)

// Runbook is one kind of recovery. Build makes it for a mesh and its
// parameters, the same way for a new run and for one that is resumed.
type Runbook struct {
	Name, Scenario, Summary string
	Build                   func(m *Mesh, params json.RawMessage) (*Recovery, error)
}

// All lists the runbooks; adding a recovery adds a line here.
func All() []Runbook {
	return []Runbook{
		{Name: TurnRecoverName, Scenario: "A", Summary: "replace a failed TURN server", Build: buildTurnRecover},
		{Name: TurnDrainName, Summary: "move users off a TURN server", Build: buildTurnMove(NewTurnDrain)},
		{Name: TurnRestoreName, Summary: "return a TURN server to use", Build: buildTurnMove(NewTurnRestore)},
		{Name: MeshAdaptName, Summary: "bound what agents send", Build: buildMeshAdapt},
	}
}

// Find returns the runbook of that name.
func Find(name string) (Runbook, bool) {
	for _, rb := range All() {
		if rb.Name == name {
			return rb, true
		}
	}
	return Runbook{}, false
}

// Recovery is a runbook bound to a mesh and parameters, ready to be planned.
type Recovery struct {
	// Run is the run's id; a resumed run gets its old one.
	Run               string
	Runbook, Scenario string
	Params            json.RawMessage
	// Objective is the time in which the scenario is to be recovered by hand.
	Objective time.Duration
	// Survey asks once for what plan and steps need: preconditions, the goal,
	// the blast radius. It only reads. Past are the runs that this mesh has had,
	// as far as they are known.
	Survey func(ctx context.Context, past []RunSummary) (Situation, error)
	// Restore gives a resumed run the facts that its plan saw.
	Restore func(facts json.RawMessage) error
	Steps   []Step
	// Completed is the event by which the audit log knows the recovery.
	Completed func(operator string) witnessclient.Event
}

// Situation is what a survey found.
type Situation struct {
	// GoalMet: everything the runbook is for holds already.
	GoalMet bool
	// Problems are preconditions that do not hold; any of them refuses the run.
	Problems []Problem
	// Blast says in one line whom the run touches.
	Blast string
	// Notes are what the operator should know and nothing refuses.
	Notes []string
	// Facts are journalled, so that a resumed run and a validation know them.
	Facts json.RawMessage
}

// Problem is one precondition that does not hold and what to do about it.
type Problem struct {
	Summary string `json:"summary"`
	Hint    string `json:"hint,omitempty"`
}
