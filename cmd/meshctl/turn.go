package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/runbooks"
)

func newTurnCmd(a *app) *cobra.Command {
	return group("turn", "TURN servers: list, watch, recover, drain, restore, credential",
		newTurnListCmd(a), newTurnWatchCmd(a), newTurnRecoverCmd(a), newTurnDrainCmd(a), newTurnRestoreCmd(a), newTurnCredentialCmd(a))
}

func newTurnListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the TURN servers: where they are configured, who uses them, whether they relay",
		Long: `list shows every TURN server of the env file and of the controller, how many
links go through it, and whether it relays (a full allocation with an echo).

Exit status: 0 every server relays, 3 one does not, 4 could not be determined.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runTurnList(cmd.Context()) },
	}
}

func (a *app) runTurnList(ctx context.Context) error {
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	list := s.mesh.ListTURN(ctx)
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := a.show(list, func(p *page) { p.turnList(list) }); err != nil {
		return err
	}
	return withCode(verdictCode(list.Verdict, "unknown"))
}

func (p *page) turnList(list runbooks.TURNList) {
	p.line("%-7s %-46s %-6s %-12s %-6s %s", "VERDICT", "SERVER", "FILE", "CONTROLLER", "LINKS", "")
	for _, s := range list.Servers {
		p.line("%s %-46s %-6s %-12s %-6s %s", p.verdict(s.Verdict), s.URI, yesNo(s.InFile), yesNo(s.InController), number(s.Links), s.Summary)
	}
	for _, problem := range list.Problems {
		p.line("%s %s", p.warn("unknown:"), problem)
	}
}

// yesNo shows a fact that may not be known.
func yesNo(known *bool) string {
	switch {
	case known == nil:
		return "?"
	case *known:
		return "yes"
	}
	return "no"
}

func number(n *int) string {
	if n == nil {
		return "?"
	}
	return fmt.Sprint(*n)
}

// changeOptions are the flags of every command that changes something.
type changeOptions struct {
	dryRun, yes, undoOnFailure, exitCode bool
	reason, incident, failoverID         string
	override, audit                      string
	monitor                              time.Duration
}

func (o *changeOptions) register(cmd *cobra.Command, a *app) {
	flags := cmd.Flags()
	flags.BoolVar(&o.dryRun, "dry-run", false, "show the plan and change nothing")
	flags.BoolVar(&o.exitCode, "exit-code", false, "with --dry-run: exit 10 when there are changes to make")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask for confirmation (required without a terminal)")
	flags.BoolVar(&o.undoOnFailure, "undo-on-failure", false, "undo all changes when a step fails")
	flags.StringVar(&o.reason, "reason", "", "`TEXT` for the audit log")
	flags.StringVar(&o.incident, "incident", "", "incident `ID` for the audit log")
	flags.StringVar(&o.failoverID, "failover-id", "", "`ID` of the failover (default: the run's id)")
	flags.StringVar(&o.override, "override", "", "pass by this unfinished `RUN`; needs --reason")
	o.audit = "spool"
	choiceFlag(cmd, &o.audit, "audit", "`POLICY` when the witness is down: spool, or require (refuse to act)", "spool", "require")
	_ = cmd.RegisterFlagCompletionFunc("override", a.completeRuns)
}

// registerMonitor adds --monitor, for changes whose connections are watched.
func (o *changeOptions) registerMonitor(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&o.monitor, "monitor", 0, "watch the connections this `LONG` afterwards (default 5m, or timings.monitor)")
}

func (o *changeOptions) check(a *app) error {
	switch {
	case o.monitor < 0:
		return usageError("--monitor %s: less than nothing", o.monitor)
	case o.exitCode && !o.dryRun:
		return usageError("--exit-code goes with --dry-run")
	case o.override != "" && o.reason == "":
		return usageError("--override needs a --reason")
	case strings.ContainsAny(o.failoverID+o.incident, "\n\r"):
		return usageError("--failover-id and --incident are one line")
	case !o.dryRun && !o.yes && !terminal(a.in):
		return usageError("there is no terminal to confirm at: --yes or --dry-run is needed")
	}
	return nil
}

type turnRecoverOptions struct {
	changeOptions
	params runbooks.TurnRecoverParams
}

func newTurnRecoverCmd(a *app) *cobra.Command {
	var o turnRecoverOptions
	cmd := &cobra.Command{
		Use:   "recover --failed HOST[:PORT] --replacement URI",
		Short: "Replace a failed TURN server and prove that the mesh is well (scenario A)",
		Long: `recover proves that the replacement relays, edits the env file, gives the
