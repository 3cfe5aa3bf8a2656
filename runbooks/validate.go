package runbooks

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

// The phases of a validation, by the time since the recovery ended.
const (
	PhaseImmediate = "immediate"
	PhaseShort     = "short"
	PhaseStability = "stability"
	PhaseAll       = "all"
)

// CheckResult is one answered check of a validation.
type CheckResult struct {
	ID       string         `json:"id"`
	Phase    string         `json:"phase"`
	Verdict  probes.Verdict `json:"verdict"`
	Required bool           `json:"required"`
	Summary  string         `json:"summary"`
	Hint     string         `json:"hint"`
	TookMS   int64          `json:"took_ms"`
	Facts    map[string]any `json:"facts"`
}

// Validation says whether a recovery worked, as far as that could be seen.
type Validation struct {
	Run        string         `json:"run"`
	Scenario   string         `json:"scenario"`
	FailoverID string         `json:"failover_id"`
	Verdict    probes.Verdict `json:"verdict"`
	Scale      float64        `json:"timings_scale"`
	Checks     []CheckResult  `json:"checks"`
	Audit      Audit          `json:"audit"`
}

// ValidateRequest says what to validate.
type ValidateRequest struct {
	Scenario, FailoverID string
	Phase                string
	// NoWait answers unknown for a phase whose time has not come.
	NoWait bool
	// Subject is the recovery to judge, where the caller knows it; otherwise
	// the journals, then the witness, are asked for it.
	Subject *Subject
}

// check is one question of a validation.
type check struct {
	id, phase string
	ask       func(ctx context.Context) answer
}

// answer is what a check found.
type answer struct {
	verdict       probes.Verdict
	summary, hint string
	facts         map[string]any
}

func unknown(err error) answer {
	return answer{verdict: probes.Unknown, summary: err.Error(), hint: "make the source readable and validate again"}
}

// validation is one validation under way.
type validation struct {
	engine  *Engine
	mesh    *Mesh
	run     string
	subject Subject
	journal *witnessclient.Journal
	noWait  bool
}

// Validate asks every check of the phases wanted, journals the verdict and
// hands it to the witness. The error is for a request or a state directory
// that keeps it from answering at all.
func (e *Engine) Validate(ctx context.Context, req ValidateRequest) (Validation, error) {
	if req.Scenario != "A" {
		return Validation{}, &ParamError{"scenario", fmt.Sprintf("%q has no validation; known: A", req.Scenario)}
	}
	if req.Phase != PhaseAll && phaseRank(req.Phase) < 0 {
		return Validation{}, &ParamError{"phase", fmt.Sprintf("%q is not immediate, short, stability or all", req.Phase)}
	}
	v, err := e.openValidation(ctx, req)
	if err != nil {
		return Validation{}, err
	}
	defer v.journal.Close() //nolint:errcheck // every append was synced already; closed twice is closed
	result := Validation{Run: v.run, Scenario: req.Scenario, FailoverID: v.subject.FailoverID, Scale: e.Mesh.Timings.Scale}
	for _, phase := range []string{PhaseImmediate, PhaseShort, PhaseStability} {
		if req.Phase == phase || req.Phase == PhaseAll {
			result.Checks = append(result.Checks, v.phase(ctx, phase)...)
		}
	}
	result.Verdict = overall(result.Checks)
	if ctx.Err() != nil {
		_, err := v.journal.AppendNote("interrupted", nil)
		return result, err
	}
	result.Audit, err = v.conclude(result)
	return result, err
}

func (e *Engine) openValidation(ctx context.Context, req ValidateRequest) (*validation, error) {
	v := &validation{engine: e, mesh: e.Mesh, run: NewRunID(), noWait: req.NoWait}
	if req.Subject != nil {
		v.subject = *req.Subject
	} else {
		v.subject = e.findSubject(ctx, req.Scenario, req.FailoverID)
	}
	stamp := e.Stamp
	stamp.Run, stamp.FailoverID, stamp.Scenario = v.run, v.subject.FailoverID, req.Scenario
	journal, err := e.createJournal(stamp)
	if err != nil {
		return nil, err
	}
	v.journal = journal
	_, err = journal.Append(witnessclient.Event{Name: witnessclient.RunStarted, Metadata: fields(startRecord{
		Runbook: "validate", Mesh: e.Mesh.Name, PID: os.Getpid(),
	})})
	if err != nil {
		_ = journal.Close()
		return nil, err
	}
	return v, nil
}

