package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks"
)

type validateOptions struct {
	request runbooks.ValidateRequest
	failOn  string
}

func newValidateCmd(a *app) *cobra.Command {
	var o validateOptions
	cmd := &cobra.Command{
		Use:   "validate --scenario A [--failover-id ID] [--phase PHASE]",
		Short: "Find out whether a recovery really worked",
		Long: `validate asks every check of a scenario: agents, connections, the links there
were before, the servers, message delivery, latency, the audit log and the error
trend. Checks belong to phases: immediate (0-1 minute after the recovery), short
(1-5 minutes) and stability (5 minutes and more); a phase whose time has not come
is waited for.

Exit status: 0 recovered, 3 a check failed, 4 could not be determined, 9 recovered
but the audit events are not delivered yet.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runValidate(cmd, o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.request.Scenario, "scenario", "", "`SCENARIO` to validate: A")
	flags.StringVar(&o.request.FailoverID, "failover-id", "", "`ID` of the failover (default: the last finished recovery of the scenario)")
	o.request.Phase = runbooks.PhaseAll
	choiceFlag(cmd, &o.request.Phase, "phase", "`PHASE` to ask: immediate, short, stability or all",
		runbooks.PhaseImmediate, runbooks.PhaseShort, runbooks.PhaseStability, runbooks.PhaseAll)
	flags.BoolVar(&o.request.NoWait, "no-wait", false, "answer unknown for a phase whose time has not come")
	failOnFlag(cmd, &o.failOn)
	offer(cmd, "junit")
	_ = cmd.RegisterFlagCompletionFunc("scenario", completeRunbookScenarios)
	_ = cmd.RegisterFlagCompletionFunc("failover-id", a.completeRuns)
	return cmd
}

func (a *app) runValidate(cmd *cobra.Command, o validateOptions) error {
	if o.request.Scenario == "" {
		return usageError("validate: --scenario is required")
	}
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	v, err := s.engine.Validate(cmd.Context(), o.request)
	if err != nil {
		return err
	}
	s.notes.close()
	if err := a.showResults(results{
		doc: v, text: func(p *page) { p.validation(v) }, suite: func() suite { return validationSuite(v) },
	}); err != nil {
		return err
	}
	return withCode(validationCode(cmd.Context(), v, o.failOn))
}

// validationSuite is a validation for CI: one case a check.
func validationSuite(v runbooks.Validation) suite {
	s := suite{name: "meshctl validate " + v.Scenario}
	for _, c := range v.Checks {
		s.cases = append(s.cases, testCase{class: v.Scenario + "." + c.Phase, name: c.ID, verdict: c.Verdict, summary: c.Summary, hint: c.Hint, took: time.Duration(c.TookMS) * time.Millisecond})
	}
	if v.Audit.Delivered < v.Audit.Events {
		s.cases = append(s.cases, testCase{
			class: v.Scenario + ".audit", name: "delivery", verdict: probes.Unknown, hint: "meshctl witness flush",
			summary: fmt.Sprintf("%d of %d audit events are not delivered: %s", v.Audit.Events-v.Audit.Delivered, v.Audit.Events, v.Audit.Problem),
		})
	}
	return s
}

// validation shows one line a check, the verdict last.
func (p *page) validation(v runbooks.Validation) {
	p.line("Scenario %s, failover %s", v.Scenario, orNone(v.FailoverID))
	phase := ""
	for _, c := range v.Checks {
		if c.Phase != phase {
			phase = c.Phase
			p.line("\n%s", phase)
		}
		p.line("  %s %-18s %s", p.verdict(c.Verdict), c.ID, c.Summary)
		if c.Hint != "" && c.Verdict != probes.Pass {
			p.line("          %s %s", p.dim("hint:"), c.Hint)
		}
		if p.verbose {
			for _, name := range slices.Sorted(maps.Keys(c.Facts)) {
				p.line("          %s %v", p.dim(name+":"), c.Facts[name])
			}
		}
	}
	p.line("")
	if v.Scale != 1 {
		p.line("%s all windows are scaled by %v: a rehearsal, not a production validation", p.warn("note:"), v.Scale)
	}
	p.line("%s %s", p.verdict(v.Verdict), validationText(v))
	p.audit(v.Audit)
}

func validationText(v runbooks.Validation) string {
	if v.FailoverID == "" && v.Verdict == probes.Fail {
		return "no recovery is known here, and the mesh does NOT work: a human must look"
	}
	return map[probes.Verdict]string{
		probes.Pass:    "the recovery worked",
		probes.Warn:    "the recovery worked, with warnings",
		probes.Fail:    "the recovery did NOT work: a human must look",
		probes.Unknown: "whether the recovery worked could not be determined",
	}[v.Verdict]
}

func orNone(text string) string {
	if text == "" {
		return "(none known)"
	}
	return text
}

// audit says what became of the evidence, when something is missing.
func (p *page) audit(a runbooks.Audit) {
	if a.Delivered < a.Events {
		p.line("%s %d of %d audit events are not delivered: %s", p.warn("audit:"), a.Events-a.Delivered, a.Events, a.Problem)
		p.line("%s when the witness is back: meshctl witness flush", p.dim("hint:"))
		return
	}
	p.line("%s %d events, all delivered", p.dim("audit:"), a.Events)
}
