package report_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/runbooks/report"
	"github.com/infrafabric/meshctl/witnessclient"
)

// hostile is text that tries to be mark-up, a link, a mention, a terminal
// sequence or another direction of reading.
const hostile = "</td><script>document.title='owned'</script><img src=http://evil.invalid/x.png onerror=alert(1)>" +
	"\" onload=\"alert(1)\" x='&lt;' [link](http://evil.invalid) @everyone \x1b[31m\u202etxt \xff"

// journal writes the journal of a run whose texts are hostile.
func journal(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "RUN.jsonl")
	j, err := witnessclient.CreateJournal(path, witnessclient.Stamp{
		Run: "RUN", FailoverID: "F" + hostile, Scenario: "A", IncidentID: hostile, Operator: hostile, Host: hostile, Version: "v1",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events() {
		if _, err := j.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.AppendNote("interrupted", map[string]string{"step": hostile}); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(event(witnessclient.RunFinished, "outcome", "done", "recovered_ms", 7)); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func event(name string, pairs ...any) witnessclient.Event {
	e := witnessclient.Event{Name: name, Metadata: map[string]any{}}
	for i := 0; i < len(pairs); i += 2 {
		e.Metadata[pairs[i].(string)] = pairs[i+1]
	}
	return e
}

func events() []witnessclient.Event {
	plan := map[string]any{"blast_radius": hostile, "steps": []any{
		map[string]any{"id": "edit-env", "title": "edit" + hostile}, map[string]any{"id": "<b>", "title": hostile},
		map[string]any{"id": "monitor", "title": "watch"},
	}}
	return []witnessclient.Event{
		event(witnessclient.RunStarted, "runbook", hostile+"turn recover", "mesh", hostile, "changes", true, "objective_ms", 10, "reason", hostile, "plan", plan),
		event("run_step_intent", "step", "edit-env", "diff", "- old\n+ new"+hostile),
		event("run_step_done", "step", "edit-env", "verdict", "pass", "summary", hostile),
		event("run_step_intent", "step", "<b>", "diff", "x"),
		event("run_step_failed", "step", "<b>", "error", hostile),
		event("run_undone", "step", "<b>", "verdict", "pass", "summary", hostile),
		event("run_step_done", "step", "new"+hostile, "verdict", hostile, "summary", 7),
		event(hostile, "step", map[string]any{"not": "a string"}),
	}
}

func load(t *testing.T, path string) report.Report {
	t.Helper()
	contents, err := witnessclient.ReadJournal(path)
	if err != nil && contents.Stamp.Run == "" {
		t.Fatal(err)
	}
	verified, err := witnessclient.VerifyJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	return report.New(contents, verified)
}

func TestReportTellsTheRun(t *testing.T) {
	r := load(t, journal(t))
	if r.Outcome != "done" || len(r.Steps) != 4 || r.Evidence.Chain != witnessclient.ChainOK || r.Objective == 0 {
		t.Errorf("report = %+v", r)
	}
	if got := r.Changed(); len(got) != 1 || got[0] != "edit-env" {
		t.Errorf("Changed() = %q, want edit-env: the other was taken back", got)
	}
	lines := r.Lines()
	for i, want := range []string{": recovered.", "Recovered after 10ms; the objective is 10ms: met.", "Changed and standing: edit-env; the evidence is whole (9 events, 0 delivered"} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d = %q, want %q in it", i, lines[i], want)
		}
	}
	r.Objective = r.Ended.Sub(r.Started) + time.Millisecond // near enough to be drawn
	html := r.HTML()
	for _, want := range []string{"default-src 'none'", `<line class="objective"`, "<pre>- old\n+ new", "chain", "not reached", "meshctl witness verify RUN"} {
		if !strings.Contains(html, want) && !strings.Contains(strings.ToLower(html), want) {
			t.Errorf("no %q in the report", want)
		}
	}
}

// Every tag of the report is one of its own, and none can make a request.
func TestHostileTextIsEscaped(t *testing.T) {
	html := load(t, journal(t)).HTML()
	tags := regexp.MustCompile(`<(/?[a-zA-Z!][^\s>/]*)`).FindAllStringSubmatch(html, -1)
	own := regexp.MustCompile(`^/?(!DOCTYPE|html|head|meta|title|style|body|h1|h2|div|p|svg|line|text|rect|table|tr|td|th|code|span|br|pre)$`)
	for _, tag := range tags {
		if !own.MatchString(tag[1]) {
			t.Errorf("foreign tag <%s", tag[1])
		}
	}
	for _, bad := range []string{" src=", " href=", "url(", "@import", "\x1b", "\u202e", "\xff"} {
		if strings.Contains(strings.ReplaceAll(html, "&lt;img src=http://evil", ""), bad) {
			t.Errorf("%q in the report", bad)
		}
	}
	if strings.Count(html, `"`)%2 != 0 {
		t.Error("a quote is not closed")
	}
}

func TestMarkdownIsTenHarmlessLines(t *testing.T) {
	text := load(t, journal(t)).Markdown()
	if got := strings.Count(text, "\n"); got > 10 {
		t.Errorf("%d lines, want at most 10:\n%s", got, text)
	}
	shown := regexp.MustCompile("`[^`\n]*`").ReplaceAllString(text, "")
	shown = regexp.MustCompile(`\\.`).ReplaceAllString(shown, "")
	for _, bad := range []string{"<", ">", "[", "@", "\x1b", "\u202e", "`"} {
		if strings.Contains(shown, bad) {
			t.Errorf("%q in the text:\n%s", bad, text)
		}
	}
}

// A damaged or cut journal is reported as far as it is whole, and said to be so.
func TestDamageIsSaid(t *testing.T) {
	path := journal(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(data), "\n")
	for name, damaged := range map[string]string{
		"broken":     strings.Replace(string(data), "- old", "- odd", 1),
		"unanchored": strings.Join(lines[:4], ""),
	} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		r := load(t, path)
		if !strings.Contains(r.Lines()[2], "the evidence is "+name) {
			t.Errorf("%s: %q", name, r.Lines()[2])
		}
		if name == "unanchored" && !strings.Contains(r.Lines()[0], "NOT FINISHED") {
			t.Errorf("cut off: %q", r.Lines()[0])
		}
	}
}

// Only a run that changed something and proved it is said to have recovered.
func TestOnlyProofIsRecovery(t *testing.T) {
	recovered := map[bool]int{true: 1000}
	for _, test := range []struct {
		name, outcome string
		changes       bool
		first, second string
	}{
		{"undone", "undone", true, "all changes were taken back", "is not known"},
		{"unknown", "unknown", true, "not proved to have worked", "is not known"},
		{"log", "done", false, "ended: done", "It took"},
		{"done", "done", true, ": recovered.", "Recovered after 1s; the objective is 500ms: MISSED."},
	} {
		path := filepath.Join(t.TempDir(), "R.jsonl")
		j, err := witnessclient.CreateJournal(path, witnessclient.Stamp{Run: "R"})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range []witnessclient.Event{
			event(witnessclient.RunStarted, "runbook", "turn recover", "mesh", "m", "changes", test.changes, "objective_ms", 500),
			event(witnessclient.RunFinished, "outcome", test.outcome, "recovered_ms", recovered[test.changes]),
		} {
			if _, err := j.Append(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		lines := load(t, path).Lines()
		if !strings.Contains(lines[0], test.first) || !strings.Contains(lines[1], test.second) {
			t.Errorf("%s: %q, want %q and %q", test.name, lines, test.first, test.second)
		}
	}
}
