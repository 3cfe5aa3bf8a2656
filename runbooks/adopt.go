package runbooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/infrafabric/meshctl/witnessclient"
)

// adoptedNote keeps an event of the adopted run in the journal of the one that
// goes on with it: its exact line, and the hash that the witness holds.
type adoptedNote struct {
	Run  string          `json:"run"`
	Seq  int             `json:"seq"`
	Hash string          `json:"hash"`
	Line json.RawMessage `json:"line"`
}

const noteAdopted = "adopted"

// AdoptedError says that somebody has taken a run over on another machine.
type AdoptedError struct {
	Run, By, Operator, Host string
	At                      time.Time
}

func (e *AdoptedError) Error() string {
	return fmt.Sprintf("open run %s: adopted as %s by %s on %s at %s", e.Run, e.By, e.Operator, e.Host, e.At.Format(time.RFC3339))
}

// AskError says that the witness could not be asked: nothing is known.
type AskError struct{ Err error }

func (e *AskError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *AskError) Unwrap() error { return e.Err }

// HeldRun gives what the witness holds of a run. Errors: *AskError,
// *NoRunError, and *witnessclient.HeldError, with which records come.
func (e *Engine) HeldRun(ctx context.Context, run string) ([]witnessclient.Record, error) {
	records, err := witnessclient.HeldRun(ctx, e.Mesh.Witness, run)
	switch {
	case err == nil && len(records) == 0:
		return nil, &NoRunError{Run: run, Dir: "the witness"}
	case err != nil && !errors.As(err, new(*witnessclient.HeldError)):
		return nil, &AskError{err}
	}
	return records, err
}

// Adopt takes over an unfinished run of another machine, from what the witness
// holds of it, and gives the id of the run that goes on with it: resume or
// abort that one. It has a journal and audit keys of its own, because the other
// machine may come back with events that it could not deliver; its steps keep
// the keys of the first run, so that nothing is done twice. What the other
// machine has done and could not tell is found by observing.
func (e *Engine) Adopt(ctx context.Context, run, reason string) (id string, err error) {
	if _, err := findRun(e.StateDir, run); err == nil {
		return "", &ParamError{"adopt", run + " is a run of this machine: resume it"}
	}
	unlock, err := e.lock("adoption of "+run, run)
	if err != nil {
		return "", err
	}
	defer unlock()
	records, err := e.HeldRun(ctx, run)
	if err != nil {
		return "", err
	}
	start, err := e.adoptable(run, records)
	if err != nil {
		return "", err
	}
	if _, _, err := e.refuseUnfinished(ctx, run); err != nil {
		return "", err
	}
	if err := e.adoptedElsewhere(ctx, run); err != nil {
		return "", err
	}
	if start.KeyRun == "" {
		start.KeyRun = run
	}
	start.Adopts, start.Override, start.Reason, start.PID = run, "", reason, os.Getpid()
	return e.writeAdoption(records, start)
}

// adoptable checks that the run can be gone on with here.
func (e *Engine) adoptable(run string, records []witnessclient.Record) (startRecord, error) {
	var start startRecord
	first, last := records[0].Event, records[len(records)-1].Event
	if first.Name != witnessclient.RunStarted || decodeMetadata(first, &start) != nil || !start.Changes {
		return start, &ParamError{"adopt", run + " is no recovery"}
	}
	if last.Name == witnessclient.RunFinished {
		outcome, _ := last.Metadata["outcome"].(string)
		return start, &FinishedError{Run: run, Outcome: outcome}
	}
	if start.Mesh != e.Mesh.Name {
		return start, &ParamError{"adopt", fmt.Sprintf("%s is a run of the mesh %s, not of %s", run, start.Mesh, e.Mesh.Name)}
	}
	_, err := e.rebuildRecovery(run, start)
	return start, err
}

// writeAdoption writes the history first and the start last: a journal without
// a start is no run, so a crash here leaves nothing behind that is half true.
func (e *Engine) writeAdoption(records []witnessclient.Record, start startRecord) (string, error) {
	first, stamp := records[0].Event, e.Stamp
	stamp.Run, stamp.FailoverID, stamp.IncidentID, stamp.Scenario = NewRunID(), first.FailoverID, first.IncidentID, first.Scenario
	journal, err := e.createJournal(stamp)
	if err != nil {
		return "", err
	}
	r := e.newRun(nil, journal)
	defer r.close()
	for _, record := range records {
		note := adoptedNote{Run: start.Adopts, Seq: record.Seq, Hash: record.Hash, Line: record.Line}
		if _, err := journal.AppendNote(noteAdopted, note); err != nil {
			return "", err
		}
	}
	if err := r.event(witnessclient.Event{Name: witnessclient.RunStarted, Metadata: fields(start)}); err != nil {
		return "", err
	}
	r.deliver() // so that the other machine can know; what is left stays in the journal
	return stamp.Run, nil
}

// adoptedElsewhere keeps two machines from going on with one run. That the
// witness cannot be asked is said, and refuses nothing.
func (e *Engine) adoptedElsewhere(ctx context.Context, run string) error {
	events, err := e.Mesh.Witness.Query(ctx, witnessclient.Query{
		Match: map[string]any{"event": witnessclient.RunStarted, "metadata.adopts": run}, From: elsewhereSpan, To: "now",
	})
	if err != nil {
		e.note("", "warning: whether another machine has adopted "+run+" is not known: "+err.Error(), 0)
		return nil
	}
	for _, event := range events {
		by, _ := event.Metadata["run"].(string)
		if _, err := findRun(e.StateDir, by); err == nil || event.Metadata["adopts"] != run {
			continue
		}
		adopted := &AdoptedError{Run: run, By: by, At: event.Timestamp}
		adopted.Operator, _ = event.Metadata["operator"].(string)
		adopted.Host, _ = event.Metadata["host"].(string)
		return adopted
	}
	return nil
}

// adopted reads the events that a note keeps.
func adopted(record witnessclient.Record) (witnessclient.Event, bool) {
	var note adoptedNote
	var event witnessclient.Event
	if record.Note != noteAdopted || json.Unmarshal(record.Data, &note) != nil {
		return event, false
	}
	return event, json.Unmarshal(note.Line, &event) == nil
}
