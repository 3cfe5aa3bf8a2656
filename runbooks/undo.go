package runbooks

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

// The events of a step.
const (
	stepIntent = "run_step_intent"
	stepDone   = "run_step_done"
	stepFailed = "run_step_failed"
	stepUndone = "run_undone"
)

// intentRecord is what run_step_intent carries: all that an undo needs.
type intentRecord struct {
	Step   string          `json:"step"`
	Effect Effect          `json:"effect"`
	Key    string          `json:"key"`
	Diff   string          `json:"diff,omitempty"`
	Match  string          `json:"match,omitempty"`
	Before json.RawMessage `json:"before,omitempty"`
}

// intents returns the first journalled intent of every step: what was there
// before the run touched it. An intent that failed at once and was certainly
// not applied is none, nor is one of which somebody said so.
func (r *run) intents() map[string]intentRecord {
	found := map[string]intentRecord{}
	open := "" // the step whose first intent was the event before
	for _, e := range r.events() {
		first := open
		open = ""
		step, _ := e.Metadata["step"].(string)
		switch e.Name {
		case stepFailed:
			if e.Metadata["applied"] == false && (step == first || e.Metadata["assumed"] == true) {
				delete(found, step)
			}
		case stepIntent:
			var intent intentRecord
			if decodeMetadata(e, &intent) != nil {
				continue
			}
			if _, seen := found[intent.Step]; !seen {
				found[intent.Step], open = intent, intent.Step
			}
		}
	}
	return found
}

// events are what the run has journalled so far, after what was journalled of
// it on another machine.
func (r *run) events() []witnessclient.Event {
	var events []witnessclient.Event
	for _, record := range r.journal.Records() {
		if record.IsEvent() {
			events = append(events, record.Event)
		} else if event, ok := adopted(record); ok {
			events = append(events, event)
		}
	}
	return events
}

// standing are the steps whose change stands, as far as the journal knows.
func (r *run) standing(summary string) []StepResult {
	var steps []StepResult
	intents := r.intents()
	for _, s := range r.rec.Steps {
		if _, applied := intents[s.ID]; applied && !r.undoneBefore(s.ID) {
			steps = append(steps, StepResult{ID: s.ID, Title: s.Title, Verdict: probes.Unknown, Applied: true, Summary: summary})
		}
	}
	return steps
}

// decodeMetadata reads an event's metadata into a struct.
func decodeMetadata(e witnessclient.Event, into any) error {
	data, err := json.Marshal(e.Metadata)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// stands are the ids of these steps.
func (r *run) stands() []string {
	var ids []string
	for _, s := range r.standing("") {
		ids = append(ids, s.ID)
	}
	return ids
}

// undoAll takes back, in reverse order, what the run applied, and only that.
// The run counts as undone only when nothing stands any more. An interrupt lets
// the running undo end.
func (r *run) undoAll(ctx context.Context) (Result, error) {
	intents, clean := r.intents(), true
	for _, s := range slices.Backward(r.rec.Steps) {
		intent, applied := intents[s.ID]
		if !applied || r.undoneBefore(s.ID) {
			continue
		}
		if ctx.Err() != nil {
			return r.interrupted(s.ID)
		}
		result := r.undo(ctx, s, intent)
		clean = clean && (result.Verdict == probes.Pass || result.Verdict == probes.Skip)
		r.result.Undo = append(r.result.Undo, result)
		if err := r.event(witnessclient.Event{Name: stepUndone, Metadata: map[string]any{
			"step": s.ID, "verdict": string(result.Verdict), "summary": result.Summary,
		}}); err != nil {
			return r.result, err
		}
	}
	r.result.Outcome = Undone
	if !clean {
		return r.failedFor(), nil
	}
	return r.finish(r.result)
}

func (r *run) undo(ctx context.Context, s Step, intent intentRecord) StepResult {
	started := time.Now()
	result := StepResult{ID: s.ID, Title: s.Title, Verdict: probes.Pass, Summary: "as before"}
	switch {
	case s.NothingToUndo != "":
		result.Verdict, result.Summary = probes.Skip, "nothing to undo: "+s.NothingToUndo
		return result
	case s.Undo == nil:
		result.Verdict, result.Summary = probes.Fail, "this step cannot be undone"
		return result
	}
	r.note(s.ID, "undo", 0)
	ctx, cancel := graceContext(ctx, s.Timeout, r.grace())
	defer cancel()
	if err := r.takeBack(ctx, s, intent); err != nil {
		result.Verdict, result.Summary = probes.Fail, err.Error()
	}
	result.TookMS = time.Since(started).Milliseconds()
	return result
}

// lateError refuses an undo after the world has moved on.
type lateError struct{ step string }

func (e *lateError) Error() string {
	return "too late to undo " + e.step + ": it is neither as this run left it nor as it was before; somebody else has changed it"
}

// takeBack undoes a step unless it is as before already. What somebody else has
// changed since is not overwritten.
func (r *run) takeBack(ctx context.Context, s Step, intent intentRecord) error {
	o, err := r.observe(ctx, s)
	switch comparable := o.Match != "" && intent.Match != ""; {
	case err != nil:
		return fmt.Errorf("not undone, because what is there now cannot be read: %w", err)
	case o.Met || o.Blind != "" || !comparable:
		return s.Undo(ctx, intent.Key+"/undo", intent.Before)
	case o.Match == intent.Match:
		return nil
	}
	return &lateError{s.ID}
}

// undoneBefore tells whether an earlier undo took the step back and nothing
// applied it again since.
func (r *run) undoneBefore(step string) bool {
	undone := false
	for _, e := range r.events() {
		switch {
		case e.Metadata["step"] != step:
		case e.Name == stepIntent:
			undone = false
		case e.Name == stepUndone && e.Metadata["verdict"] != string(probes.Fail):
			undone = true
		}
	}
	return undone
}

// journalled tells whether the journal holds an event, of a step if one is named.
func (r *run) journalled(step, name string) bool {
	for _, e := range r.events() {
		if e.Name == name && (step == "" || e.Metadata["step"] == step) {
			return true
		}
	}
	return false
}
