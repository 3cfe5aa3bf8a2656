package probes_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/infrafabric/meshctl/probes"
)

// TestEveryCodeHasItsMeaning reads the constants from the source, so that none
// is forgotten in the table.
func TestEveryCodeHasItsMeaning(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constants := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Code") {
			return true
		}
		constants++
		code, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if _, known := probes.Explain(code); err != nil || !known {
			t.Errorf("%s = %q has no meaning", spec.Names[0].Name, code)
		}
		return true
	})
	seen := map[string]bool{}
	for _, m := range probes.Meanings() {
		if seen[m.Code] {
			t.Errorf("%s has two meanings", m.Code)
		}
		seen[m.Code] = true
		helpless := m.Hint == "" && m.Verdict != probes.Pass && !strings.HasSuffix(m.Code, ".interrupted")
		if m.Summary == "" || helpless || strings.HasSuffix(m.Summary+m.Hint, ".") {
			t.Errorf("%s: summary %q, hint %q", m.Code, m.Summary, m.Hint)
		}
	}
	if constants == 0 || constants != len(seen) {
		t.Errorf("%d constants, %d meanings", constants, len(seen))
	}
}

func TestEmptyReportIsAProblem(t *testing.T) {
	if f, found := (probes.Report{}).Problem(); !found || f.Verdict != probes.Unknown || (probes.Report{}).Healthy() {
		t.Errorf("Problem() of nothing = %+v, %v", f, found)
	}
}