// phase waits until the phase's time has come and asks its checks in parallel.
func (v *validation) phase(ctx context.Context, phase string) []CheckResult {
	var checks []check
	for _, c := range v.checks() {
		if c.phase == phase {
			checks = append(checks, c)
		}
	}
	tooEarly := v.awaitPhase(ctx, phase)
	results := make([]CheckResult, len(checks))
	var group sync.WaitGroup
	for i, c := range checks {
		group.Go(func() {
			if tooEarly != "" {
				results[i] = c.result(answer{verdict: probes.Unknown, summary: tooEarly, hint: "validate again later, or without --no-wait"}, 0)
				return
			}
			started := time.Now()
			results[i] = c.result(c.ask(ctx), time.Since(started))
		})
	}
	group.Wait()
	for _, r := range results {
		v.engine.note(r.ID, string(r.Verdict)+": "+r.Summary, 0)
	}
	return results
}

func (c check) result(a answer, took time.Duration) CheckResult {
	if a.facts == nil {
		a.facts = map[string]any{}
	}
	return CheckResult{
		ID: c.id, Phase: c.phase, Verdict: a.verdict, Required: true,
		Summary: a.summary, Hint: a.hint, TookMS: took.Milliseconds(), Facts: a.facts,
	}
}

// awaitPhase returns why the phase cannot be judged yet, or "".
func (v *validation) awaitPhase(ctx context.Context, phase string) string {
	due := v.due(phase)
	left := time.Until(due)
	if left <= 0 {
		return ""
	}
	if v.noWait {
		return fmt.Sprintf("the %s phase begins in %s", phase, left.Round(time.Second))
	}
	ticker := time.NewTicker(min(5*time.Second, max(left/2, time.Millisecond)))
	defer ticker.Stop()
	for left := time.Until(due); left > 0; left = time.Until(due) {
		v.engine.note(phase, "waiting for the "+phase+" phase", left)
		select {
		case <-ctx.Done():
			return "interrupted before the " + phase + " phase"
		case <-ticker.C:
		}
	}
	return ""
}

// due is when a phase can be judged. Stability needs three whole windows of
// the error trend after the recovery's end.
func (v *validation) due(phase string) time.Time {
	if v.subject.EndedAt.IsZero() {
		return time.Time{}
	}
	t := v.mesh.Timings
	switch phase {
	case PhaseShort:
		return v.subject.EndedAt.Add(t.Scaled(t.Short))
	case PhaseStability:
		return v.subject.EndedAt.Add(errorWindows * t.Scaled(t.ErrorWindow))
	}
	return v.subject.EndedAt
}

func phaseRank(phase string) int {
	for i, p := range []string{PhaseImmediate, PhaseShort, PhaseStability} {
		if p == phase {
			return i
		}
	}
	return -1
}

// overall: one failed check fails the whole, one required unknown makes it unknown.
func overall(checks []CheckResult) probes.Verdict {
	verdict := probes.Skip
	for _, c := range checks {
		if c.Verdict == probes.Unknown && !c.Required {
			continue
		}
		verdict = verdict.Worse(c.Verdict)
	}
	if verdict == probes.Skip {
		return probes.Unknown
	}
	return verdict
}

// conclude journals the verdict and hands it to the witness. An unknown
// verdict is neither a validated nor a failed recovery.
func (v *validation) conclude(result Validation) (Audit, error) {
	r := v.engine.newRun(nil, v.journal)
	defer r.close()
	name := map[probes.Verdict]string{
		probes.Pass: "failover_recovery_validated", probes.Warn: "failover_recovery_validated", probes.Fail: "failover_recovery_failed",
	}[result.Verdict]
	if name != "" {
		if err := r.event(witnessclient.Event{Name: name, Metrics: eventMetrics(result.Checks), Metadata: map[string]any{"phases": phases(result.Checks)}}); err != nil {
			return Audit{}, err
		}
	}
	if err := r.event(witnessclient.Event{Name: witnessclient.RunFinished, Metadata: map[string]any{"outcome": string(result.Verdict)}}); err != nil {
		return Audit{}, err
	}
	return r.deliver(), nil
}

// phases are those that were asked about: a validation of one says nothing
// about the others.
func phases(checks []CheckResult) []string {
	var asked []string
	for _, c := range checks {
		if !slices.Contains(asked, c.Phase) {
			asked = append(asked, c.Phase)
		}
	}
	return asked
}

func eventMetrics(checks []CheckResult) map[string]any {
	m := map[string]any{}
	for _, c := range checks {
		for _, name := range []string{"registered_agents", "connection_success_rate"} {
			if value, ok := c.Facts[name]; ok {
				m[name] = value
			}
		}
	}
	return m
}
