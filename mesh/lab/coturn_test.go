package lab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/infrafabric/meshctl/mesh/secret"
)

func running(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestCoturnIsGoneAfterClose(t *testing.T) {
	for _, fault := range []string{"", "turn-killed", "turn-silent"} {
		t.Run("with "+fault, func(t *testing.T) {
			s := startRelay(t, "coturn")
			pid := s.relay.(*coturnRelay).child.cmd.Process.Pid
			if fault != "" {
				s.mustInject(t, fault)
			}
			if err := s.relay.close(); err != nil {
				t.Fatal(err)
			}
			if running(pid) {
				t.Errorf("process %d is left", pid)
			}
		})
	}
}

func TestCoturnKeepsItsPassword(t *testing.T) {
	need(t, "turnserver")
	login := credentials{"lab", secret.New("never-to-be-seen")}
	dir := filepath.Join(t.TempDir(), "coturn")
	r, err := newCoturnRelay(t.Context(), dir, login, 11_000)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.close() }()
	if line := strings.Join(r.child.cmd.Args, " "); strings.Contains(line, login.password.Reveal()) {
		t.Errorf("in the process list: %s", line)
	}
	info, err := os.Stat(r.file("turnserver.conf"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("configuration: %v, error %v", info.Mode(), err)
	}
}

func TestCoturnThatEndsAtOnce(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "turnserver"), []byte("#!/bin/sh\necho no such option\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	_, err := newCoturnRelay(t.Context(), t.TempDir(), turnLogin, 11_000)
	if err == nil || !strings.Contains(err.Error(), "turnserver ended") || !strings.Contains(err.Error(), "no such option") {
		t.Errorf("error %v", err)
	}
}

func TestChildThatCannotStart(t *testing.T) {
	if _, err := startChild(syscall.SIGKILL, filepath.Join(t.TempDir(), "log"), "/no/such/program"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestChildWritesItsLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	c, err := startChild(syscall.SIGKILL, log, "sh", "-c", "echo hello")
	if err != nil {
		t.Fatal(err)
	}
	<-c.done
	if err := c.close(); err != nil {
		t.Errorf("kill of a process that has ended: %v", err)
	}
	if content, err := os.ReadFile(log); err != nil || string(content) != "hello\n" {
		t.Errorf("log %q, error %v", content, err)
	}
}
