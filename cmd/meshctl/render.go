package main

import (
	"encoding/json"
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

// show writes a result once, as text or as one JSON document. The document
// gets the schema version and the command.
func (a *app) show(doc any, text func(*page)) error {
	if a.output == "text" {
		p := a.page(a.out)
		text(p)
		return p.flush()
	}
	fields, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	head, err := json.Marshal(map[string]any{"schema_version": schemaVersion, "command": a.command})
	if err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	joined := string(head[:len(head)-1])
	if len(fields) > 2 {
		joined += "," + string(fields[1:])
	} else {
		joined += "}"
	}
	_, err = fmt.Fprintln(a.out, joined)
	return err
}

// showError writes an error and its hints, and in JSON a document too: the
// reader of a JSON stream gets exactly one, always.
func (a *app) showError(err error, code int, hints []string) {
	if a.output == "json" {
		_ = a.show(map[string]any{"error": err.Error(), "hints": append([]string{}, hints...), "exit_code": code}, nil)
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
	out    io.Writer
	text   strings.Builder
	styles *lipgloss.Renderer
}

func (a *app) page(out io.Writer) *page {
	styles := lipgloss.NewRenderer(io.Discard)
	styles.SetColorProfile(termenv.Ascii)
	if a.coloured(out) {
		styles.SetColorProfile(termenv.ANSI)
	}
	return &page{out: out, styles: styles}
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
