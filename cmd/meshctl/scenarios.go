package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/runbooks"
)

func newScenariosCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "scenarios", Short: "The failures there are recoveries for, with commands and objectives",
		Long: `scenarios lists what can happen to a mesh, what shows it, what recovers from it, and
in which time it should be well again. Commands that this version does not have are
left out, and said so.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			docs := scenarioDocs(cmd.Root())
			return a.show(map[string]any{"scenarios": docs}, func(p *page) { p.scenarios(docs) })
		},
	}
}

// scenarioDoc is a scenario with the commands of this version.
type scenarioDoc struct {
	runbooks.Scenario
	AutomaticMS *int64   `json:"objective_automatic_ms"`
	ManualMS    *int64   `json:"objective_manual_ms"`
	Prove       []string `json:"prove"`
	Train       []string `json:"train"`
}

func scenarioDocs(root *cobra.Command) []scenarioDoc {
	docs := []scenarioDoc{}
	for _, s := range runbooks.Scenarios() {
		d := scenarioDoc{Scenario: s, AutomaticMS: inMS(s.Automatic), ManualMS: inMS(s.Manual), Prove: []string{}, Train: []string{}}
		d.Find, d.Repair = existing(root, s.Find), existing(root, s.Repair)
		if s.Rehearsed() {
			d.Prove, d.Train = existing(root, []string{"validate --scenario " + s.ID}), existing(root, []string{"drill " + s.ID})
		}
		docs = append(docs, d)
	}
	return docs
}

func inMS(d *time.Duration) *int64 {
	if d == nil {
		return nil
	}
	ms := d.Milliseconds()
	return &ms
}

// existing keeps the command lines whose command this version has.
func existing(root *cobra.Command, lines []string) []string {
	kept := []string{}
	for _, line := range lines {
		words, _, _ := strings.Cut(line, " --")
		if cmd, rest, err := root.Find(strings.Fields(words)); err == nil && cmd != root && (len(rest) == 0 || !cmd.HasSubCommands()) {
			kept = append(kept, "meshctl "+line)
		}
	}
	return kept
}

func (p *page) scenarios(docs []scenarioDoc) {
	for i, d := range docs {
		if i > 0 {
			p.line("")
		}
		p.line("%s  %-26s %s, %s", p.good(d.ID), d.Name, d.Component, d.Scope)
		p.line("   objective   automatic %s, by hand %s  %s", objective(d.Automatic), objective(d.Manual), p.dim("("+d.Note+")"))
		p.line("   by hand     %s", d.Intervention)
		for _, step := range []struct {
			name  string
			lines []string
		}{{"find", d.Find}, {"repair", d.Repair}, {"prove", d.Prove}, {"train", d.Train}} {
			if len(step.lines) == 0 {
				p.line("   %-11s %s", step.name, p.warn("(not in this version)"))
			}
			for _, line := range step.lines {
				p.line("   %-11s %s", step.name, line)
			}
		}
	}
}

func objective(d *time.Duration) string {
	if d == nil {
		return "none"
	}
	text := d.String()
	for _, zero := range []string{"0s", "0m"} {
		if trimmed := strings.TrimSuffix(text, zero); trimmed != text && strings.HasSuffix(trimmed, map[string]string{"0s": "m", "0m": "h"}[zero]) {
			text = trimmed
		}
	}
	return text
}
