package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"

	"github.com/infrafabric/meshctl/probes"
)

// schemaVersion is raised when a field of the JSON output changes its
// meaning; fields may be added without.
const schemaVersion = 1

// showError writes an error and its hints, and a document too where the output
// is for machines: its reader gets exactly one, always.
func (a *app) showError(err error, code int, hints []string) {
	if a.output != "text" {
		doc := map[string]any{"error": err.Error(), "hints": append([]string{}, hints...), "exit_code": code}
		broken := testCase{class: "meshctl", name: a.command, verdict: probes.Unknown, summary: err.Error(), hint: strings.Join(hints, "\n")}
		_ = a.showResults(results{
			doc: doc, lines: []any{doc}, code: code, // the error below is the more important one
			suite: func() suite { return suite{name: "meshctl " + a.command, cases: []testCase{broken}} },
			prom:  func() []family { return nil },
		})
	}
	p := a.page(a.err)
	p.line("%s %s", p.bad("error:"), err)
	for _, hint := range hints {
		p.line("%s %s", p.dim("hint:"), hint)
	}
	if flushErr := p.flush(); flushErr != nil && !errors.Is(flushErr, io.ErrClosedPipe) {
		return
	}
}

// page collects text for one stream, coloured only where that is wanted.
type page struct {
	out     io.Writer
	text    strings.Builder
	styles  *lipgloss.Renderer
	verbose bool
}

func (a *app) page(out io.Writer) *page {
	styles := lipgloss.NewRenderer(io.Discard)
	styles.SetColorProfile(termenv.Ascii)
	if a.coloured(out) {
		styles.SetColorProfile(termenv.ANSI)
	}
	return &page{out: out, styles: styles, verbose: a.verbose}
}

// coloured follows --color, then NO_COLOR and TERM, then the stream.
func (a *app) coloured(out io.Writer) bool {
	switch a.color {
	case "always":
		return true
	case "never":
		return false
	}
	return a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb" && terminal(out)
}

func (p *page) line(format string, args ...any) { fmt.Fprintf(&p.text, format+"\n", args...) }

func (p *page) flush() error {
	_, err := io.WriteString(p.out, p.text.String())
	return err
}

func (p *page) paint(color, text string) string {
	return p.styles.NewStyle().Foreground(lipgloss.Color(color)).Render(text)
}

func (p *page) good(text string) string { return p.paint("2", text) }
func (p *page) bad(text string) string  { return p.paint("1", text) }
func (p *page) warn(text string) string { return p.paint("3", text) }
func (p *page) dim(text string) string  { return p.styles.NewStyle().Faint(true).Render(text) }

// verdict is a verdict in its colour, padded to a column.
func (p *page) verdict(v probes.Verdict) string {
	text := fmt.Sprintf("%-7s", v)
	switch v {
	case probes.Pass:
		return p.good(text)
	case probes.Fail:
		return p.bad(text)
	case probes.Skip:
		return p.dim(text)
	}
	return p.warn(text)
}

// indent shifts every line of a block to the right.
func indent(block, by string) string {
	return by + strings.ReplaceAll(block, "\n", "\n"+by)
}

// diff paints the lines of a diff.
func (p *page) diff(block string) string {
	lines := strings.Split(block, "\n")
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "+"):
			lines[i] = p.good(line)
		case strings.HasPrefix(line, "-"):
			lines[i] = p.bad(line)
		}
	}
	return strings.Join(lines, "\n")
}
