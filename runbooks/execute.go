package runbooks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks/targets"
	"github.com/infrafabric/meshctl/witnessclient"
)

// notAppliedError wraps the cause of a change that was certainly not made.
type notAppliedError struct{ err error }

func (e *notAppliedError) Error() string { return e.err.Error() }
func (e *notAppliedError) Unwrap() error { return e.err }

var errNotAudited = errors.New("audit is required and the witness did not acknowledge the intent: this step was not begun")

// pollInterval is how often a fact that should change is looked at again.
const pollInterval = 200 * time.Millisecond

// step observes, applies and observes again; a check of changes is only observed.
func (r *run) step(ctx context.Context, s Step) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.note(s.ID, s.Title, 0)
	started := time.Now()
	if s.Effect == ReadOnly {
		return r.check(ctx, s, started)
	}
	before, err := r.observe(ctx, s)
	if err != nil {
		return r.failed(s, StepResult{}, started, &notAppliedError{err})
	}
	if before.Met {
		return r.done(s, StepResult{Verdict: probes.Pass, Summary: before.Summary}, started, true)
	}
	if s.Effect == Once {
		switch begun := r.begun(s.ID); {
		case begun.takenAsDone != "":
			return r.done(s, StepResult{Verdict: probes.Unknown, Applied: true, Summary: "not seen to be done; " + begun.takenAsDone}, started, false)
		case begun.inDoubt:
			return r.failed(s, StepResult{Applied: true}, started, &doubtError{s.ID, begun, before})
		}
	}
	if planned := r.plan.match(s.ID); planned != "" && planned != before.Match {
		return r.failed(s, StepResult{}, started, &notAppliedError{&targets.ChangedError{Object: s.ID}})
	}
	if err := r.intend(s, before); err != nil {
		return err
	}
	if !r.audited() {
		return r.failed(s, StepResult{}, started, &notAppliedError{errNotAudited})
	}
	return r.apply(ctx, s, before, started)
}

func (r *run) observe(ctx context.Context, s Step) (Observation, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	return s.Observe(ctx)
}

// intend makes the intent durable before its effect can exist.
func (r *run) intend(s Step, before Observation) error {
	err := r.event(witnessclient.Event{Name: stepIntent, Metadata: fields(intentRecord{
		Step: s.ID, Effect: s.Effect, Key: r.key(s), Diff: before.Diff, Match: before.Match, Before: before.Before,
	})})
	return err
}

// key is the same on every attempt, by whomever.
func (r *run) key(s Step) string { return cmp.Or(r.keyRun, r.result.Run) + "/" + s.ID }

// apply makes the change and waits until it is seen. An interrupt gives a
// running Apply a grace, so that it is not cut in the middle.
func (r *run) apply(ctx context.Context, s Step, before Observation, started time.Time) error {
	applyCtx, cancel := graceContext(ctx, s.Timeout, r.grace())
	defer cancel()
	result := StepResult{Applied: true, Diff: before.Diff}
	if err := s.Apply(applyCtx, r.key(s), before); err != nil && !r.tookEffect(ctx, s) {
		if errors.As(err, new(*targets.ChangedError)) {
			err = &notAppliedError{err}
			result.Applied = false
		}
		return r.failed(s, result, started, fmt.Errorf("apply: %w", err))
	}
	after, err := r.await(ctx, s)
	result.Summary = after.Summary
	switch {
	case err != nil:
		return r.failed(s, result, started, err)
	case after.Blind != "":
		r.unproven = append(r.unproven, s)
		result.Verdict, result.Summary = probes.Unknown, after.Blind
		return r.done(s, result, started, false)
	}
	result.Verdict = probes.Pass
	return r.done(s, result, started, false)
}

// tookEffect tells whether a change whose apply failed, or had no time left, is
// there all the same: a lost reply is not a lost change.
func (r *run) tookEffect(ctx context.Context, s Step) bool {
	o, err := r.observe(ctx, s)
	return err == nil && o.Met
}

func (r *run) grace() time.Duration {
	if r.Grace > 0 {
		return r.Grace
	}
	return 5 * time.Second
}

// graceContext ends at the timeout, or a grace after ctx ends.
func graceContext(ctx context.Context, timeout, grace time.Duration) (context.Context, context.CancelFunc) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(grace):
			cancel()
		case <-bounded.Done():
		}
	})
	return bounded, func() { stop(); cancel() }
}

