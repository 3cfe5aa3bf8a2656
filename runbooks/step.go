package runbooks

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/infrafabric/meshctl/probes"
)

// Effect says what applying a step twice does.
type Effect string

// The effects of a step.
const (
	ReadOnly   Effect = "read-only"  // changes nothing; is checked once the changes are made
	Idempotent Effect = "idempotent" // applying it again is harmless
	Once       Effect = "once"       // must never be applied twice
)

// Observation is what a step found at the place it acts on.
type Observation struct {
	// Met: it is already as wanted.
	Met bool
	// Blind says why this mesh cannot show whether the step is met, for ever:
	// the endpoint or field does not exist. It is never read as met.
	Blind string
	// Summary is one line for the operator; Diff what applying would change.
	Summary, Diff string
	// Before is what Undo needs; no secrets, because it is journalled.
	Before json.RawMessage
	// Match is what Apply must still find (compare-and-swap).
	Match string
}

// Step is one change, or one check of changes made. Observe only reads.
type Step struct {
	ID, Title string
	Effect    Effect
	// Timeout bounds Apply and the observation that follows it.
	Timeout time.Duration
	Observe func(ctx context.Context) (Observation, error)
	// Apply makes the change. The key is run/step, the same on every attempt.
	Apply func(ctx context.Context, key string, o Observation) error
	// Watch, instead of Observe, verifies over a window.
	Watch *Watch
	// Undo is nil when the change cannot be undone; the plan says so. Before it
	// is called, Observe must find the step as the run left it (Met), or cannot
	// tell; a target that is neither so nor as before is left alone.
	Undo func(ctx context.Context, key string, before json.RawMessage) error
	// NothingToUndo says, instead of Undo, why nothing of this step stands once
	// the others are undone: its effect is over.
	NothingToUndo string
	// After marks a check of stability: the mesh counts as recovered before it.
	After bool
}

// Sample is one look during a watch.
type Sample struct {
	Verdict probes.Verdict
	Summary string
}

// Watch takes samples over a window and lets the last ones decide.
type Watch struct {
	Every, For time.Duration
	// NeedInARow samples at the end must not fail.
	NeedInARow int
	// MaxUnknown samples without data; more make the window unknown.
	MaxUnknown int
	Sample     func(ctx context.Context) Sample
}

// checkSteps refuses a runbook whose steps could hang or could not be judged.
func checkSteps(steps []Step) error {
	seen := map[string]bool{}
	for _, s := range steps {
		switch {
		case s.ID == "" || seen[s.ID]:
			return fmt.Errorf("build runbook: step %q: ids must be unique", s.ID)
		case s.Timeout <= 0:
			return fmt.Errorf("build runbook: step %s: no timeout", s.ID)
		case (s.Observe == nil) == (s.Watch == nil):
			return fmt.Errorf("build runbook: step %s: needs either observe or watch", s.ID)
		case (s.Effect == ReadOnly) != (s.Apply == nil):
			return fmt.Errorf("build runbook: step %s: apply does not fit effect %q", s.ID, s.Effect)
		case s.NothingToUndo != "" && s.Undo != nil:
			return fmt.Errorf("build runbook: step %s: has an undo and says that there is nothing to undo", s.ID)
		}
		seen[s.ID] = true
	}
	return nil
}
