package runbooks

import (
	"time"

	"github.com/infrafabric/meshctl/probes"
)

// Outcome is how a run ended.
type Outcome string

// The outcomes of a run. Planned, NothingToDo and Refused changed nothing.
const (
	Planned      Outcome = "planned"
	NothingToDo  Outcome = "nothing_to_do"
	Refused      Outcome = "refused"
	Done         Outcome = "done"
	Undetermined Outcome = "unknown"     // changed, but the proof is missing
	Undone       Outcome = "undone"      // failed, and every change was undone
	Failed       Outcome = "failed"      // failed, changes stand: a human must look
	Interrupted  Outcome = "interrupted" // resumable
	Aborted      Outcome = "aborted"     // ended by hand, changes stand
	Overridden   Outcome = "overridden"  // ended by a later run that passed by it
)

// StepResult is how one step ended.
type StepResult struct {
	ID      string         `json:"id"`
	Title   string         `json:"title"`
	Verdict probes.Verdict `json:"verdict"`
	Applied bool           `json:"applied"`
	Summary string         `json:"summary"`
	Diff    string         `json:"diff,omitempty"`
	TookMS  int64          `json:"took_ms"`
}

// Audit is the state of a run's evidence.
type Audit struct {
	Events    int    `json:"events"`
	Delivered int    `json:"delivered"`
	Chain     string `json:"chain"`
	Problem   string `json:"problem,omitempty"`
}

// Result is what a run did and proved.
type Result struct {
	Run        string       `json:"run"`
	FailoverID string       `json:"failover_id"`
	Outcome    Outcome      `json:"outcome"`
	DryRun     bool         `json:"dry_run"`
	Plan       Plan         `json:"plan"`
	Steps      []StepResult `json:"steps"`
	FailedStep string       `json:"failed_step,omitempty"`
	Reason     string       `json:"reason,omitempty"`
	InDoubt    string       `json:"in_doubt,omitempty"` // the step of which a human must say whether it was done
	Hint       string       `json:"hint,omitempty"`
	Undo       []StepResult `json:"undo,omitempty"`
	Started    time.Time    `json:"started"`
	Ended      time.Time    `json:"ended"`
	// RecoveredAt is when the recovery was proved, before stability was watched.
	RecoveredAt time.Time     `json:"-"`
	Objective   time.Duration `json:"-"`
	Audit       Audit         `json:"audit"`
	stands      []string
}

// Changed lists the steps whose change stands: as far as the run's journal
// knows, also what an earlier process applied.
func (r Result) Changed() []string { return r.stands }
