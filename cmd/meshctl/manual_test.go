package main

import (
	"bytes"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func manualRoot() *cobra.Command {
	return newRootCmd(&app{in: strings.NewReader(""), out: io.Discard, err: io.Discard, getenv: func(string) string { return "" }})
}

// Every command has a page, the same on every machine and day, without an
// error or a warning of mandoc.
func TestManual(t *testing.T) {
	pages := manualPages(manualRoot())
	for _, name := range []string{"meshctl.1", "meshctl-turn-recover.1", "meshctl-config-init.1", "meshctl-runs-report.1"} {
		if pages[name] == "" {
			t.Errorf("no page %s", name)
		}
	}
	if !maps.Equal(pages, manualPages(manualRoot())) {
		t.Error("two runs give different pages")
	}
	dir := t.TempDir()
	stale := filepath.Join(dir, "meshctl-gone.1")
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeManual(manualRoot(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); err == nil {
		t.Error("the page of a command that is no more was left")
	}
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("mandoc is not installed")
		}
		t.Skip("mandoc is not installed")
	}
	args := []string{"-Tlint", "-W", "warning"}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		args = append(args, filepath.Join(dir, name))
	}
	if out, err := exec.CommandContext(t.Context(), mandoc, args...).CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("mandoc: %v\n%s", err, out)
	}
}

// No flag offers a list of files for a value that is not one, and no command
// for arguments that it does not take.
func TestEveryValueHasACompletion(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.ValidArgsFunction == nil && cmd.ValidArgs == nil && cmd.CommandPath() != "meshctl config init" && !cmd.Hidden {
			t.Errorf("%s: TAB offers files as arguments", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(manualRoot())
}
