package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/tidwall/gjson"

	"github.com/infrafabric/meshctl/runbooks/targets"
)

// output collects what a running process writes.
type output struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.data.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.data.String()
}

// process is a command that runs beside the test.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr output
	done           chan struct{}
}

func startProcess(env []string, dir string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = env, dir, &p.stdout, &p.stderr
	p.cmd.SysProcAttr = ownGroup() // to see what it leaves behind
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		runtime.LockOSThread() // Linux ends the process with the thread that started it
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // the state has the exit code
		}
	}()
	return p, <-started
}

func (p *process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// interrupt ends the process as ^C does, and gives its exit code; -1 when it
// had to be killed.
func (p *process) interrupt() int {
	_ = p.cmd.Process.Signal(os.Interrupt) // it may have ended
	if !poll(p.exited) {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	return p.cmd.ProcessState.ExitCode()
}

// left tells whether a process of its group is still there.
func (p *process) left() bool { return syscall.Kill(-p.cmd.Process.Pid, 0) == nil }

// look gives standard error, or the files that match a glob.
func (p *process) look(glob, name string) string {
	if name == "stderr" {
		return p.stderr.String()
	}
	var all strings.Builder
	paths, _ := filepath.Glob(glob) // a bad pattern matches nothing, ever
	for _, path := range paths {
		if data, err := os.ReadFile(path); err == nil {
			all.Write(data)
		}
	}
	return all.String()
}

// environ is the script's environment, for processes beside it.
func (s *script) environ(ts *testscript.TestScript) []string {
	var env []string
	for _, key := range s.keys {
		env = append(env, key+"="+ts.Getenv(key))
	}
	return env
}

// labProcess is `meshctl lab up`.
type labProcess struct {
	*process
	labDoc
}

// running bounds the labs at one time: each is a whole mesh.
var running = make(chan struct{}, 3)

// Only one script waits to be alone.
var waitingAlone sync.Mutex

// alone waits until no lab is running, for a command that brings its own and
// judges how fast it is. Until the end of the script no other begins.
func cmdAlone(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 0 && !neg && of(ts).lab == nil, "alone, before any lab")
	waitingAlone.Lock()
	for range cap(running) {
		running <- struct{}{}
	}
	ts.Defer(func() {
		for range cap(running) {
			<-running
		}
		waitingAlone.Unlock()
	})
}

// startLab returns when all agents are connected with each other.
func startLab(env []string, dir string, args ...string) (*labProcess, error) {
	running <- struct{}{}
	p, err := startProcess(env, filepath.Dir(dir), append([]string{"meshctl", "lab", "up", "--dir", dir, "--output", "json"}, args...)...)
	if err != nil {
		<-running
		return nil, err
	}
	l := &labProcess{process: p}
	up := poll(func() bool { return p.exited() || json.Unmarshal([]byte(p.stdout.String()), &l.labDoc) == nil })
	if !up || p.exited() || !poll(l.steady) || relax(l.Config) != nil {
		err := fmt.Errorf("the lab is not up or its agents are not connected: %s%s", p.stdout.String(), p.stderr.String())
		_ = l.stop()
		return nil, err
	}
	return l, nil
}

// relax lets a lab's configuration judge whether messages arrive, and not how
// busy this machine is.
func relax(config string) error {
	f, err := os.OpenFile(config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(`thresholds:
  rtt_relay_warn_ms: 20000
  rtt_relay_fail_ms: 20000
  jitter_warn_ms: 20000
  jitter_fail_ms: 20000
  delivery_latency_warn_ms: 20000
  delivery_latency_fail_ms: 20000
`)
	return errors.Join(err, f.Close())
}

// steady tells whether every agent is connected with every other.
func (l *labProcess) steady() bool {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, l.Controller+"/stats", nil)
	if err != nil {
		return false
	}
	request.Close = true
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	connected := len(gjson.GetBytes(body, `connections.#(state=="connected")#`).Array())
	return err == nil && connected == len(l.Agents)*(len(l.Agents)-1)
}

// stop interrupts the lab, which must end well and leave nothing behind.
func (l *labProcess) stop() error {
	defer func() { <-running }()
	code := l.interrupt()
	if code != 0 || l.left() || l.stderr.String() != "" || strings.Count(l.stdout.String(), "\n") != 1 {
		return fmt.Errorf("the lab ended with exit code %d (something is left: %v): %s%s", code, l.left(), l.stdout.String(), l.stderr.String())
	}
	return nil
}

// secrets are the credentials of this lab.
func (l *labProcess) secrets() ([]string, error) {
	var all []string
	for _, name := range []string{"admin.key", "witness.key"} {
		data, err := os.ReadFile(filepath.Join(l.Dir, name))
		if err != nil {
			return nil, err
		}
		all = append(all, strings.TrimSpace(string(data)))
	}
	f, err := targets.ReadEnvFile(l.envFile())
	if err != nil {
		return nil, err
	}
	password, _ := f.Value("TURN_PASSWORD")
	return append(all, password), nil
}

func (l *labProcess) envFile() string { return filepath.Join(l.Dir, "webrtc-production.env") }

// address is HOST:PORT of a TURN URI.
func address(uri string) string {
	hostPort, _, _ := strings.Cut(strings.TrimPrefix(uri, "turn:"), "?")
	return hostPort
}

// lab NAME [ARGS...] starts a lab of three agents in the directory NAME, with
// windows of a fiftieth, and ends it with the script. Sets MESHCTL_CONFIG, STATE (the state
// directory of the mesh), ENVFILE, TURN1 and TURN2 (HOST:PORT), SPARE (a URI)
// and CONTROLLER.
func cmdLab(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	usage(ts, len(args) > 0 && !neg && s.lab == nil, "lab NAME [ARGS...], once in a script")
	l, err := startLab(s.environ(ts), ts.MkAbs(args[0]), append([]string{"--scale", "0.02", "--agents", "3"}, args[1:]...)...)
	ts.Check(err)
	s.lab = l
	ts.Defer(func() {
		if err := l.stop(); err != nil {
			s.t.Error(err)
		}
	})
	secrets, err := l.secrets()
	ts.Check(err)
	s.secrets = append(s.secrets, secrets...)
	for key, value := range map[string]string{
		"MESHCTL_CONFIG": l.Config, "STATE": filepath.Join(l.Dir, "state", "lab"), "ENVFILE": l.envFile(),
		"TURN1": address(l.TURN[0]), "TURN2": address(l.TURN[1]), "SPARE": l.Spare, "CONTROLLER": l.Controller,
	} {
		ts.Setenv(key, value)
	}
}
