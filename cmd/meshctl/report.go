package main

import (
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/runbooks"
	"github.com/infrafabric/meshctl/runbooks/report"
	"github.com/infrafabric/meshctl/witnessclient"
)

func newRunsReportCmd(a *app) *cobra.Command {
	format := "html"
	cmd := &cobra.Command{
		Use: "report RUN", Short: "Write the report of a run: one HTML file, or ten lines for a channel",
		Long: `report makes one file from the journal of a run: three lines for a manager, the
timeline with the objective, every step with its change, and whether the evidence is
whole. It needs no other file and makes no request. --format md gives the ten lines
for an incident channel.

Exit status: 0 written, 3 written and the journal is damaged: it says so.`,
		Example: `  meshctl runs report RUN --outfile incident-42.html
  meshctl runs report RUN --format md`,
		Args: exactArgs(1, "a run id"), ValidArgsFunction: a.completeRuns,
		RunE: func(_ *cobra.Command, args []string) error { return a.runReport(args[0], format) },
	}
	choiceFlag(cmd, &format, "format", "`FORMAT` of the report: html or md", "html", "md")
	return cmd
}

func (a *app) runReport(run, format string) error {
	c, err := a.loadConfig()
	if err != nil {
		return err
	}
	r, err := readReport(c.stateDir(), run)
	if err != nil {
		return err
	}
	text := r.Markdown()
	if format == "html" {
		text = r.HTML()
	}
	code := exitOK
	if r.Evidence.Chain == witnessclient.ChainBroken {
		code = exitUnhealthy
	}
	doc := map[string]any{"run": run, "outcome": r.Outcome, "chain": r.Evidence.Chain, "lines": r.Lines(), "format": format, "report": text, "exit_code": code}
	if err := a.show(doc, func(p *page) { p.text.WriteString(text) }); err != nil {
		return err
	}
	return withCode(code)
}

// readReport reads a journal as far as its chain is whole.
func readReport(stateDir, run string) (report.Report, error) {
	if run == "" || filepath.Base(run) != run {
		return report.Report{}, &runbooks.NoRunError{Run: run, Dir: runbooks.RunsDir(stateDir)}
	}
	path := filepath.Join(runbooks.RunsDir(stateDir), run+".jsonl")
	contents, err := witnessclient.ReadJournal(path)
	var damage *witnessclient.DamageError
	if err != nil && !errors.As(err, &damage) {
		return report.Report{}, &runbooks.NoRunError{Run: run, Dir: runbooks.RunsDir(stateDir)}
	}
	verified, err := witnessclient.VerifyJournal(path)
	if err != nil {
		return report.Report{}, err
	}
	return report.New(contents, verified), nil
}
