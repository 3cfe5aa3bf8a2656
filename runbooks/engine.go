package runbooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

// Note is one line of progress. Notes come in order, from one goroutine.
type Note struct {
	Step string
	Text string
	// Left is the time left of a wait, 0 where it is not known.
	Left time.Duration
}

// Engine runs recoveries on one mesh: one at a time, journalled, resumable.
type Engine struct {
	// StateDir holds the lock and the journals of this mesh.
	StateDir string
	Mesh     *Mesh
	// Stamp identifies operator, host and version; run and failover id are
	// filled in for every run.
	Stamp witnessclient.Stamp
	// Notify receives progress; nil discards it.
	Notify func(Note)
	// Journalled is told of every event of a recovery once it is durable; nil
	// tells nobody. It must not wait.
	Journalled func(witnessclient.Event)
	// RequireAudit refuses to act without an acknowledged intent.
	RequireAudit bool
	// Grace is how long a running Apply may go on after an interrupt; 0 is 5 s.
	Grace time.Duration

	known []Runbook // nil: All
	disk  witnessclient.Disk
}

// Request is one recovery asked of the engine.
type Request struct {
	Recovery               *Recovery
	FailoverID, IncidentID string
	Reason                 string
	DryRun, UndoOnFailure  bool
	// Override is the id of an unfinished run that this one may pass by.
	Override string
	// Confirm is shown the plan before anything is changed; nil confirms.
	Confirm func(Plan) (bool, error)
}

// NewRunID returns a sortable, unique id for a run.
func NewRunID() string { return ulid.Make().String() }

// Run plans a recovery and, unless it is a dry run, carries it out. The error
// is for what kept the engine itself from answering: a lock, an unfinished
// run, a journal that cannot be written. Everything else is in the Result.
func (e *Engine) Run(ctx context.Context, req Request) (Result, error) {
	if req.DryRun {
		past, warning, err := e.refuseUnfinished(ctx, req.Override)
		if err != nil { // what would refuse the real run
			warning = err.Error()
		}
		return e.plan(ctx, req, past, warning)
	}
	release, err := e.lock(req.Recovery.Runbook, req.Recovery.Run)
	if err != nil {
		return Result{}, err
	}
	defer release()
	past, warning, err := e.refuseUnfinished(ctx, req.Override)
	if err != nil {
		return Result{}, err
	}
	result, err := e.plan(ctx, req, past, warning)
	if err != nil || result.Outcome != Planned {
		return result, err
	}
	if req.Confirm != nil {
		yes, err := req.Confirm(result.Plan)
		if err != nil {
			return result, err
		}
		if !yes {
			return refused(result, "not confirmed", ""), nil
		}
	}
	return e.carryOut(ctx, req, result)
}

// plan surveys and observes; the warning is added to what the operator sees.
func (e *Engine) plan(ctx context.Context, req Request, past []RunSummary, warning string) (Result, error) {
	result := Result{Started: time.Now(), DryRun: req.DryRun, Objective: req.Recovery.Objective, Outcome: Planned}
	plan, err := MakePlan(ctx, req.Recovery, past)
	if err != nil {
		if ctx.Err() != nil {
			result.Outcome = Interrupted
			return result, nil
		}
		return result, err
	}
	if warning != "" {
		plan.Notes = append(plan.Notes, warning)
		e.note("", "warning: "+warning, 0)
	}
	result.Plan, result.Ended = plan, time.Now()
	switch {
	case len(plan.Problems) > 0:
		result = refused(result, plan.Problems[0].Summary, plan.Problems[0].Hint)
	case plan.GoalMet:
		result.Outcome = NothingToDo
	}
	return result, nil
}

func refused(r Result, reason, hint string) Result {
	r.Outcome, r.Reason, r.Hint = Refused, reason, hint
	return r
}