controller the whole new list and looks whether it took effect, reconnects peers
that still use the failed server, sends a message of its own through the
replacement, and watches the connections for a while.

Exit status: 0 recovered or nothing to do, 4 done but not proved, 5 refused and
nothing changed, 6 failed and undone, 7 failed and NOT undone, 8 locked, 9 done
but the audit events are not delivered yet, 130 interrupted and resumable.`,
		Example: `  meshctl turn recover --failed turn1.example.com --replacement turn:turn3.example.com:3478 --dry-run
  meshctl turn recover --failed turn1.example.com --replacement turn:turn3.example.com:3478 --reason "INC-42"`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runTurnRecover(cmd, o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.params.Failed, "failed", "", "the failed server, `HOST[:PORT]`")
	flags.StringVar(&o.params.Replacement, "replacement", "", "the TURN `URI` that takes its place")
	flags.BoolVar(&o.params.Force, "force", false, "replace the server although it is healthy")
	o.registerMonitor(cmd)
	o.register(cmd, a)
	_ = cmd.RegisterFlagCompletionFunc("failed", a.completeServers)
	_ = cmd.RegisterFlagCompletionFunc("replacement", cobra.NoFileCompletions)
	return cmd
}

func (a *app) runTurnRecover(cmd *cobra.Command, o turnRecoverOptions) error {
	if o.params.Failed == "" || o.params.Replacement == "" {
		return usageError("turn recover: --failed and --replacement are required")
	}
	return a.change(cmd, o.changeOptions, func(m *runbooks.Mesh, monitor time.Duration) (*runbooks.Recovery, error) {
		o.params.Monitor = monitor
		return runbooks.NewTurnRecover(m, o.params)
	})
}

// change makes a recovery of the configured mesh, runs it and shows what it did.
func (a *app) change(cmd *cobra.Command, o changeOptions, build func(m *runbooks.Mesh, monitor time.Duration) (*runbooks.Recovery, error)) error {
	if err := o.check(a); err != nil {
		return err
	}
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	if !cmd.Flags().Changed("monitor") {
		o.monitor = s.mesh.Timings.Scaled(s.mesh.Timings.Monitor)
	}
	rec, err := build(s.mesh, o.monitor)
	if err != nil {
		return err
	}
	return a.recover(cmd.Context(), s, rec, o)
}

func (a *app) recover(ctx context.Context, s *session, rec *runbooks.Recovery, o changeOptions) error {
	s.engine.RequireAudit = o.audit == "require"
	request := runbooks.Request{
		Recovery: rec, FailoverID: o.failoverID, IncidentID: o.incident, Reason: o.reason,
		DryRun: o.dryRun, UndoOnFailure: o.undoOnFailure, Override: o.override,
	}
	if !o.yes {
		request.Confirm = func(plan runbooks.Plan) (bool, error) { return a.confirm(ctx, s, plan) }
	}
	stop := a.heed(ctx, s)
	result, err := s.engine.Run(ctx, request)
	stop()
	s.notes.close()
	if err != nil {
		return err
	}
	code := resultCode(result)
	if o.exitCode && result.Outcome == runbooks.Planned && result.Plan.Changes() {
		code = exitChanges
	}
	if err := a.showResult(s, result, code); err != nil {
		return err
	}
	return withCode(code)
}
