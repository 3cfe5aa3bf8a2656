package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks/drill"
)

type drillOptions struct {
	agents     int
	turn, dir  string
	leaveFault bool
}

func newDrillCmd(a *app) *cobra.Command {
	var o drillOptions
	cmd := &cobra.Command{
		Use: "drill A", Short: "Break a whole mesh on this machine, recover it, and show the proof",
		Long: `drill builds a WebRTC mesh on loopback, proves that it works, injects the fault of
a scenario under traffic, measures the automatic recovery, carries out the runbook,
validates, and shows the timeline beside the objectives. It touches nothing but this
machine and needs no configuration. All windows are scaled down, and the report
says so.

Scenario A: a TURN server is killed.

Exit status: 0 recovered and proved, 3 not recovered, 4 could not be determined.`,
		Args: exactArgs(1, "a scenario: A"), ValidArgs: []string{"A"},
		RunE: func(cmd *cobra.Command, args []string) error { return a.runDrill(cmd.Context(), args[0], o) },
	}
	flags := cmd.Flags()
	flags.IntVar(&o.agents, "agents", 4, "`NUMBER` of agents, 2 to 16")
	turnFlag(cmd, &o.turn)
	flags.StringVar(&o.dir, "dir", "", "keep journals and logs in this `DIR`")
	offer(cmd, "junit")
	flags.BoolVar(&o.leaveFault, "leave-fault", false, "skip the recovery; the drill must then fail")
	return cmd
}

func (a *app) runDrill(ctx context.Context, scenario string, o drillOptions) error {
	if scenario != "A" {
		return usageError("drill %s: there is no such drill; known: A", scenario)
	}
	if err := checkAgents(o.agents); err != nil {
		return err
	}
	notes := a.progress()
	report, err := drill.RunA(ctx, drill.Options{
		Agents: o.agents, TURN: o.turn, Dir: o.dir, LeaveFault: o.leaveFault, Stamp: a.stamp(), Notify: notes.note, Check: turnCheck,
	})
	notes.close()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	if err := a.showResults(results{
		doc: report, text: func(p *page) { p.drill(report) }, suite: func() suite { return drillSuite(report) },
	}); err != nil {
		return err
	}
	code := verdictCode(report.Verdict, "unknown")
	if code == exitOK {
		code = auditCode(report.Audit)
	}
	return withCode(code)
}

// drillSuite is a drill for CI: the drill itself, the steps of its recovery and
// the checks of its validation.
func drillSuite(r drill.Report) suite {
	s := suite{name: "meshctl drill " + r.Scenario}
	s.cases = append(s.cases, testCase{class: r.Scenario, name: "drill", verdict: r.Verdict, summary: r.Reason})
	if r.Recovery != nil {
		for _, step := range r.Recovery.Steps {
			s.cases = append(s.cases, testCase{class: r.Scenario + ".recovery", name: step.ID, verdict: step.Verdict, summary: step.Summary})
		}
	}
	if r.Validation != nil {
		s.cases = append(s.cases, validationSuite(*r.Validation).cases...)
	}
	return s
}

// turnFlag adds a flag that drill and lab share.
func turnFlag(cmd *cobra.Command, backend *string) {
	*backend = "pion"
	choiceFlag(cmd, backend, "turn", "`BACKEND` of the TURN servers: pion, or coturn (Debian's, from PATH)", "pion", "coturn")
}

func checkAgents(agents int) error {
	if agents < 2 || agents > 16 {
		return usageError("--agents %d: not between 2 and 16", agents)
	}
	return nil
}

// turnCheck lets agents check TURN servers by a whole allocation.
func turnCheck(username string, password secret.Secret) mesh.TURNCheck {
	return func(ctx context.Context, server wire.ServerURI) (time.Duration, error) {
		return probes.TURN{Target: server, Credentials: probes.Credentials{Username: username, Password: password}}.Check(ctx)
	}
}

func (p *page) drill(r drill.Report) {
	p.line("Drill of scenario %s: a TURN server dies under traffic (all windows scaled by %v)\n", r.Scenario, r.Scale)
	for _, m := range r.Timeline {
		p.line("%8.2f s  %-26s %s", float64(m.AtMS)/1000, m.Event, m.Detail)
	}
	if r.Recovery != nil {
		p.line("\nRecovery")
		for _, s := range r.Recovery.Steps {
			p.line("  %s %-21s %s", p.verdict(s.Verdict), s.ID, s.Summary)
			if s.Diff != "" {
				p.line("%s", indent(p.diff(s.Diff), "            "))
			}
		}
	}
	if r.Validation != nil {
		p.line("\nValidation")
		for _, c := range r.Validation.Checks {
			p.line("  %s %-10s %-18s %s", p.verdict(c.Verdict), c.Phase, c.ID, c.Summary)
		}
	}
	p.line("\n%-22s %12s %12s", "", "MEASURED", "OBJECTIVE")
	p.objective("automatic recovery", r.Automatic.RecoveredMS, r.Automatic.ObjectiveMS, r.Automatic.Met)
	p.objective("recovery by hand", r.Manual.RecoveredMS, r.Manual.ObjectiveMS, r.Manual.Met)
	p.line("%-22s %s", "longest outage", longest(r.Pairs))
	d := r.Delivery
	p.line("%-22s %d sent, %d received, %d lost, %d duplicated, %d reordered, %d corrupt", "messages", d.Sent, d.Received, d.Lost, d.Duplicated, d.Reordered, d.Corrupt)
	p.line("%-22s %d events, %d delivered, chain %s\n", "audit", r.Audit.Events, r.Audit.Delivered, r.Audit.Chain)
	reason := map[bool]string{true: "the mesh recovered, and it is proved", false: r.Reason}[r.Verdict == probes.Pass]
	p.line("%s %s", p.verdict(r.Verdict), reason)
}

func (p *page) objective(name string, measured *int64, objective int64, met bool) {
	text := "never"
	if measured != nil {
		text = fmt.Sprintf("%.2f s", float64(*measured)/1000)
	}
	mark := p.bad("missed")
	if met {
		mark = p.good("met")
	}
	p.line("%-22s %12s %12s %s", name, text, fmt.Sprintf("%d s", objective/1000), mark)
}

// longest names the pair that waited longest for a message.
func longest(pairs []drill.Pair) string {
	var worst int64
	var who []string
	for _, pair := range pairs {
		switch {
		case pair.OutageMS == nil:
			return pair.From + " -> " + pair.To + " never recovered"
		case *pair.OutageMS > worst:
			worst, who = *pair.OutageMS, []string{pair.From + " -> " + pair.To}
		}
	}
	if len(who) == 0 {
		return "not measured"
	}
	return fmt.Sprintf("%d ms (%s)", worst, strings.Join(who, ", "))
}