// carryOut journals the start and runs every step of a confirmed plan.
func (e *Engine) carryOut(ctx context.Context, req Request, result Result) (Result, error) {
	stamp := e.Stamp
	stamp.Run, stamp.Scenario, stamp.IncidentID = req.Recovery.Run, req.Recovery.Scenario, req.IncidentID
	stamp.FailoverID = req.FailoverID
	if stamp.FailoverID == "" {
		stamp.FailoverID = stamp.Run
	}
	result.Run, result.FailoverID = stamp.Run, stamp.FailoverID
	journal, err := e.createJournal(stamp)
	if err != nil {
		return result, err
	}
	r := e.newRun(req.Recovery, journal)
	defer r.close()
	r.result, r.plan, r.undoOnFailure = result, result.Plan, req.UndoOnFailure
	if err := r.event(witnessclient.Event{Name: witnessclient.RunStarted, Metadata: startMetadata(e.Mesh.Name, req, result.Plan)}); err != nil {
		return r.result, err
	}
	if !r.audited() {
		return r.finish(refused(r.result, "the witness did not acknowledge the start of the run", "audit is required: nothing was changed"))
	}
	if req.Override != "" {
		if err := e.passBy(req.Override, stamp.Run, req.Reason); err != nil {
			return r.result, err
		}
	}
	return r.steps(ctx)
}

// startRecord is what run_started carries beside the stamp: all that a resume,
// an abort or a validation needs to know of the run.
type startRecord struct {
	Runbook string `json:"runbook"`
	Mesh    string `json:"mesh"`
	Changes bool   `json:"changes"`
	// ObjectiveMS is the time in which the scenario is to be recovered.
	ObjectiveMS int64  `json:"objective_ms,omitempty"`
	PID         int    `json:"pid"`
	Reason      string `json:"reason,omitempty"`
	// KeyRun is in the keys of steps, where it is not the run itself: the first
	// of the runs that were adopted.
	KeyRun string `json:"key_run,omitempty"`
	// Override is the run that this one passes by, Adopts the one of another
	// machine that it goes on with.
	Override string          `json:"override,omitempty"`
	Adopts   string          `json:"adopts,omitempty"`
	Params   json.RawMessage `json:"params"`
	Plan     Plan            `json:"plan"`
	Facts    json.RawMessage `json:"facts"`
}

func startMetadata(mesh string, req Request, plan Plan) map[string]any {
	return fields(startRecord{
		Runbook: req.Recovery.Runbook, Mesh: mesh, Changes: true, ObjectiveMS: req.Recovery.Objective.Milliseconds(), PID: os.Getpid(), Reason: req.Reason, Override: req.Override,
		Params: req.Recovery.Params, Plan: plan, Facts: plan.facts,
	})
}

// fields turns a struct into event metadata.
func fields(v any) map[string]any {
	data, err := json.Marshal(v)
	if err != nil {
		return map[string]any{"unreadable": err.Error()}
	}
	var m map[string]any
	if json.Unmarshal(data, &m) != nil {
		return map[string]any{}
	}
	return m
}

// run is one recovery being carried out.
type run struct {
	*Engine
	rec           *Recovery
	journal       *witnessclient.Journal
	outbox        *witnessclient.Outbox
	plan          Plan
	result        Result
	undoOnFailure bool
	resumed       bool
	keyRun        string // "": the run itself
	unproven      []Step
}

func (e *Engine) newRun(rec *Recovery, journal *witnessclient.Journal) *run {
	return &run{Engine: e, rec: rec, journal: journal, outbox: witnessclient.NewOutbox(e.Mesh.Witness, journal)}
}

// close ends what runs in the background. Evidence that is not delivered yet
// stays in the journal.
func (r *run) close() {
	if r.outbox != nil {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		r.outbox.Final(ended)
	}
	_ = r.journal.Close() // every append was synced already
}

// event journals an event; the outbox hands it to the witness from there.
func (r *run) event(e witnessclient.Event) error {
	record, err := r.journal.Append(e)
	if err == nil && r.rec != nil && r.Journalled != nil {
		r.Journalled(record.Event)
	}
	return err
}

func (e *Engine) note(step, text string, left time.Duration) {
	if e.Notify != nil {
		e.Notify(Note{Step: step, Text: text, Left: left})
	}
}

// steps runs every step; the first that fails or is interrupted ends it.
func (r *run) steps(ctx context.Context) (Result, error) {
	for _, s := range r.rec.Steps {
		if s.After && r.result.RecoveredAt.IsZero() {
			r.result.RecoveredAt = time.Now()
		}
		if err := r.step(ctx, s); err != nil {
			return r.stopped(ctx, s, err)
		}
	}
	if err := r.proveLate(ctx); err != nil {
		return r.result, err
	}
	if r.result.RecoveredAt.IsZero() {
		r.result.RecoveredAt = time.Now()
	}
	return r.complete()
}