// await polls the fact a step is about until it holds or the step's time is
// over. A change that this mesh cannot show does not hold the run up; a check
// is waited for, because agents may still report what proves it.
func (r *run) await(ctx context.Context, s Step) (Observation, error) {
	deadline := time.Now().Add(s.Timeout)
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last Observation
	var lastErr error
	for {
		last, lastErr = r.observe(ctx, s)
		blind := lastErr == nil && last.Blind != ""
		over := time.Now().After(deadline)
		switch {
		case lastErr == nil && last.Met, blind && (over || s.Effect != ReadOnly):
			return last, nil
		case over:
			return last, notSeen(s, last, lastErr)
		}
		select {
		case <-ctx.Done():
			return last, context.Cause(ctx)
		case <-ticker.C:
			r.note(s.ID, "waiting: "+waitingFor(last, lastErr), time.Until(deadline))
		}
	}
}

func waitingFor(o Observation, err error) string {
	if err != nil {
		return err.Error()
	}
	return o.Summary + o.Blind
}

func notSeen(s Step, o Observation, err error) error {
	if err != nil {
		return &unseenError{fmt.Errorf("could not be seen for %s: %w", s.Timeout, err)}
	}
	return fmt.Errorf("not so after %s: %s", s.Timeout, o.Summary)
}

// unseenError says that a fact could not be read, which is not that it is false.
type unseenError struct{ err error }

func (e *unseenError) Error() string { return e.err.Error() }
func (e *unseenError) Unwrap() error { return e.err }

// check verifies changes: a fact, or a window over time.
func (r *run) check(ctx context.Context, s Step, started time.Time) error {
	if s.Watch != nil {
		sample := r.watch(ctx, s, r.changesStand)
		if err := ctx.Err(); err != nil {
			return err
		}
		if sample.Verdict == probes.Fail {
			return r.failed(s, StepResult{}, started, errors.New(sample.Summary))
		}
		return r.done(s, StepResult{Verdict: sample.Verdict, Summary: sample.Summary}, started, false)
	}
	o, err := r.await(ctx, s)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var unseen *unseenError
	switch {
	case errors.As(err, &unseen):
		return r.done(s, StepResult{Verdict: probes.Unknown, Summary: unseen.Error()}, started, false)
	case err != nil:
		return r.failed(s, StepResult{}, started, err)
	case o.Blind != "":
		return r.done(s, StepResult{Verdict: probes.Unknown, Summary: o.Blind}, started, false)
	}
	return r.done(s, StepResult{Verdict: probes.Pass, Summary: o.Summary}, started, false)
}

// proveLate looks again at changes that could not be seen when they were
// made: a later step may have brought the proof.
func (r *run) proveLate(ctx context.Context) error {
	for _, s := range r.unproven {
		o, err := r.observe(ctx, s)
		if err != nil || !o.Met {
			continue
		}
		for i := range r.result.Steps {
			if r.result.Steps[i].ID == s.ID {
				r.result.Steps[i].Verdict, r.result.Steps[i].Summary = probes.Pass, o.Summary
			}
		}
		if err := r.event(witnessclient.Event{Name: stepDone, Metadata: map[string]any{"step": s.ID, "verdict": "pass", "summary": o.Summary}}); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) done(s Step, result StepResult, started time.Time, noop bool) error {
	r.record(s, &result, started)
	err := r.event(witnessclient.Event{Name: stepDone, Metadata: map[string]any{
		"step": s.ID, "verdict": string(result.Verdict), "noop": noop, "summary": result.Summary, "took_ms": result.TookMS,
	}})
	r.note(s.ID, string(result.Verdict)+": "+result.Summary, 0)
	return err
}

// failed journals the failure and returns it, or the journal's own failure.
func (r *run) failed(s Step, result StepResult, started time.Time, cause error) error {
	result.Verdict, result.Summary = probes.Fail, cause.Error()
	r.record(s, &result, started)
	err := r.event(witnessclient.Event{Name: stepFailed, Metadata: map[string]any{
		"step": s.ID, "error": cause.Error(), "applied": result.Applied, "took_ms": result.TookMS,
	}})
	r.note(s.ID, "failed: "+cause.Error(), 0)
	if err != nil {
		return err
	}
	return cause
}

func (r *run) record(s Step, result *StepResult, started time.Time) {
	result.ID, result.Title, result.TookMS = s.ID, s.Title, time.Since(started).Milliseconds()
	r.result.Steps = append(r.result.Steps, *result)
}
