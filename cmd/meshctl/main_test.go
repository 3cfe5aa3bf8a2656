package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the expected output in the scripts")

func TestMain(m *testing.M) {
	testscript.Main(leakFree{m}, map[string]func(){"meshctl": main})
}

// leakFree fails the tests when a goroutine outlives them.
type leakFree struct{ *testing.M }

func (m leakFree) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// TestScripts runs the command line against the lab. Beside what a script
// asks for, every command that it runs with `exits` is held to rules that
// always apply: see (*script).run.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"), Setup: setup, UpdateScripts: *update,
		RequireExplicitExec: true, RequireUniqueNames: true, Condition: condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": cmdExits, "waitfor": cmdWaitfor, "interrupt": cmdInterrupt, "killed": cmdKilled, "lab": cmdLab, "alone": cmdAlone,
			"coturn": cmdCoturn, "peer": cmdPeer, "formats": cmdFormats, "json": cmdJSON, "edit": cmdEdit, "secret": cmdSecret, "clean": cmdClean,
			"receiver": cmdReceiver,
		},
	})
}

// condition knows [ci]: there a server that is missing fails a script, which
// elsewhere is skipped.
func condition(name string) (bool, error) {
	if name == "ci" {
		return os.Getenv("CI") != "", nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// script is what the commands of one script share.
type script struct {
	t       testing.TB
	keys    []string // of the environment
	secrets []string // that must never be shown
	lab     *labProcess
}

type scriptKey struct{}

// setup gives a script an environment of its own: nothing of the machine's.
func setup(e *testscript.Env) error {
	s := &script{t: e.T().(testing.TB)}
	for key, value := range testEnv(e.WorkDir) {
		e.Setenv(key, value)
	}
	for _, pair := range e.Vars {
		key, _, _ := strings.Cut(pair, "=")
		s.keys = append(s.keys, key)
	}
	e.Values[scriptKey{}] = s
	return nil
}

func testEnv(dir string) map[string]string {
	return map[string]string{
		"HOME": dir, "XDG_CONFIG_HOME": filepath.Join(dir, "xdg-config"), "XDG_STATE_HOME": filepath.Join(dir, "xdg-state"),
		"NO_COLOR": "1", "TERM": "xterm", "MESHCTL_OPERATOR": "tester@test", "MESHCTL_CONFIG": "",
		"MESHCTL_TURN_USERNAME": "", "MESHCTL_TURN_PASSWORD": "",
		"GORACE": "atexit_sleep_ms=10", // else every command of a -race build ends a second later
	}
}
