package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks"
	"github.com/infrafabric/meshctl/runbooks/notify"
)

// resultDoc is the JSON of a run.
type resultDoc struct {
	runbooks.Result
	Scenario    string         `json:"scenario,omitempty"`
	Verdict     probes.Verdict `json:"verdict"`
	Changed     []string       `json:"changed"`
	RecoveredMS *int64         `json:"recovered_ms"`
	ObjectiveMS int64          `json:"objective_ms"`
	Met         *bool          `json:"met"`
	ExitCode    int            `json:"exit_code"`
	// Notifications are the messages to people; left out where nobody is named.
	Notifications *notify.Report `json:"notifications,omitempty"`
}

func newResultDoc(r runbooks.Result, code int) resultDoc {
	doc := resultDoc{
		Result: r, Scenario: r.Plan.Scenario, Changed: r.Changed(), ExitCode: code,
		ObjectiveMS: r.Objective.Milliseconds(), Verdict: outcomeVerdict(r),
	}
	if doc.Changed == nil {
		doc.Changed = []string{}
	}
	if doc.Steps == nil {
		doc.Steps = []runbooks.StepResult{}
	}
	if !r.RecoveredAt.IsZero() && r.Outcome == runbooks.Done {
		ms, met := r.RecoveredAt.Sub(r.Started).Milliseconds(), r.RecoveredAt.Sub(r.Started) <= r.Objective
		doc.RecoveredMS = &ms
		if r.Objective > 0 { // nobody promises a time otherwise
			doc.Met = &met
		}
	}
	return doc
}

// outcomeVerdict is a run's outcome as a verdict.
func outcomeVerdict(r runbooks.Result) probes.Verdict {
	switch r.Outcome {
	case runbooks.NothingToDo:
		return probes.Pass
	case runbooks.Undone:
		if takenBack(r) {
			return probes.Pass
		}
	case runbooks.Planned:
		return probes.Skip
	case runbooks.Done:
		v := probes.Pass
		for _, s := range r.Steps {
			v = v.Worse(s.Verdict)
		}
		return v
	case runbooks.Undetermined, runbooks.Interrupted, runbooks.Aborted:
		return probes.Unknown
	}
	return probes.Fail
}

// takenBack tells a run that was undone on purpose from one that failed.
func takenBack(r runbooks.Result) bool {
	return r.Outcome == runbooks.Undone && r.FailedStep == ""
}

// showResult shows what a run did, once everybody who must know was told.
func (a *app) showResult(s *session, r runbooks.Result, code int) error {
	doc := newResultDoc(r, code)
	doc.Notifications = s.told()
	return a.show(doc, func(p *page) { p.result(r); p.told(doc.Notifications) })
}

// outcomeText is the last word on a run.
var outcomeText = map[runbooks.Outcome]string{
	runbooks.Planned:      "nothing was changed (dry run)",
	runbooks.NothingToDo:  "nothing to do: the goal already holds",
	runbooks.Refused:      "refused, nothing was changed",
	runbooks.Done:         "recovered",
	runbooks.Undetermined: "changed, and not proved to have worked",
	runbooks.Undone:       "failed; all changes were undone",
	runbooks.Failed:       "failed; changes were NOT undone: a human must look",
	runbooks.Interrupted:  "interrupted",
	runbooks.Aborted:      "ended by hand; changes stand",
}

func (p *page) result(r runbooks.Result) {
	if r.DryRun && r.Outcome != runbooks.NothingToDo {
		p.plan(r.Plan)
	}
	for _, s := range r.Steps {
		p.line("%s %-21s %s", p.verdict(s.Verdict), s.ID, s.Summary)
	}
	for _, s := range r.Undo {
		p.line("%s undo %-16s %s", p.verdict(s.Verdict), s.ID, s.Summary)
	}
	if r.Reason != "" {
		where := ""
		if r.FailedStep != "" {
			where = "step " + r.FailedStep + ": "
		}
		p.line("%s %s%s", p.bad("reason:"), where, strings.TrimPrefix(r.Reason, where))
	}
	for _, problem := range r.Plan.Problems[min(1, len(r.Plan.Problems)):] {
		p.line("%s %s", p.bad("also:"), problem.Summary)
	}
	if r.Hint != "" {
		p.line("%s %s", p.dim("hint:"), r.Hint)
	}
	text := outcomeText[r.Outcome]
	if r.Outcome == runbooks.Done && r.Plan.Scenario == "" {
		text = "done"
	}
	if takenBack(r) {
		text = "taken back: all changes of the run were undone"
	}
	p.line("%s %s", p.verdict(outcomeVerdict(r)), text)
	p.resultEnd(r)
}

// resultEnd says what stands, how long it took and what to do next.
func (p *page) resultEnd(r runbooks.Result) {
	if changed := r.Changed(); len(changed) > 0 && r.Outcome != runbooks.Done {
		p.line("changed: %s", strings.Join(changed, ", "))
	}
	if doc := newResultDoc(r, 0); doc.RecoveredMS != nil && r.Objective > 0 {
		p.line("recovered in %s (objective %s)", time.Duration(*doc.RecoveredMS)*time.Millisecond, r.Objective)
	}
	if r.Run != "" {
		p.line("run %s, failover %s", r.Run, r.FailoverID)
	}
	switch r.Outcome {
	case runbooks.Failed, runbooks.Interrupted:
		if r.InDoubt != "" {
			p.line("decide:    meshctl runs resume %s --assume %s=done|not-done --reason ...", r.Run, r.InDoubt)
		} else if r.Run != "" {
			p.line("go on:     meshctl runs resume %s", r.Run)
		}
		if r.Run != "" {
			p.line("take back: meshctl runs abort --undo %s", r.Run)
		}
	case runbooks.Done, runbooks.Undetermined:
		if r.Plan.Scenario == "" {
			break
		}
		p.line("next:      meshctl validate --scenario %s --failover-id %s", r.Plan.Scenario, r.FailoverID)
	}
	if r.Run != "" && r.Outcome != runbooks.Interrupted {
		p.audit(r.Audit)
	}
}

func (p *page) plan(plan runbooks.Plan) {
	title := plan.Runbook
	if plan.Scenario != "" {
		title += " (scenario " + plan.Scenario + ")"
	}
	p.line("Plan: %s", title)
	p.line("Blast radius: %s", plan.Blast)
	for _, note := range plan.Notes {
		p.line("%s %s", p.warn("note:"), note)
	}
	for i, s := range plan.Steps {
		state := ""
		switch {
		case s.Met:
			state = " (already so)"
		case s.NothingToUndo != "":
			state = " (nothing to undo: " + s.NothingToUndo + ")"
		case s.Effect != runbooks.ReadOnly && !s.Undoable:
			state = " (cannot be undone)"
		}
		p.line("%2d. %-21s %s%s", i+1, s.ID, s.Title, state)
		if s.Diff != "" {
			p.line("%s", indent(p.diff(s.Diff), "      "))
		}
	}
}

// confirm shows the plan and asks; anything but yes is a no.
func (a *app) confirm(ctx context.Context, s *session, plan runbooks.Plan) (bool, error) {
	s.notes.close()
	p := a.page(a.err)
	p.plan(plan)
	if err := p.flush(); err != nil {
		return false, err
	}
	_, _ = fmt.Fprint(a.err, "Carry this out? Type yes: ")
	return a.typedYes(ctx)
}

// typedYes reads the answer of an operator; anything but yes is a no.
func (a *app) typedYes(ctx context.Context) (bool, error) {
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(io.LimitReader(a.in, 1024)).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case line := <-answer:
		return line == "yes" || line == "y", nil
	}
}
