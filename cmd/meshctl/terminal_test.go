package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"
)

// terminalSession is a command on a terminal: what it shows, and what is typed.
type terminalSession struct {
	*process
	tty *os.File
}

// onTerminal runs a command as a person does. It may ask, and ^C reaches it.
func onTerminal(t *testing.T, env []string, args ...string) *terminalSession {
	t.Helper()
	return programOnTerminal(t, env, "meshctl", args...)
}

func programOnTerminal(t *testing.T, env []string, name string, args ...string) *terminalSession {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.cmd.Env = env
	tty, err := pty.Start(p.cmd)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.Copy(&p.stdout, tty) // ends with an error when the other side closes
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() { p.interrupt(); _ = tty.Close() })
	return &terminalSession{p, tty}
}

func (s *terminalSession) await(t *testing.T, text string) {
	t.Helper()
	if !poll(func() bool { return strings.Contains(s.stdout.String(), text) }) {
		t.Fatalf("never shown: %q in\n%s", text, s.stdout.String())
	}
}

func (s *terminalSession) typed(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(s.tty, text); err != nil {
		t.Fatal(err)
	}
}

func (s *terminalSession) ends(t *testing.T, code int) string {
	t.Helper()
	if !poll(s.exited) || s.cmd.ProcessState.ExitCode() != code {
		t.Fatalf("exit %v, want %d:\n%s", s.cmd.ProcessState, code, s.stdout.String())
	}
	return s.stdout.String()
}

// terminalLab is a lab with a dead TURN server, and the environment to use it.
func terminalLab(t *testing.T) (*labProcess, []string) {
	t.Helper()
	dir := t.TempDir()
	env := []string{"PATH=" + os.Getenv("PATH")}
	for key, value := range testEnv(dir) {
		env = append(env, key+"="+value)
	}
	l, err := startLab(env, filepath.Join(dir, "lab"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.stop(); err != nil {
			t.Error(err)
		}
	})
	env = append(env, "MESHCTL_CONFIG="+l.Config)
	onTerminal(t, env, "lab", "fault", "turn-killed").ends(t, exitOK)
	return l, env
}

// A person is asked before anything changes, sees a wait as one changing line,
// and can stop at any time.
func TestRecoverOnATerminal(t *testing.T) {
	t.Parallel()
	l, env := terminalLab(t)
	before, err := os.ReadFile(l.envFile())
	if err != nil {
		t.Fatal(err)
	}
	recovery := []string{"turn", "recover", "--failed", address(l.TURN[0]), "--replacement", l.Spare, "--monitor", "10m"}

	asked := onTerminal(t, env, recovery...)
	asked.await(t, "Type yes: ")
	asked.typed(t, "no\n")
	if shown := asked.ends(t, exitRefused); !strings.Contains(shown, "- TURN_SERVERS=") || !strings.Contains(shown, "not confirmed") {
		t.Errorf("shown:\n%s", shown)
	}
	if after, err := os.ReadFile(l.envFile()); err != nil || string(after) != string(before) {
		t.Errorf("the env file was changed: %v\n%s", err, after)
	}

	stopped := onTerminal(t, env, recovery...)
	stopped.await(t, "Type yes: ")
	stopped.typed(t, "\x03")
	stopped.ends(t, exitInterrupted)

	run := onTerminal(t, env, recovery...)
	run.await(t, "Type yes: ")
	run.typed(t, "yes\n")
	run.await(t, " left)")
	run.typed(t, "\x03")
	shown := run.ends(t, exitInterrupted)
	if !strings.Contains(shown, "meshctl runs resume ") {
		t.Errorf("no word on how to go on:\n%s", shown)
	}
	last := shown[strings.LastIndex(shown, " left)"):]
	if !strings.Contains(last, "\r\x1b[K") {
		t.Errorf("the changing line was not cleared: %q", last)
	}
}

// A watch has the terminal's other screen, overwrites itself there and gives
// the first one back.
func TestWatchOnATerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := filepath.Join(dir, "meshctl.yaml")
	err := os.WriteFile(config, []byte(`signaling: [{name: one, url: "ws://127.0.0.1:1"}]
controller: {url: "http://127.0.0.1:1"}
witness: {url: "http://127.0.0.1:1"}
prometheus: {url: ""}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=" + os.Getenv("PATH"), "MESHCTL_CONFIG=" + config}
	for key, value := range testEnv(dir) {
		if key != "MESHCTL_CONFIG" {
			env = append(env, key+"="+value)
		}
	}
	watch := onTerminal(t, env, "status", "--watch", "--every", "100ms")
	watch.await(t, "every 100ms; ^C ends")
	if !poll(func() bool { return strings.Count(watch.stdout.String(), "\x1b[H") > 2 }) {
		t.Error("drawn once only")
	}
	watch.typed(t, "\x03")
	shown := watch.ends(t, exitOK)
	if !strings.HasPrefix(shown, enterScreen) || !strings.HasSuffix(shown, leaveScreen) || !strings.Contains(shown, "a part of the mesh does NOT work") {
		t.Errorf("shown:\n%q", shown)
	}
}
