package runbooks

import (
	"fmt"
	"time"

	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

// begun is what the journal knows of a step that must not be applied twice.
type begun struct {
	inDoubt     bool
	takenAsDone string // who said so, and why
	at          time.Time
	operator    string
	key, diff   string
}

// begun reads the journal: an intent puts the step in doubt, until it was
// certainly not applied or a human has decided.
func (r *run) begun(step string) begun {
	var b begun
	for _, e := range r.events() {
		if e.Metadata["step"] != step {
			continue
		}
		switch assumed := e.Metadata["assumed"] == true; e.Name {
		case stepIntent:
			b = begun{inDoubt: true, at: e.Timestamp}
			b.operator, _ = e.Metadata["operator"].(string)
			b.key, _ = e.Metadata["key"].(string)
			b.diff, _ = e.Metadata["diff"].(string)
		case stepDone:
			if assumed {
				b.takenAsDone, _ = e.Metadata["summary"].(string)
			}
		case stepFailed:
			if e.Metadata["applied"] == false {
				b = begun{}
			}
		}
	}
	return b
}

// doubtError stops a run at a step that must not be applied twice and of
// which nobody can say whether it was applied.
type doubtError struct {
	step  string
	begun begun
	found Observation
}

func (e *doubtError) Error() string {
	return fmt.Sprintf("%s was begun %s by %s (key %s), must not be done twice, and is not seen to be done: %s%s. Look whether it was done, and say so",
		e.step, e.begun.at.Format(time.RFC3339), e.begun.operator, e.begun.key, e.found.Summary, e.found.Blind)
}

// Decide records what a human has found out about a step in doubt, so that the
// run can be resumed: done, or certainly not done. It changes nothing else. A
// step taken as done without being seen stays unknown.
func (e *Engine) Decide(run, step string, done bool, reason string) error {
	r, release, err := e.reopen(run, "decision on "+step+" of "+run)
	if err != nil {
		return err
	}
	defer release()
	if b := r.begun(step); !b.inDoubt || b.takenAsDone != "" || !r.once(step) {
		return &ParamError{"assume", fmt.Sprintf("step %q of %s is not in doubt", step, run)}
	}
	event := witnessclient.Event{Name: stepFailed, Metadata: map[string]any{"step": step, "assumed": true, "applied": false, "error": decision("not done", e.Stamp.Operator, reason)}}
	if done {
		event = witnessclient.Event{Name: stepDone, Metadata: map[string]any{
			"step": step, "assumed": true, "verdict": string(probes.Unknown), "summary": decision("done", e.Stamp.Operator, reason),
		}}
	}
	return r.event(event)
}

func decision(what, operator, reason string) string {
	text := "taken as " + what + " by " + operator
	if reason != "" {
		text += ": " + reason
	}
	return text
}

func (r *run) once(step string) bool {
	for _, s := range r.rec.Steps {
		if s.ID == step {
			return s.Effect == Once
		}
	}
	return false
}
