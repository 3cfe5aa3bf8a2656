package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/creack/pty"
)

// session is a command that somebody runs at a terminal.
type terminalSession struct {
	t    *testing.T
	cmd  *exec.Cmd
	tty  *os.File
	out  output
	done chan struct{} // when the terminal is closed
}

// onTerminal starts meshctl with all three streams on a terminal of 80 columns.
func onTerminal(t *testing.T, env []string, args ...string) *terminalSession {
	t.Helper()
	s := &terminalSession{t: t, cmd: exec.Command("meshctl", args...), done: make(chan struct{})}
	s.cmd.Env = env
	var err error
	if s.tty, err = pty.StartWithSize(s.cmd, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // it may have ended
		_ = s.tty.Close()
		<-s.done
	})
	go func() {
		_, _ = io.Copy(&s.out, s.tty) // ends with an error when the other side closes
		close(s.done)
	}()
	return s
}

func (s *terminalSession) waitFor(text string) {
	s.t.Helper()
	if !poll(func() bool { return strings.Contains(s.out.String(), text) }) {
		s.t.Fatalf("no %q on the terminal:\n%s", text, s.out.String())
	}
}

func (s *terminalSession) write(text string) {
	s.t.Helper()
	if _, err := s.tty.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

// ended waits for the end and checks the exit code.
func (s *terminalSession) ended(want int) {
	s.t.Helper()
	<-s.done
	_ = s.cmd.Wait() // the state has the exit code
	if got := s.cmd.ProcessState.ExitCode(); got != want {
		s.t.Errorf("exit code %d, want %d:\n%s", got, want, s.out.String())
	}
}

// screen is what stays on a terminal: a carriage return goes back, and
// "\x1b[K" clears the rest of the line. overwritten is what does not stay.
func screen(raw string) (stays, overwritten []string) {
	for _, line := range strings.Split(strings.ReplaceAll(raw, "\r\n", "\n"), "\n") {
		parts := strings.Split(line, "\r")
		shown := parts[0]
		for _, part := range parts[1:] {
			if rest, clears := strings.CutPrefix(part, "\x1b[K"); clears {
				overwritten = append(overwritten, shown)
				shown = rest
			} else {
				shown = part + shown[min(len(part), len(shown)):]
			}
		}
		stays = append(stays, shown)
	}
	return stays, overwritten
}

// terminalLab is a lab with a dead TURN server, and what a test says about it.
type terminalLab struct {
	*labProcess
	env, recover []string
}

func startTerminalLab(t *testing.T) terminalLab {
	t.Helper()
	dir := t.TempDir()
	env := []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir}
	for key, value := range testEnv(dir) {
		if key != "MESHCTL_CONFIG" {
			env = append(env, key+"="+value)
		}
	}
	l, err := startLab(env, filepath.Join(dir, "lab"), "--scale", "0.02")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.stop(); err != nil {
			t.Error(err)
		}
	})
	tl := terminalLab{labProcess: l, env: append(env, "MESHCTL_CONFIG="+l.Config)}
	tl.recover = []string{"turn", "recover", "--failed", address(l.TURN[0]), "--replacement", l.Spare, "--monitor", "2s"}
	tl.run(t, "lab", "fault", "turn-killed")
	return tl
}

func (l terminalLab) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("meshctl", args...)
	cmd.Env = l.env
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("meshctl %s: %v\n%s%s", strings.Join(args, " "), err, out, exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func (l terminalLab) readEnvFile(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(l.envFile())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (l terminalLab) journals() []string {
	paths, _ := filepath.Glob(filepath.Join(l.Dir, "state", "lab", "runs", "*.jsonl")) // the pattern is good
	return paths
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	l := startTerminalLab(t)
	before := l.readEnvFile(t)
	for _, tt := range []struct {
		name, answer string
		want         int
	}{
		{"no", "no\n", exitRefused},
		{"nothing", "\n", exitRefused},
		{"end of input", "\x04", exitRefused},
		{"something else", "yes please\n", exitRefused},
		{"interrupt", "\x03", exitInterrupted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := onTerminal(t, l.env, l.recover...)
			s.waitFor("Type yes: ")
			if plan := s.out.String(); !strings.Contains(plan, "+ TURN_SERVERS="+l.Spare) || !strings.Contains(plan, "Blast radius: ") {
				t.Errorf("asked without a plan:\n%s", plan)
			}
			s.write(tt.answer)
			s.ended(tt.want)
			if !bytes.Equal(l.readEnvFile(t), before) || len(l.journals()) > 0 {
				t.Error("something was changed")
			}
		})
	}
	t.Run("yes", func(t *testing.T) {
		s := onTerminal(t, l.env, l.recover...)
		s.waitFor("Type yes: ")
		s.write("yes\n")
		s.ended(exitOK)
		if bytes.Equal(l.readEnvFile(t), before) || len(l.journals()) != 1 {
			t.Error("nothing was changed")
		}
		checkProgress(t, s.out.String())
	})
}

// checkProgress: a wait is one line that changes, fits and is gone at the end.
func checkProgress(t *testing.T, raw string) {
	t.Helper()
	left := regexp.MustCompile(`^\d\d:\d\d:\d\d monitor: .* \(\d+s left\)$`)
	stays, overwritten := screen(raw)
	rewritten := 0
	for _, line := range overwritten {
		if left.MatchString(line) {
			rewritten++
		}
		if len([]rune(line)) > 79 {
			t.Errorf("a line that wraps cannot be cleared: %q", line)
		}
	}
	if rewritten < 5 {
		t.Errorf("the wait was shown %d times:\n%q", rewritten, raw)
	}
	for _, line := range stays {
		if strings.HasSuffix(line, "left)") || strings.Contains(line, "\x1b") {
			t.Errorf("left on the terminal: %q", line)
		}
	}
	if text := strings.Join(stays, "\n"); !strings.Contains(text, "\npass    recovered\n") {
		t.Errorf("no result on the terminal:\n%s", text)
	}
}

// The first ^C lets a running change finish, the second one does not wait for
// it. What the journal says is enough to go on.
func TestSecondInterruptExitsAtOnce(t *testing.T) {
	t.Parallel()
	l := startTerminalLab(t)
	reached, release := make(chan struct{}), make(chan struct{})
	controller := slowReload(t, l.Controller, reached, release)
	config, err := os.ReadFile(l.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.Config, bytes.ReplaceAll(config, []byte(l.Controller), []byte(controller)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := onTerminal(t, l.env, append(l.recover, "--yes")...)
	<-reached
	if !poll(func() bool { _, _ = s.tty.WriteString("\x03"); return closed(s.done) }) { // the terminal may be gone
		t.Fatal("still there")
	}
	s.ended(exitInterrupted)
	journal, err := os.ReadFile(l.journals()[0])
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(journal), "interrupted") || strings.Contains(s.out.String(), "runs resume") {
		t.Errorf("it waited for the change to end:\n%s", s.out.String())
	}
	close(release)
	run := strings.TrimSuffix(filepath.Base(l.journals()[0]), ".jsonl")
	if out := l.run(t, "runs", "resume", run); !strings.Contains(out, "pass    recovered\n") {
		t.Errorf("resume: %s", out)
	}
	l.run(t, "witness", "verify")
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// slowReload stands before a controller: the first reload does not get
// through until release is closed.
func slowReload(t *testing.T, controller string, reached, release chan struct{}) string {
	t.Helper()
	target, err := url.Parse(controller)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{DisableKeepAlives: true}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/admin/reload-config" && !closed(release) {
			if !closed(reached) {
				close(reached)
			}
			<-release
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}
