package report

import (
	"fmt"
	"html"
	"strings"
	"time"
)

// writer makes HTML; every string that is filled in is escaped, so that no
// text of a journal can become mark-up.
type writer struct{ strings.Builder }

func (w *writer) add(format string, args ...any) {
	for i, arg := range args {
		switch v := arg.(type) {
		case int, float64:
		default:
			args[i] = html.EscapeString(visible(fmt.Sprint(v)))
		}
	}
	fmt.Fprintf(&w.Builder, format, args...)
}

// visible replaces control characters, and those that turn the direction of
// the text around, by a mark that can be seen.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r < ' ' || r == 0x7f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069:
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}

const head = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
`

const style = `<style>
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; margin: 2em auto; max-width: 62em; padding: 0 1em; }
h1 { font-size: 1.5em; margin: 0 0 .5em; } h2 { font-size: 1.15em; margin: 2em 0 .5em; border-bottom: 1px solid #d0d7de; }
.lines p { margin: .2em 0; font-size: 1.05em; } .lines p:first-child { font-weight: 600; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top; padding: .25em .6em .25em 0; border-bottom: 1px solid #eaeef2; overflow-wrap: anywhere; }
th { font-weight: 600; white-space: nowrap; } td.time { white-space: nowrap; font-variant-numeric: tabular-nums; }
pre, code { font: 13px/1.4 ui-monospace, monospace; } pre { background: #f6f8fa; padding: .5em .8em; margin: .3em 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.v { display: inline-block; min-width: 5em; text-align: center; border-radius: 3px; color: #fff; font-size: .85em; font-weight: 600; }
.pass { background: #1a7f37; } .warn { background: #9a6700; } .fail { background: #cf222e; } .unknown { background: #8250df; } .skip { background: #6e7781; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: #1b1f24; }
svg .pass { fill: #1a7f37; } svg .warn { fill: #9a6700; } svg .fail { fill: #cf222e; } svg .unknown { fill: #8250df; } svg .skip { fill: #6e7781; }
svg .grid { stroke: #d0d7de; } svg .objective { stroke: #cf222e; stroke-dasharray: 5 3; } svg .recovered { stroke: #1a7f37; stroke-width: 2; }
@media print { body { margin: 0; max-width: none; } }
</style>
`

// HTML is the whole report in one file that needs nothing else: no script, no
// request.
func (r Report) HTML() string {
	w := &writer{}
	w.WriteString(head)
	w.add("<title>%s %s: %s</title>\n", r.Runbook, r.Run, r.outcome())
	w.WriteString(style + "</head>\n<body>\n")
	w.add("<h1>%s of mesh %s</h1>\n<div class=\"lines\">\n", r.Runbook, r.Mesh)
	for _, line := range r.Lines() {
		w.add("<p>%s</p>\n", line)
	}
	w.WriteString("</div>\n<h2>Timeline</h2>\n")
	r.timeline(w)
	w.WriteString("<h2>Steps</h2>\n")
	r.stepTable(w)
	w.WriteString("<h2>Evidence</h2>\n")
	r.evidence(w)
	w.WriteString("<h2>Journal</h2>\n")
	r.journal(w)
	w.WriteString("</body>\n</html>\n")
	return w.String()
}

func (r Report) stepTable(w *writer) {
	w.WriteString("<table>\n<tr><th>Verdict</th><th>Step</th><th>What happened</th></tr>\n")
	for _, s := range r.Steps {
		w.add("<tr><td><span class=\"v %s\">%s</span></td><td><code>%s</code><br>%s</td><td>%s", s.Verdict, s.Verdict, s.ID, s.Title, s.Summary)
		if s.Applied && s.Diff != "" {
			w.add("<pre>%s</pre>", s.Diff)
		}
		if s.Undone != "" {
			w.add("<br>taken back: %s", s.Undone)
		}
		w.WriteString("</td></tr>\n")
	}
	w.WriteString("</table>\n")
}

func (r Report) evidence(w *writer) {
	w.WriteString("<table>\n")
	for _, row := range [][2]string{
		{"Chain", strings.TrimSuffix(r.Evidence.Chain+": "+r.Evidence.Reason, ": ")}, {"Head", r.Evidence.Head},
		{"Events", fmt.Sprintf("%d, of which the witness has acknowledged %d", r.Evidence.Events, r.Evidence.Delivered)},
		{"Run", r.Run}, {"Failover", r.FailoverID}, {"Incident", r.IncidentID}, {"Operator", r.Operator}, {"Host", r.Host},
		{"Reason", r.Reason}, {"Blast radius", r.Blast}, {"meshctl", r.Version},
	} {
		if row[1] != "" {
			w.add("<tr><th>%s</th><td>%s</td></tr>\n", row[0], row[1])
		}
	}
	w.add("</table>\n<p>To check it: <code>meshctl witness verify %s</code></p>\n", r.Run)
}

func (r Report) journal(w *writer) {
	w.WriteString("<table>\n<tr><th>Line</th><th>Time (UTC)</th><th>Event</th><th></th><th>Witness</th></tr>\n")
	for _, m := range r.Marks {
		held := "has it"
		switch {
		case !m.Event:
			held = ""
		case !m.Delivered:
			held = "not yet"
		}
		w.add("<tr><td>%d</td><td class=\"time\">%s</td><td><code>%s</code></td><td>%s</td><td>%s</td></tr>\n",
			m.Seq, m.At.UTC().Format("15:04:05.000"), m.Name, m.Detail, held)
	}
	w.WriteString("</table>\n")
}

// offset is a time of the run, from its start.
func (r Report) offset(t time.Time) time.Duration { return max(t.Sub(r.Started), 0) }
