package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/infrafabric/meshctl"

// allowed is the house as docs/design.md draws it: which of our packages a
// package may import. Arrows point down only.
var allowed = map[string][]string{
	"mesh/secret":      {},
	"mesh/wire":        {},
	"mesh/httpapi":     {"mesh/secret"},
	"mesh/control":     {"mesh/secret", "mesh/wire", "mesh/httpapi"},
	"mesh/metrics":     {"mesh/secret", "mesh/httpapi"},
	"witnessclient":    {"mesh/secret", "mesh/wire", "mesh/httpapi"},
	"probes":           {"mesh/secret", "mesh/wire", "mesh/httpapi"},
	"mesh":             {"mesh/secret", "mesh/wire", "mesh/httpapi", "witnessclient"},
	"mesh/sentinel":    {"mesh", "mesh/wire", "witnessclient"},
	"mesh/lab/network": {},
	"mesh/lab":         {"mesh/lab/network", "mesh", "mesh/secret", "mesh/wire", "mesh/httpapi", "mesh/control", "witnessclient"},
	"runbooks/targets": {},
	"runbooks":         {"mesh", "mesh/secret", "mesh/wire", "mesh/httpapi", "mesh/control", "mesh/metrics", "witnessclient", "probes", "runbooks/targets"},
	"runbooks/report":  {"witnessclient", "probes"},
	"runbooks/notify":  {"mesh/secret", "witnessclient"},
	"runbooks/drill":   {"mesh", "mesh/lab", "mesh/secret", "mesh/wire", "mesh/control", "witnessclient", "probes", "runbooks", "runbooks/targets"},
}

// edge are packages that only cmd/meshctl may import, and "testing", which no
// production package may.
var edge = []string{"github.com/spf13/cobra", "github.com/charmbracelet/lipgloss", "testing"}

type listed struct {
	ImportPath, Dir string
	Name            string
	Doc             string
	GoFiles         []string
	Imports         []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json", module+"/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		if err := decoder.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportsFollowTheHouse(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if name == "cmd/meshctl" {
			continue
		}
		may, known := allowed[name]
		if !known {
			t.Errorf("package %s has no place in the house: add it to docs/design.md and to this test", name)
		}
		for _, imported := range p.Imports {
			if ours, is := strings.CutPrefix(imported, module+"/"); is && !slices.Contains(may, ours) {
				t.Errorf("%s must not import %s", name, ours)
			}
			if slices.Contains(edge, imported) {
				t.Errorf("%s must not import %s", name, imported)
			}
		}
	}
}

func TestEveryPackageAnswersAQuestion(t *testing.T) {
	for _, p := range packages(t) {
		if !strings.Contains(p.Doc, "answers") {
			t.Errorf("%s: its comment does not say which question it answers: %q", p.ImportPath, p.Doc)
		}
		for _, vague := range []string{"util", "utils", "common", "helpers", "types"} {
			if p.Name == vague {
				t.Errorf("%s: %q says nothing", p.ImportPath, vague)
			}
		}
	}
}

// forbidden calls, outside cmd/meshctl: the edge prints, exits and reads the
// environment, nobody else.
var forbidden = map[string][]string{
	"os":   {"Exit", "Getenv", "LookupEnv", "Environ", "Stdout", "Stderr", "Stdin"},
	"fmt":  {"Print", "Println", "Printf"},
	"time": {"Sleep"},
	"log":  {"Fatal", "Fatalf", "Print", "Printf", "Println"},
}

func TestBelowTheEdgeValuesAreReturned(t *testing.T) {
	for _, p := range packages(t) {
		if p.Name == "main" {
			continue
		}
		for _, file := range p.GoFiles {
			checkCalls(t, filepath.Join(p.Dir, file))
		}
	}
}

func checkCalls(t *testing.T, path string) {
	t.Helper()
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if from, ok := selector.X.(*ast.Ident); ok && slices.Contains(forbidden[from.Name], selector.Sel.Name) {
			t.Errorf("%s: %s.%s belongs to cmd/meshctl", set.Position(n.Pos()), from.Name, selector.Sel.Name)
		}
		return true
	})
}
