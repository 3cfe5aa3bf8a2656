package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Every way in which a recovery is told to stop ends it in the same way: it
// says so at once, frees the lock, leaves no process and no terminal behind,
// and can be gone on with.
func TestWaysToStopARecovery(t *testing.T) {
	t.Parallel()
	l, env := terminalLab(t)
	before, err := os.ReadFile(l.envFile())
	if err != nil {
		t.Fatal(err)
	}
	owner := filepath.Join(l.Dir, "state", "lab", "owner.json")
	command := []string{"turn", "recover", "--failed", address(l.TURN[0]), "--replacement", l.Spare, "--monitor", "10m", "--yes"}
	run := ""
	for _, way := range []struct {
		name string
		stop func(s *terminalSession)
		gone bool // the terminal
	}{
		{"^C", func(s *terminalSession) { s.typed(t, "\x03") }, false},
		{"SIGTERM", func(s *terminalSession) { _ = s.cmd.Process.Signal(syscall.SIGTERM) }, false},
		{"the terminal is closed", func(s *terminalSession) { _ = s.tty.Close() }, true},
	} {
		s := onTerminal(t, env, command...)
		s.await(t, " left)")
		if _, err := os.Stat(owner); err != nil {
			t.Errorf("%s: no owner while it runs: %v", way.name, err)
		}
		way.stop(s)
		shown := s.ends(t, exitInterrupted)
		if !way.gone && (!strings.Contains(shown, "interrupted: a change that is under way gets up to 5 s") || !strings.Contains(shown, "meshctl runs resume ")) {
			t.Errorf("%s: shown\n%s", way.name, shown)
		}
		if _, err := os.Stat(owner); !os.IsNotExist(err) {
			t.Errorf("%s: the owner's record is left: %v", way.name, err)
		}
		if syscall.Kill(-s.cmd.Process.Pid, 0) == nil {
			t.Errorf("%s: a process is left", way.name)
		}
		if run == "" {
			journals, err := filepath.Glob(filepath.Join(l.Dir, "state", "lab", "runs", "*.jsonl"))
			if err != nil || len(journals) != 1 {
				t.Fatalf("journals: %v, %v", journals, err)
			}
			run = strings.TrimSuffix(filepath.Base(journals[0]), ".jsonl")
		}
		command = []string{"runs", "resume", run}
	}
	if shown := onTerminal(t, env, "runs", "abort", "--undo", run).ends(t, exitOK); !strings.Contains(shown, "taken back") {
		t.Errorf("shown\n%s", shown)
	}
	if after, err := os.ReadFile(l.envFile()); err != nil || string(after) != string(before) {
		t.Errorf("the env file is not as before: %v\n%s", err, after)
	}
	onTerminal(t, env, "witness", "verify", run).ends(t, exitOK)
}
