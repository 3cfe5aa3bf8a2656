package runbooks

import (
	"context"
	"fmt"
)

// FinishedError says that a run cannot be resumed or aborted any more.
type FinishedError struct{ Run, Outcome string }

func (e *FinishedError) Error() string {
	return fmt.Sprintf("open run %s: already finished (%s)", e.Run, e.Outcome)
}

// Resume goes on with an unfinished run: every step is observed first, and
// only what is not there yet is applied, under the same key as before.
// Preconditions belonged to the plan and are not asked again.
func (e *Engine) Resume(ctx context.Context, id string, undoOnFailure bool) (Result, error) {
	r, release, err := e.reopen(id, "resume of "+id)
	if err != nil {
		return Result{}, err
	}
	defer release()
	if err := e.adoptedElsewhere(ctx, id); err != nil {
		return Result{}, err
	}
	r.undoOnFailure = undoOnFailure
	if _, err := r.journal.AppendNote("resumed", map[string]any{"operator": e.Stamp.Operator, "host": e.Stamp.Host}); err != nil {
		return r.result, err
	}
	return r.steps(ctx)
}

// Abort ends an unfinished run, with undo after taking back what it applied.
func (e *Engine) Abort(ctx context.Context, id string, undo bool) (Result, error) {
	r, release, err := e.reopen(id, "abort of "+id)
	if err != nil {
		return Result{}, err
	}
	defer release()
	if undo {
		if err := e.adoptedElsewhere(ctx, id); err != nil {
			return Result{}, err
		}
		r.result.Steps = r.standing("applied by this run")
		return r.undoAll(ctx)
	}
	r.result.Steps = r.standing("left as it is")
	r.result.Outcome = Aborted
	return r.finish(r.result)
}

// reopen takes the lock and the journal of an unfinished run and rebuilds it
// from what its start recorded.
func (e *Engine) reopen(id, doing string) (*run, func(), error) {
	if _, err := findRun(e.StateDir, id); err != nil {
		return nil, nil, err
	}
	unlock, err := e.lock(doing, id)
	if err != nil {
		return nil, nil, err
	}
	r, err := e.rebuild(id)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return r, func() { r.close(); unlock() }, nil
}

func (e *Engine) rebuild(id string) (*run, error) {
	summary, err := findRun(e.StateDir, id)
	if err != nil {
		return nil, err
	}
	if summary.Damage != "" {
		return nil, fmt.Errorf("open run %s: %s", id, summary.Damage)
	}
	if summary.Outcome != "" {
		return nil, &FinishedError{Run: id, Outcome: summary.Outcome}
	}
	rec, err := e.rebuildRecovery(id, summary.start)
	if err != nil {
		return nil, err
	}
	journal, err := e.openJournal(id)
	if err != nil {
		return nil, err
	}
	journal.SetActor(e.Stamp)
	r := e.newRun(rec, journal)
	r.plan, r.resumed, r.keyRun = summary.start.Plan, true, summary.start.KeyRun
	r.result = Result{Run: id, FailoverID: summary.FailoverID, Plan: r.plan, Started: summary.Started, Objective: rec.Objective}
	return r, nil
}

// rebuildRecovery makes the recovery again that a start has recorded.
func (e *Engine) rebuildRecovery(id string, start startRecord) (*Recovery, error) {
	rb, ok := e.find(start.Runbook)
	if !ok {
		return nil, fmt.Errorf("open run %s: unknown runbook %q", id, start.Runbook)
	}
	rec, err := rb.Build(e.Mesh, start.Params)
	if err != nil {
		return nil, err
	}
	rec.Run = id
	return rec, rec.Restore(start.Facts)
}

func (e *Engine) find(name string) (Runbook, bool) {
	for _, rb := range e.known {
		if rb.Name == name {
			return rb, true
		}
	}
	return Find(name)
}
