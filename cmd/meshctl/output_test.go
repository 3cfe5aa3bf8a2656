package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks"
	"github.com/infrafabric/meshctl/runbooks/drill"
)

// hostile is text that a server may send.
const hostile = "a<b>&\"'\x00\x1b[31m\xff]]>\n\u202e\uFFFE"

func TestJUnitIsWellFormedWhateverTheTextHolds(t *testing.T) {
	var b bytes.Buffer
	s := suite{name: hostile}
	for _, v := range []probes.Verdict{probes.Pass, probes.Warn, probes.Fail, probes.Unknown, probes.Skip, "other"} {
		s.cases = append(s.cases, testCase{class: hostile, name: string(v), verdict: v, summary: hostile, hint: hostile})
	}
	if err := writeJUnit(&b, s); err != nil {
		t.Fatal(err)
	}
	decoder := xml.NewDecoder(&b)
	count := map[string]int{}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok {
			count[start.Name.Local]++
		}
	}
	for name, want := range map[string]int{"testcase": 6, "failure": 1, "error": 2, "skipped": 1} {
		if count[name] != want {
			t.Errorf("%d elements %s, want %d", count[name], name, want)
		}
	}
}

// The head of a grid is whole, however short its cells are.
func TestGridOfFastLinks(t *testing.T) {
	var b bytes.Buffer
	rtt := 0.2
	link := func(local, peer string) wire.Link {
		return wire.Link{Local: local, Peer: peer, State: wire.StateConnected, Path: wire.PathRelay, RTTMillis: &rtt}
	}
	p := (&app{color: "never", getenv: func(string) string { return "" }}).page(&b)
	p.grid(runbooks.PeerGrid{Agents: []string{"a", "b"}, Links: []wire.Link{link("a", "b"), link("b", "a")}})
	if err := p.flush(); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "FROM \\ TO  a          b\na                     R 0.2ms\nb          R 0.2ms\n\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// A drill for CI is itself a case, beside its steps and checks.
func TestDrillAsJUnit(t *testing.T) {
	var b bytes.Buffer
	r := drill.Report{
		Scenario: "A", Verdict: probes.Fail, Reason: "2 < 3",
		Recovery: &runbooks.Result{Steps: []runbooks.StepResult{{ID: "edit-env", Verdict: probes.Pass, Summary: "edited"}}},
		Validation: &runbooks.Validation{
			Scenario: "A", Checks: []runbooks.CheckResult{{ID: "agents", Phase: "short", Verdict: probes.Skip, Summary: "not reached"}},
			Audit: runbooks.Audit{Events: 2, Delivered: 1, Problem: "down"},
		},
	}
	if err := writeJUnit(&b, drillSuite(r)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`name="meshctl drill A" tests="4" failures="1" errors="1" skipped="1"`, `<failure message="2 &lt; 3">`,
		`classname="A.recovery" name="edit-env"`, `classname="A.short" name="agents"`, `<error message="1 of 2 audit events are not delivered: down">`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in\n%s", want, b.String())
		}
	}
}

func TestPromIsReadBack(t *testing.T) {
	var b bytes.Buffer
	err := writeProm(&b, []family{
		{"meshctl_probe_success", "Help with \\ and\nline.", []sample{{1, []string{"target", hostile}}, {0, []string{"target", "turn:a"}}}},
		{"meshctl_empty", "No sample.", nil},
	})
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(&b)
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 1 || len(families["meshctl_probe_success"].GetMetric()) != 2 {
		t.Errorf("got %v", families)
	}
}

func TestWantedOutput(t *testing.T) {
	for line, want := range map[string]string{
		"": "text", "probe -o json": "json", "probe -ojunit x": "junit", "--output=prom": "prom", "--output jsonl": "jsonl",
		"-o": "text", "-o xml": "text", "--output": "text", "-o json -o=text": "text",
	} {
		if got := wantedOutput(strings.Fields(line)); got != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}

// An outfile is replaced as a whole, keeps its mode, and is never a device.
func TestOutfile(t *testing.T) {
	dir := t.TempDir()
	kept, link := filepath.Join(dir, "kept"), filepath.Join(dir, "link")
	if err := os.WriteFile(kept, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("kept", link); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	if code := run([]string{"version", "--outfile", link}, nil, &out, &errOut); code != 0 || out.Len() > 0 {
		t.Fatalf("exit code %d, output %s%s", code, out.String(), errOut.String())
	}
	data, err := os.ReadFile(kept)
	info, _ := os.Lstat(link)
	mode, _ := os.Stat(kept)
	if err != nil || !strings.HasPrefix(string(data), "meshctl ") || info.Mode()&os.ModeSymlink == 0 || mode.Mode().Perm() != 0o640 {
		t.Errorf("%q, link %s, mode %s, %v", data, info.Mode(), mode.Mode(), err)
	}
	for _, path := range []string{dir, "/dev/null", filepath.Join(dir, "none", "file"), filepath.Join(kept, "file")} {
		out.Reset()
		if code := run([]string{"version", "-o", "json", "--outfile", path}, nil, &out, io.Discard); code != exitUsage || !strings.Contains(out.String(), `"error"`) {
			t.Errorf("%s: exit code %d, %s", path, code, out.String())
		}
	}
}
