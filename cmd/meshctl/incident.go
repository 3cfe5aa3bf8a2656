package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/runbooks"
	"github.com/infrafabric/meshctl/runbooks/notify"
	"github.com/infrafabric/meshctl/witnessclient"
)

func newIncidentCmd(a *app) *cobra.Command {
	return group("incident", "Incidents: declare", newIncidentDeclareCmd(a))
}

type incidentOptions struct {
	id, severity, summary, scenario string
	security, yes, dryRun           bool
}

func newIncidentDeclareCmd(a *app) *cobra.Command {
	o := incidentOptions{severity: "high"}
	cmd := &cobra.Command{
		Use: "declare --id ID --summary TEXT", Short: "Declare an incident: to the audit log, and to those who must know",
		Long: `declare journals incident_declared, hands it to the witness and tells the routes of
the configuration. A security incident (--security, or scenario E) goes to the
security route alone, where there is one. Name the incident in what you do about it:
--incident ID.

Exit status: 0 declared, 5 not confirmed, 9 declared and not delivered to the witness
yet. That somebody could not be told is said and changes nothing.`,
		Example: `  meshctl incident declare --id INC-42 --severity high --summary "turn1 is down" --scenario A
  meshctl incident declare --id SEC-7 --security --summary "agent key leaked" --yes`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runIncidentDeclare(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.id, "id", "", "`ID` of the incident")
	choiceFlag(cmd, &o.severity, "severity", "`SEVERITY`: critical, high, medium or low", "critical", "high", "medium", "low")
	flags.StringVar(&o.summary, "summary", "", "`TEXT`, one line")
	flags.StringVar(&o.scenario, "scenario", "", "`SCENARIO` that it looks like: A, B, C, D or E")
	flags.BoolVar(&o.security, "security", false, "a security incident: take the security route")
	flags.BoolVar(&o.dryRun, "dry-run", false, "show the event and tell nobody")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask for confirmation (required without a terminal)")
	_ = cmd.RegisterFlagCompletionFunc("id", cobra.NoFileCompletions)
	_ = cmd.RegisterFlagCompletionFunc("summary", cobra.NoFileCompletions)
	_ = cmd.RegisterFlagCompletionFunc("scenario", completeScenarios)
	return cmd
}

func (o *incidentOptions) check(a *app) error {
	var p problems
	for _, text := range []struct{ flag, value string }{{"--id", o.id}, {"--summary", o.summary}} {
		if strings.TrimSpace(text.value) == "" {
			p.add(text.flag, "is required")
		}
		p.oneLine(text.flag, text.value)
	}
	if o.scenario != "" && !slices.ContainsFunc(runbooks.Scenarios(), func(s runbooks.Scenario) bool { return s.ID == o.scenario }) {
		p.add("--scenario", "%s: not A, B, C, D or E", o.scenario)
	}
	if !o.dryRun && !o.yes && !terminal(a.in) {
		p.add("incident declare", "there is no terminal to confirm at: --yes or --dry-run is needed")
	}
	if len(p.found) > 0 {
		return usageError("%s: %s", p.found[0].key, p.found[0].text)
	}
	return nil
}

// incidentDoc is the JSON of a declared incident.
type incidentDoc struct {
	Run           string              `json:"run"`
	Incident      string              `json:"incident_id"`
	Route         string              `json:"route"`
	DryRun        bool                `json:"dry_run"`
	Outcome       runbooks.Outcome    `json:"outcome"`
	Event         witnessclient.Event `json:"event"`
	Audit         runbooks.Audit      `json:"audit"`
	Notifications *notify.Report      `json:"notifications,omitempty"`
	ExitCode      int                 `json:"exit_code"`
}

func (a *app) runIncidentDeclare(ctx context.Context, o incidentOptions) error {
	if err := o.check(a); err != nil {
		return err
	}
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	doc := o.doc(s)
	if !o.dryRun && !o.yes {
		yes, err := a.confirmIncident(ctx, doc)
		if err != nil {
			return err
		}
		if !yes {
			doc.Outcome, doc.ExitCode = runbooks.Refused, exitRefused
		}
	}
	if doc.Outcome == "" {
		if err := a.declare(ctx, s, &doc); err != nil {
			return err
		}
	}
	if err := a.show(doc, func(p *page) { p.incident(doc) }); err != nil {
		return err
	}
	return withCode(doc.ExitCode)
}

func (o *incidentOptions) doc(s *session) incidentDoc {
	doc := incidentDoc{Incident: o.id, Route: "normal", DryRun: o.dryRun, Event: witnessclient.Event{
		Name: "incident_declared", IncidentID: o.id, Severity: o.severity, Scenario: o.scenario,
		Metadata: map[string]any{"summary": o.summary, "operator": s.engine.Stamp.Operator},
	}}
	if o.security || o.scenario == notify.SecurityScenario {
		doc.Route, doc.Event.Metadata["security"] = "security", true
	}
	if o.dryRun {
		doc.Outcome = runbooks.Planned
	}
	return doc
}

// declare makes it durable first; people are told of nothing that was not
// journalled.
func (a *app) declare(ctx context.Context, s *session, doc *incidentDoc) error {
	run, audit, err := s.engine.LogEvent(ctx, "incident declare", doc.Event)
	if err != nil {
		return err
	}
	s.notifier.Event(doc.Event)
	doc.Run, doc.Audit, doc.Outcome, doc.ExitCode = run, audit, runbooks.Done, auditCode(audit)
	doc.Notifications = s.told()
	return nil
}

func (a *app) confirmIncident(ctx context.Context, doc incidentDoc) (bool, error) {
	_, _ = fmt.Fprintf(a.err, "Declare %s (%s), %s route: %s\nType yes: ", oneLine(doc.Incident), doc.Event.Severity, doc.Route, oneLine(fmt.Sprint(doc.Event.Metadata["summary"])))
	return a.typedYes(ctx)
}

func (p *page) incident(doc incidentDoc) {
	switch doc.Outcome {
	case runbooks.Planned:
		p.line("%s would be declared (%s), %s route (dry run: nobody was told)", oneLine(doc.Incident), doc.Event.Severity, doc.Route)
	case runbooks.Refused:
		p.line("not confirmed: nothing was declared")
	default:
		p.line("declared %s (%s), %s route, run %s", oneLine(doc.Incident), doc.Event.Severity, doc.Route, doc.Run)
		p.audit(doc.Audit)
		p.told(doc.Notifications)
	}
}
