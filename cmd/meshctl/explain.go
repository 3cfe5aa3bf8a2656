package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/probes"
)

func newExplainCmd(a *app) *cobra.Command {
	var markdown bool
	cmd := &cobra.Command{
		Use: "explain [CODE]", Short: "Say what a finding code means and what to do about it",
		Long: `explain tells the meaning of a code that a probe, a check or a metric has named,
such as turn.auth.expired. Without a code it lists all of them.`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeCodes,
		RunE: func(_ *cobra.Command, args []string) error {
			switch {
			case markdown:
				return a.show(nil, func(p *page) { p.codesPage() })
			case len(args) == 0:
				return a.listCodes()
			}
			return a.explain(args[0])
		},
	}
	cmd.Flags().BoolVar(&markdown, "markdown", false, "write docs/codes.md")
	_ = cmd.Flags().MarkHidden("markdown")
	return cmd
}

func completeCodes(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var codes []string
	for _, m := range probes.Meanings() {
		codes = append(codes, cobra.CompletionWithDesc(m.Code, m.Summary))
	}
	return codes, cobra.ShellCompDirectiveNoFileComp
}

// meaningDoc is the JSON of one code.
type meaningDoc struct {
	Code    string         `json:"code"`
	Verdict probes.Verdict `json:"verdict"`
	Summary string         `json:"summary"`
	Hint    string         `json:"hint"`
	Doc     string         `json:"doc"`
}

func newMeaningDoc(m probes.Meaning) meaningDoc {
	return meaningDoc{m.Code, m.Verdict, m.Summary, m.Hint, "docs/codes.md#" + anchor(m.Code)}
}

// anchor is how Markdown viewers name the heading of a code.
func anchor(code string) string { return strings.ToLower(strings.ReplaceAll(code, ".", "")) }

func (a *app) explain(code string) error {
	m, known := probes.Explain(code)
	if !known {
		err := &exitError{code: exitUsage, err: usageError("explain %.100q: no such code", code)}
		if near := nearest(code); len(near) > 0 {
			err.hints = []string{"did you mean " + strings.Join(near, ", ") + "?"}
		} else {
			err.hints = []string{"meshctl explain lists all codes"}
		}
		return err
	}
	doc := newMeaningDoc(m)
	return a.show(doc, func(p *page) {
		p.line("%s %s", p.verdict(doc.Verdict), doc.Code)
		p.line("        %s", doc.Summary)
		if doc.Hint != "" {
			p.line("        %s %s", p.dim("hint:"), doc.Hint)
		}
		p.line("        %s %s", p.dim("more:"), doc.Doc)
	})
}

func (a *app) listCodes() error {
	docs := []meaningDoc{}
	for _, m := range probes.Meanings() {
		docs = append(docs, newMeaningDoc(m))
	}
	return a.show(map[string]any{"codes": docs}, func(p *page) {
		for _, d := range docs {
			p.line("%s %-28s %s", p.verdict(d.Verdict), d.Code, d.Summary)
		}
	})
}

// nearest are the codes that look like a mistyped one, by the distance that
// cobra has for its commands, or that hold it.
func nearest(code string) []string {
	family := &cobra.Command{SuggestionsMinimumDistance: 3}
	var near []string
	for _, m := range probes.Meanings() {
		family.AddCommand(&cobra.Command{Use: m.Code, Run: func(*cobra.Command, []string) {}})
		if len(code) > 2 && strings.Contains(m.Code, strings.ToLower(code)) {
			near = append(near, m.Code)
		}
	}
	if like := family.SuggestionsFor(code); len(like) > 0 {
		near = like
	}
	return near[:min(len(near), 5)]
}

// codesPage is docs/codes.md.
func (p *page) codesPage() {
	p.line("<!-- Written by `make gen` from probes/codes.go. -->")
	p.line("# Finding codes\n")
	p.line("What `meshctl probe`, the checks of a recovery and the metrics name. The codes are stable: scripts and")
	p.line("alerts may rely on them. `meshctl explain CODE` prints the same.\n")
	p.line("The verdict says what a finding alone means; that of a report is its worst.\n")
	p.line("| code | verdict | meaning |\n|---|---|---|")
	for _, m := range probes.Meanings() {
		p.line("| [`%s`](#%s) | %s | %s |", m.Code, anchor(m.Code), m.Verdict, m.Summary)
	}
	for _, m := range probes.Meanings() {
		p.line("\n## %s\n", m.Code)
		p.line("**%s**: %s.", m.Verdict, m.Summary)
		if m.Hint != "" {
			p.line("\nWhat to do: %s.", m.Hint)
		}
	}
}
