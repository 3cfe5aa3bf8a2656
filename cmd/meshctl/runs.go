package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/runbooks"
	"github.com/infrafabric/meshctl/witnessclient"
)

func newRunsCmd(a *app) *cobra.Command {
	return group("runs", "Runs of this mesh: list, show, resume, abort, adopt, report",
		newRunsListCmd(a), newRunsShowCmd(a), newRunsResumeCmd(a), newRunsAdoptCmd(a), newRunsAbortCmd(a), newRunsReportCmd(a))
}

// runDoc is a run as JSON readers get it.
type runDoc struct {
	runbooks.RunSummary
	Outcome string `json:"outcome"` // never empty
}

func newRunsListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the runs in the state directory", Args: exactArgs(0, "no arguments"),
		Long: `list shows every run in the state directory, oldest first. Its outcome is done,
unknown (changed, but a proof is missing), undone, failed, aborted, overridden or
refused; unfinished while changes are begun and not ended, which keeps the next run
from starting; cut_off for a run that changed nothing and has no end; damaged for a
journal that was changed after it was written.`,
		RunE: func(*cobra.Command, []string) error {
			c, err := a.loadConfig()
			if err != nil {
				return err
			}
			runs, err := runbooks.Runs(c.stateDir())
			if err != nil {
				return err
			}
			docs := make([]runDoc, 0, len(runs))
			for _, r := range runs {
				docs = append(docs, runDoc{r, r.State()})
			}
			return a.show(map[string]any{"runs": docs}, func(p *page) { p.runs(runs) })
		},
	}
}

func (p *page) runs(runs []runbooks.RunSummary) {
	if len(runs) == 0 {
		p.line("no runs")
		return
	}
	p.line("%-26s  %-14s  %-20s  %-12s  %-11s  %s", "RUN", "RUNBOOK", "STARTED", "OUTCOME", "UNDELIVERED", "OPERATOR")
	for _, r := range runs {
		p.line("%-26s  %-14s  %-20s  %-12s  %-11d  %s", r.Run, r.Runbook, r.Started.Format(time.RFC3339), r.State(), r.Undelivered, r.Operator)
		if r.Damage != "" {
			p.line("  %s %s", p.bad("damage:"), r.Damage)
		}
	}
}

// shownRecord is one journal record as JSON readers get it.
type shownRecord struct {
	Seq   int                  `json:"seq"`
	At    time.Time            `json:"at"`
	Note  string               `json:"note,omitempty"`
	Event *witnessclient.Event `json:"event,omitempty"`
	Acked bool                 `json:"acked"`
}

func newRunsShowCmd(a *app) *cobra.Command {
	from := "journal"
	cmd := &cobra.Command{
		Use: "show RUN", Short: "Show everything a run journalled", Args: exactArgs(1, "a run id"),
		Long: `show reads the journal of a run, or with --from witness what the witness holds of
it: a run of another machine, for example. What it holds is checked; exit 3 when an
event was changed or is missing, 4 when the witness could not be asked.`,
		ValidArgsFunction: a.completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			if from == "witness" {
				return a.showHeld(cmd.Context(), args[0])
			}
			c, err := a.loadConfig()
			if err != nil {
				return err
			}
			records, err := runbooks.RunRecords(c.stateDir(), args[0])
			if err != nil {
				return err
			}
			shown := shownRecords(records)
			return a.show(map[string]any{"run": args[0], "records": shown}, func(p *page) { p.records(shown) })
		},
	}
	choiceFlag(cmd, &from, "from", "`SOURCE`: journal or witness", "journal", "witness")
	return cmd
}

func shownRecords(records []witnessclient.Record) []shownRecord {
	shown := make([]shownRecord, 0, len(records))
	for _, r := range records {
		s := shownRecord{Seq: r.Seq, At: r.At, Note: r.Note, Acked: r.Acked}
		if r.IsEvent() {
			s.Event = &r.Event
		}
		shown = append(shown, s)
	}
	return shown
}

func (p *page) records(records []shownRecord) {
	for _, r := range records {
		if r.Event == nil {
			p.line("%3d %s %s", r.Seq, r.At.Local().Format(time.TimeOnly), p.dim("note "+r.Note))
			continue
		}
		p.line("%3d %s %-30s %s", r.Seq, r.At.Local().Format(time.TimeOnly), r.Event.Name, eventDetail(*r.Event))
	}
}

func newRunsResumeCmd(a *app) *cobra.Command {
	var undo bool
	var assume, reason string
	cmd := &cobra.Command{
		Use: "resume RUN", Short: "Go on with an unfinished run", Args: exactArgs(1, "a run id"),
		Long: `resume looks at every step again and applies only what is not there yet, under
the same key as before. Preconditions belonged to the plan and are not asked again.

A step that must not be done twice, was begun, and is not seen to be done stops
the run. Look whether it was done, and say so: --assume STEP=done or
--assume STEP=not-done. That is recorded; a step taken as done without being
seen stays unknown (exit 4).`,
		ValidArgsFunction: a.completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			step, done, err := assumption(assume, reason)
			if err != nil {
				return err
			}
			return a.endRun(cmd.Context(), func(ctx context.Context, e *runbooks.Engine) (runbooks.Result, error) {
				if step != "" {
					if err := e.Decide(args[0], step, done, reason); err != nil {
						return runbooks.Result{}, err
					}
				}
				return e.Resume(ctx, args[0], undo)
			})
		},
	}
	cmd.Flags().StringVar(&assume, "assume", "", "whether a step in doubt was done, `STEP=done|not-done`; needs --reason")
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` for the audit log")
	cmd.Flags().BoolVar(&undo, "undo-on-failure", false, "undo all changes when a step fails")
	return cmd
}

// assumption reads STEP=done or STEP=not-done; "" is none.
func assumption(text, reason string) (step string, done bool, err error) {
	step, state, _ := strings.Cut(text, "=")
	switch {
	case text == "":
		return "", false, nil
	case step == "" || (state != "done" && state != "not-done"):
		return "", false, usageError("--assume %s: not STEP=done or STEP=not-done", text)
	case reason == "":
		return "", false, usageError("--assume needs a --reason")
	}
	return step, state == "done", nil
}

func newRunsAbortCmd(a *app) *cobra.Command {
	var undo bool
	cmd := &cobra.Command{
		Use: "abort RUN", Short: "End an unfinished run, with --undo after taking back its changes", Args: exactArgs(1, "a run id"),
		ValidArgsFunction: a.completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.endRun(cmd.Context(), func(ctx context.Context, e *runbooks.Engine) (runbooks.Result, error) {
				return e.Abort(ctx, args[0], undo)
			})
		},
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "take back what the run changed, in reverse order")
	return cmd
}

// endRun resumes or aborts a run and shows what became of it. A run that was
// taken back on purpose is a success.
func (a *app) endRun(ctx context.Context, end func(context.Context, *runbooks.Engine) (runbooks.Result, error)) error {
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	stop := a.heed(ctx, s)
	result, err := end(ctx, s.engine)
	stop()
	s.notes.close()
	if err != nil {
		return err
	}
	code := resultCode(result)
	if takenBack(result) {
		code = auditCode(result.Audit)
	}
	if err := a.showResult(s, result, code); err != nil {
		return err
	}
	return withCode(code)
}
