package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newRunsAdoptCmd(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "adopt RUN --reason TEXT", Short: "Take over an unfinished run of another machine, from the witness",
		Long: `adopt reads what the witness holds of a run whose journal is elsewhere, checks
that every event is as it was written and none is missing, and makes a run here
that goes on with it. Steps keep their keys, so nothing is done twice. The other
machine cannot resume the run any more once it hears of that.

Be sure that the run is not still going on there: its operator and host are in
the refusal that named it.

Exit status: 0 adopted, 2 there is nothing to adopt, 3 what the witness holds was
changed or is not whole, 4 the witness could not be asked, 8 another run is in the way.`,
		Args: exactArgs(1, "a run id"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runAdopt(cmd.Context(), args[0], reason) },
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`TEXT` for the audit log; required")
	return cmd
}

func (a *app) runAdopt(ctx context.Context, run, reason string) error {
	if reason == "" {
		return usageError("runs adopt needs a --reason")
	}
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	id, err := s.engine.Adopt(ctx, run, reason)
	s.notes.close()
	if err != nil {
		return err
	}
	return a.show(map[string]any{"adopted": run, "run": id}, func(p *page) {
		p.line("%s was adopted as %s", run, id)
		p.line("go on:     meshctl runs resume %s", id)
		p.line("take back: meshctl runs abort --undo %s", id)
	})
}

// showHeld shows a run from the witness, also one that is not whole.
func (a *app) showHeld(ctx context.Context, run string) error {
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	records, err := s.engine.HeldRun(ctx, run)
	if len(records) == 0 {
		return err
	}
	shown, problem := shownRecords(records), ""
	if err != nil {
		problem = err.Error()
	}
	err = a.show(map[string]any{"run": run, "from": "witness", "records": shown, "problem": problem}, func(p *page) {
		p.records(shown)
		if problem != "" {
			p.line("%s %s", p.bad("not whole:"), problem)
			return
		}
		p.line("every event is as it was written, and none before the last is missing")
	})
	if err != nil || problem == "" {
		return err
	}
	return withCode(exitUnhealthy)
}
