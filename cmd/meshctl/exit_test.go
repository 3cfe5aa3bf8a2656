package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

// TestStateThatMayNotBeWritten is a precondition, not a fault of meshctl.
func TestStateThatMayNotBeWritten(t *testing.T) {
	for path, code := range map[string]int{"/s/state/lab": exitRefused, "/elsewhere": exitInternal} {
		var out, errOut bytes.Buffer
		a := &app{out: &out, err: &errOut, output: "text", stateDir: "/s/state", ctx: t.Context(), getenv: func(string) string { return "" }}
		got := a.exit(fmt.Errorf("lock mesh: %w", &fs.PathError{Op: "mkdir", Path: path, Err: fs.ErrPermission}))
		if got != code || strings.Contains(errOut.String(), "may not write to state_dir /s/state") != (code == exitRefused) {
			t.Errorf("%s: exit %d, not %d: %s", path, got, code, errOut.String())
		}
	}
}
