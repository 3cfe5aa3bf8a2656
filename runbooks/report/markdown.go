package report

import (
	"fmt"
	"strings"

	"github.com/infrafabric/meshctl/probes"
)

// maxLines and maxLine bound what is posted to a channel.
const (
	maxLines = 10
	maxLine  = 240
)

// Markdown is the report for the incident channel, at most ten lines.
func (r Report) Markdown() string {
	three := r.Lines()
	lines := []string{
		"**" + plain(three[0]) + "**",
		plain(three[1]),
		plain(three[2]),
		fmt.Sprintf("Run `%s`, failover `%s`%s", code(r.Run), code(r.FailoverID), incident(r.IncidentID)),
	}
	lines = append(lines, r.stepLines(maxLines-len(lines)-1)...)
	lines = append(lines, "Evidence: chain "+plain(r.Evidence.Chain)+", head `"+code(r.Evidence.Head[:min(16, len(r.Evidence.Head))])+"`")
	return strings.Join(lines, "\n") + "\n"
}

func incident(id string) string {
	if id == "" {
		return ""
	}
	return ", incident `" + code(id) + "`"
}

// stepLines is a line for each step; where they are too many, those that are
// not well come first and the rest is counted.
func (r Report) stepLines(room int) []string {
	var bad, good []string
	for _, s := range r.Steps {
		line := fmt.Sprintf("- %s `%s` %s", s.Verdict, code(s.ID), plain(s.Summary))
		if s.Verdict == probes.Pass {
			good = append(good, line)
		} else {
			bad = append(bad, line)
		}
	}
	all := append(bad, good...)
	if len(all) > room {
		left := len(all) - room + 1
		all = append(all[:room-1:room-1], fmt.Sprintf("- and %d more steps", left))
	}
	return all
}

// plain is foreign text on one line, without a meaning in Markdown or a chat:
// no mark-up, no link, no mention of everybody.
func plain(text string) string {
	var b strings.Builder
	for _, r := range visible(text) {
		switch {
		case r == '\n' || r == '\t':
			b.WriteByte(' ')
		case strings.ContainsRune("\\`*_[]<>#|~!@", r):
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
		if b.Len() > maxLine {
			b.WriteString("...")
			break
		}
	}
	return b.String()
}

// code is text between backticks.
func code(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '`' {
			return -1
		}
		return r
	}, text[:min(len(text), 80)])
}
