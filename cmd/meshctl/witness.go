package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/runbooks"
	"github.com/infrafabric/meshctl/witnessclient"
)

func newWitnessCmd(a *app) *cobra.Command {
	return group("witness", "The audit log: log, query, verify, flush",
		newWitnessLogCmd(a), newWitnessQueryCmd(a), newWitnessVerifyCmd(a), newWitnessFlushCmd(a))
}

type witnessLogOptions struct {
	event, failoverID, incident, severity string
	metadata                              []string
}

func newWitnessLogCmd(a *app) *cobra.Command {
	var o witnessLogOptions
	cmd := &cobra.Command{
		Use: "log --event NAME [--meta KEY=VALUE ...]", Short: "Write one event to the audit log",
		Long: `log journals one event and hands it to the witness.

Exit status: 0 the witness has it, 9 it is journalled and not delivered yet.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runWitnessLog(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.event, "event", "", "`NAME` of the event")
	flags.StringVar(&o.failoverID, "failover-id", "", "failover `ID`")
	flags.StringVar(&o.incident, "incident", "", "incident `ID`")
	flags.StringVar(&o.severity, "severity", "", "`SEVERITY`, such as critical")
	flags.StringArrayVar(&o.metadata, "meta", nil, "metadata, `KEY=VALUE`; may be repeated")
	return cmd
}

func (a *app) runWitnessLog(ctx context.Context, o witnessLogOptions) error {
	if o.event == "" || strings.ContainsAny(o.event, " \t\r\n") {
		return usageError("witness log: --event wants the name of an event, without spaces")
	}
	event := witnessclient.Event{Name: o.event, FailoverID: o.failoverID, IncidentID: o.incident, Severity: o.severity, Metadata: map[string]any{}}
	for _, pair := range o.metadata {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return usageError("--meta %q: not KEY=VALUE", pair)
		}
		event.Metadata[key] = value
	}
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	run, audit, err := s.engine.LogEvent(ctx, "witness log", event)
	if err != nil {
		return err
	}
	code := auditCode(audit)
	doc := map[string]any{"run": run, "event": o.event, "audit": audit, "exit_code": code}
	if err := a.show(doc, func(p *page) { p.line("logged %s as %s", o.event, run); p.audit(audit) }); err != nil {
		return err
	}
	return withCode(code)
}

type witnessQueryOptions struct {
	from, to string
	match    []string
	errors   bool
}

func newWitnessQueryCmd(a *app) *cobra.Command {
	var o witnessQueryOptions
	cmd := &cobra.Command{
		Use: "query [FIELD=VALUE | FIELD~REGEX ...]", Short: "Ask the audit log for events",
		Example: `  meshctl witness query event=turn_server_failover_complete --from -1d
  meshctl witness query 'event~^turn_' metadata.turn_server=turn:t1.example.com:3478
  meshctl witness query --errors --from -15m`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.match = args
			return a.runWitnessQuery(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.from, "from", "-1h", "beginning: -5m, -1h, -7d or an RFC 3339 `TIME`")
	flags.StringVar(&o.to, "to", "now", "end, as --from: `TIME`")
	flags.BoolVar(&o.errors, "errors", false, "the events that count as errors in a validation")
	return cmd
}

func (a *app) runWitnessQuery(ctx context.Context, o witnessQueryOptions) error {
	query := witnessclient.Query{Match: map[string]any{}, From: o.from, To: o.to}
	if o.errors {
		query.Match["event"] = map[string]any{"regex": runbooks.ErrorNames}
	}
	for _, term := range o.match {
		field, value, err := matchTerm(term)
		if err != nil {
			return err
		}
		query.Match[field] = value
	}
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	events, err := s.mesh.Witness.Query(ctx, query)
	if err != nil {
		return &exitError{code: exitUnknown, err: err}
	}
	sort.SliceStable(events, func(i, j int) bool { return events[i].Timestamp.Before(events[j].Timestamp) })
	return a.show(map[string]any{"count": len(events), "events": events}, func(p *page) {
		for _, e := range events {
			p.line("%s %-34s %s", e.Timestamp.Local().Format(time.DateTime), e.Name, eventDetail(e))
		}
		p.line("%d events", len(events))
	})
}

// matchTerm reads FIELD=VALUE (a number or boolean is one) or FIELD~REGEX.
func matchTerm(term string) (string, any, error) {
	at := strings.IndexAny(term, "=~")
	if at <= 0 {
		return "", nil, usageError("witness query: %q is not FIELD=VALUE or FIELD~REGEX", term)
	}
	field, text := term[:at], term[at+1:]
	if term[at] == '~' {
		return field, map[string]any{"regex": text}, nil
	}
	var value any
	if json.Unmarshal([]byte(text), &value) == nil {
		switch value.(type) {
		case float64, bool:
			return field, value, nil
		}
	}
	return field, text, nil
}

// eventDetail is an event's content in one line, without what every event of
// a run carries.
func eventDetail(e witnessclient.Event) string {
	usual := map[string]bool{
		"run": true, "seq": true, "prev": true, "hash": true, "host": true, "meshctl_version": true,
		"operator_source": true, "events": true, "head": true, "plan": true, "facts": true, "params": true, "before": true, "match": true, "diff": true, "pid": true,
	}
	var parts []string
	for _, f := range []struct{ name, value string }{{"agent", e.AgentID}, {"peer", e.PeerID}, {"severity", e.Severity}, {"failover", e.FailoverID}} {
		if f.value != "" {
			parts = append(parts, f.name+"="+f.value)
		}
	}
	var keys []string
	for key := range e.Metadata {
		if !usual[key] {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	for _, key := range keys {
		parts = append(parts, fmt.Sprintf("%s=%v", key, e.Metadata[key]))
	}
	return oneLine(strings.Join(parts, " "))
}

// oneLine keeps foreign text from breaking or colouring the terminal.
func oneLine(text string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	if len(clean) > 300 {
		clean = clean[:300] + "..."
	}
	return clean
}

func newWitnessVerifyCmd(a *app) *cobra.Command {
	var offline bool
	cmd := &cobra.Command{
		Use: "verify [RUN]", Short: "Check the hash chain of journals, and what the witness holds of them",
		Long: `verify checks one journal, or all of them: that no line was changed, removed or
swapped, that the end is anchored by run_finished, and that the witness holds the
same events, each once.

Exit status: 0 all is proved, 3 something was changed or differs, 4 it could not
be proved (an unanchored tail, the witness does not answer).`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runWitnessVerify(cmd.Context(), args, offline)
		},
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "check the journals only, without asking the witness")
	return cmd
}

func (a *app) runWitnessVerify(ctx context.Context, runs []string, offline bool) error {
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	verified, err := s.engine.VerifyEvidence(ctx, runs, !offline)
	if err != nil {
		return err
	}
	doc := map[string]any{"verdict": runbooks.EvidenceVerdict(verified), "journals": verified}
	err = a.show(doc, func(p *page) {
		for _, v := range verified {
			p.line("%s %s chain %s, %d events: %s", p.verdict(v.Verdict), v.Run, v.Chain, v.Events, v.Summary)
		}
		if len(verified) == 0 {
			p.line("no journals")
		}
	})
	if err != nil {
		return err
	}
	return withCode(verdictCode(runbooks.EvidenceVerdict(verified), "unknown"))
}

func newWitnessFlushCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "flush", Short: "Deliver the audit events that the witness does not have yet",
		Long: `flush hands over every event that a journal holds and the witness has not
acknowledged, each exactly once.

Exit status: 0 nothing is left, 9 something is.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runWitnessFlush(cmd.Context()) },
	}
}

func (a *app) runWitnessFlush(ctx context.Context) error {
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	flushed, err := s.engine.Flush(ctx)
	if err != nil {
		return err
	}
	code := exitOK
	if flushed.Left > 0 {
		code = exitAuditPending
	}
	err = a.show(flushed, func(p *page) {
		p.line("%d events delivered, %d were there already, %d left", flushed.Sent, flushed.AlreadyThere, flushed.Left)
		for _, problem := range flushed.Problems {
			p.line("%s %s", p.warn("not delivered:"), problem)
		}
	})
	if err != nil {
		return err
	}
	return withCode(code)
}