// complete writes the completion event, unless a proof is missing.
func (r *run) complete() (Result, error) {
	r.result.Outcome = Done
	for _, s := range r.result.Steps {
		if s.Verdict == probes.Unknown {
			r.result.Outcome = Undetermined
			r.result.Reason = "step " + s.ID + ": " + s.Summary
		}
	}
	if r.result.Outcome == Undetermined {
		r.result.RecoveredAt = time.Time{}
	}
	if r.result.Outcome == Done && r.rec.Completed != nil && !r.journalled("", r.rec.Completed(r.Stamp.Operator).Name) {
		if err := r.event(r.rec.Completed(r.Stamp.Operator)); err != nil {
			return r.result, err
		}
	}
	return r.finish(r.result)
}

// finish writes run_finished and hands the evidence to the witness.
func (r *run) finish(result Result) (Result, error) {
	result.Ended = time.Now()
	result.stands = r.stands()
	metadata := map[string]any{"outcome": string(result.Outcome)}
	if result.Outcome == Done && !result.RecoveredAt.IsZero() {
		metadata["recovered_ms"] = result.RecoveredAt.Sub(result.Started).Milliseconds()
	}
	if err := r.event(witnessclient.Event{Name: witnessclient.RunFinished, Metadata: metadata}); err != nil {
		return result, err
	}
	r.note("", "delivering audit events", 0)
	result.Audit = r.deliver()
	if result.Audit.Delivered == result.Audit.Events {
		r.flushOthers()
	}
	return result, nil
}

// flushOthers delivers what earlier runs could not, now that the witness is
// there. What is left stays in their journals.
func (e *Engine) flushOthers() {
	ctx, cancel := context.WithTimeout(context.Background(), deliverTimeout)
	defer cancel()
	if flushed, err := e.Flush(ctx); err != nil || flushed.Left > 0 {
		e.note("", fmt.Sprintf("%d audit events of earlier runs are still not delivered", flushed.Left), 0)
	}
}

// deliver makes a last, bounded attempt to hand this run's events over.
func (r *run) deliver() Audit {
	ctx, cancel := context.WithTimeout(context.Background(), deliverTimeout)
	defer cancel()
	d := r.outbox.Final(ctx)
	r.outbox = witnessclient.NewOutbox(r.Mesh.Witness, r.journal)
	contents := r.journal.Contents()
	audit := Audit{Events: contents.Events, Delivered: contents.Acked}
	if d.LastError != nil {
		audit.Problem = d.LastError.Error()
	}
	v, err := witnessclient.VerifyJournal(r.journal.Path())
	audit.Chain = v.Chain
	switch {
	case err != nil:
		audit.Chain, audit.Problem = "unknown", err.Error()
	case v.Chain != witnessclient.ChainOK && audit.Problem == "":
		audit.Problem = v.Reason
	}
	return audit
}

const deliverTimeout = 10 * time.Second

// audited tells whether the run may act: where audit is required, the witness
// holds all that was journalled.
func (r *run) audited() bool {
	if !r.RequireAudit {
		return true
	}
	audit := r.deliver()
	return audit.Delivered == audit.Events
}

// interrupted leaves a mark; the run can be resumed.
func (r *run) interrupted(step string) (Result, error) {
	r.result.Outcome, r.result.FailedStep, r.result.Ended, r.result.stands = Interrupted, step, time.Now(), r.stands()
	_, err := r.journal.AppendNote("interrupted", map[string]string{"step": step})
	return r.result, err
}

// stopped ends a run whose step did not get through.
func (r *run) stopped(ctx context.Context, s Step, err error) (Result, error) {
	var broken *witnessclient.BrokenError
	if errors.As(err, &broken) {
		r.result.Outcome, r.result.FailedStep, r.result.stands = Failed, s.ID, r.stands()
		return r.result, err
	}
	if ctx.Err() != nil {
		return r.interrupted(s.ID)
	}
	r.result.FailedStep, r.result.Reason = s.ID, err.Error()
	if errors.As(err, new(*doubtError)) {
		r.result.InDoubt = s.ID
	}
	if len(r.stands()) == 0 && !r.resumed && errors.As(err, new(*notAppliedError)) {
		return r.finish(refused(r.result, r.result.Reason, "nothing was changed; plan again"))
	}
	if !r.undoOnFailure {
		return r.failedFor(), nil
	}
	return r.undoAll(ctx)
}

// failedFor ends a run that a human must look at; it stays unfinished.
func (r *run) failedFor() Result {
	r.result.Outcome, r.result.Ended, r.result.stands = Failed, time.Now(), r.stands()
	r.result.Audit = r.deliver()
	return r.result
}
