package runbooks

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
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
// not applied is none.
func (r *run) intents() map[string]intentRecord {
	found := map[string]intentRecord{}
	open := "" // the step whose first intent was the record before
	for _, record := range r.journal.Records() {
		first := open
		open = ""
		switch name := record.Event.Name; {
		case name == "run_step_failed" && record.Event.Metadata["step"] == first && record.Event.Metadata["applied"] == false:
			delete(found, first)
		case name == "run_step_intent":
			var intent intentRecord
			if decodeMetadata(record.Event, &intent) != nil {
				continue
			}
			if _, seen := found[intent.Step]; !seen {
				found[intent.Step], open = intent, intent.Step
			}
		}
	}
	return found
}

// decodeMetadata reads an event's metadata into a struct.
func decodeMetadata(e witnessclient.Event, into any) error {
	data, err := json.Marshal(e.Metadata)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// undoAll takes back, in reverse order, what the run applied, and only that.
// The run counts as undone only when nothing stands any more.
func (r *run) undoAll(ctx context.Context) (Result, error) {
	intents := r.intents()
	clean := true
	for _, s := range slices.Backward(r.rec.Steps) {
		intent, applied := intents[s.ID]
		if !applied || r.undoneBefore(s.ID) {
			continue
		}
		result := r.undo(ctx, s, intent)
		clean = clean && result.Verdict == probes.Pass
		r.result.Undo = append(r.result.Undo, result)
		if err := r.event(witnessclient.Event{Name: "run_undone", Metadata: map[string]any{
			"step": s.ID, "verdict": string(result.Verdict), "summary": result.Summary,
		}}); err != nil {
			return r.result, err
		}
	}
	r.result.Outcome = Undone
	if !clean {
		r.result.Outcome, r.result.Ended = Failed, time.Now()
		r.result.Audit = r.deliver()
		return r.result, nil
	}
	return r.finish(r.result)
}

func (r *run) undo(ctx context.Context, s Step, intent intentRecord) StepResult {
	started := time.Now()
	result := StepResult{ID: s.ID, Title: s.Title, Verdict: probes.Pass, Summary: "as before"}
	if s.Undo == nil {
		result.Verdict, result.Summary = probes.Fail, "this step cannot be undone"
		return result
	}
	r.note(s.ID, "undo", 0)
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	if err := s.Undo(ctx, intent.Key+"/undo", intent.Before); err != nil {
		result.Verdict, result.Summary = probes.Fail, err.Error()
	}
	result.TookMS = time.Since(started).Milliseconds()
	return result
}

// undoneBefore tells whether an earlier undo took the step back and nothing
// applied it again since.
func (r *run) undoneBefore(step string) bool {
	undone := false
	for _, record := range r.journal.Records() {
		e := record.Event
		switch {
		case e.Metadata["step"] != step:
		case e.Name == "run_step_intent":
			undone = false
		case e.Name == "run_undone" && e.Metadata["verdict"] == string(probes.Pass):
			undone = true
		}
	}
	return undone
}

// journalled tells whether the journal holds an event, of a step if one is named.
func (r *run) journalled(step, name string) bool {
	for _, record := range r.journal.Records() {
		if record.Event.Name == name && (step == "" || record.Event.Metadata["step"] == step) {
			return true
		}
	}
	return false
}
