package runbooks

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/witnessclient"
)

// Tests that need a process of its own run this binary again in a role.
const (
	childRole     = "RUNBOOKS_TEST_ROLE"
	childStateDir = "RUNBOOKS_TEST_STATE"
	childWitness  = "RUNBOOKS_TEST_WITNESS"
)

func child(role string) int {
	w, err := witnessclient.New(witnessclient.Options{URL: os.Getenv(childWitness), APIKey: secret.New(os.Getenv(childWitness + "_KEY"))})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer w.Close()
	e := &Engine{
		StateDir: os.Getenv(childStateDir), Mesh: &Mesh{Name: "test", Witness: w},
		Stamp: witnessclient.Stamp{Operator: fmt.Sprintf("user%d@test", os.Getuid()), Host: "test"},
	}
	switch role {
	case "crash":
		err = crash()
	case "operator":
		err = operate(e, os.Stdin, os.Stdout)
	case "disk":
		err = fillDisk(e)
	default:
		err = fmt.Errorf("no role %q", role)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// operate starts a recovery for every line it reads, says how that went, and
// stays in its only step until the next line.
func operate(e *Engine, in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		s := (&lamp{}).step("one")
		apply := s.Apply
		s.Apply = func(ctx context.Context, key string, o Observation) error {
			_, _ = fmt.Fprintln(out, "runs")
			lines.Scan()
			return apply(ctx, key, o)
		}
		result, err := e.Run(context.Background(), Request{Recovery: fakeRecovery(s)})
		if err != nil {
			_, _ = fmt.Fprintln(out, err)
			continue
		}
		_, _ = fmt.Fprintln(out, result.Outcome)
	}
	return lines.Err()
}

// operator is such a process.
type operator struct {
	in  io.WriteCloser
	out *bufio.Reader
}

// startOperator runs this binary, or the copy of it at path.
func startOperator(t *testing.T, path, stateDir, witness string, as *syscall.Credential) *operator {
	t.Helper()
	cmd := childProcess(t, "operator", stateDir, witness)
	if path != "" {
		cmd.Path, cmd.Dir = path, filepath.Dir(path)
	}
	cmd.SysProcAttr.Credential = as
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // its output was judged
	})
	return &operator{in: in, out: bufio.NewReader(out)}
}

func childProcess(t *testing.T, role, stateDir, witness string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childRole+"="+role, childStateDir+"="+stateDir, childWitness+"="+witness)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (o *operator) do(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(o.in, "go\n"); err != nil {
		t.Fatal(err)
	}
}

func (o *operator) says(t *testing.T) string {
	t.Helper()
	line, err := o.out.ReadString('\n')
	if err != nil {
		t.Fatal(err, line)
	}
	return line
}

// fillDisk runs a recovery of two steps on what disk there is, and gives an
// error when an effect exists whose intent does not.
func fillDisk(e *Engine) error {
	one, two := &lamp{}, &lamp{}
	result, err := e.Run(context.Background(), Request{Recovery: fakeRecovery(one.step("one"), two.step("two"))})
	contents, readErr := witnessclient.ReadJournal(journalPath(e.StateDir, result.Run))
	intents := 0
	for _, r := range contents.Records {
		if r.Event.Name == "run_step_intent" {
			intents++
		}
	}
	report := diskReport{Applied: one.applied + two.applied, Intents: intents, Outcome: string(result.Outcome)}
	if err != nil {
		report.Error = err.Error()
	}
	if report.Applied > intents {
		return fmt.Errorf("%d effects, %d intents on the disk: %w", report.Applied, intents, errors.Join(readErr, err))
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}

type diskReport struct {
	Applied, Intents int
	Outcome, Error   string
}
