package runbooks

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/witnessclient"
)

// Whatever room the disk has: no effect without its intent on it, and the run
// says that its journal could not be written.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a small disk")
	}
	stopped, through := 0, 0
	for blocks := 1; through == 0 && blocks <= 40; blocks++ {
		cmd := childProcess(t, "disk", "", "http://127.0.0.1:1")
		dir := t.TempDir()
		shell := `mount -t tmpfs -o size=` + strconv.Itoa(4*blocks) + `k none "$1" && exec "$2"`
		mounted := exec.Command("sh", "-c", shell, "sh", dir, cmd.Path)
		mounted.Env = append(cmd.Env, childStateDir+"="+filepath.Join(dir, "state"))
		mounted.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWNS}
		out, err := mounted.CombinedOutput()
		if err != nil && strings.Contains(err.Error(), "operation not permitted") || strings.Contains(string(out), "mount:") {
			t.Skipf("cannot mount here: %v %s", err, out)
		}
		var report diskReport
		if err != nil || json.Unmarshal(out, &report) != nil {
			t.Fatalf("%d blocks: %v\n%s", blocks, err, out)
		}
		switch {
		case report.Outcome == string(Done):
			through++
		case !strings.Contains(report.Error, "no space left on device"):
			t.Errorf("%d blocks: %+v", blocks, report)
		default:
			stopped++
		}
	}
	if stopped == 0 || through == 0 {
		t.Errorf("stopped %d times, got through %d times", stopped, through)
	}
}

// brokenFile fails from its nth call on, and says nothing afterwards that would
// be better not believed.
type brokenFile struct {
	witnessclient.File
	left *int
}

func (f brokenFile) Write(line []byte) (int, error) {
	if *f.left--; *f.left < 0 {
		return 0, syscall.EIO
	}
	return f.File.Write(line)
}

func (f brokenFile) Sync() error {
	if *f.left--; *f.left < 0 {
		return syscall.EIO
	}
	return f.File.Sync()
}

// The first write or sync that fails stops the run before its next effect, and
// what it had done can be gone on with on a disk that works.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	e, l := witnessMesh(t, lab.Options{})
	impatient, err := witnessclient.New(witnessclient.Options{URL: l.WitnessURL, APIKey: l.WitnessKey, Patience: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(impatient.Close)
	e.Mesh.Witness = impatient // whose journal fails here lives on, and has seen every answer
	for calls, ended := 0, false; !ended; calls++ {
		if calls > 100 {
			t.Fatal("never gets through")
		}
		anew(t, e)
		one, two := &lamp{}, &lamp{}
		rec := fakeRecovery(one.step("one"), two.step("two"))
		e.knows(rec)
		left := calls
		e.disk.Wrap = func(f witnessclient.File) witnessclient.File { return brokenFile{f, &left} }
		result, err := e.Run(t.Context(), Request{Recovery: rec})
		e.disk.Wrap = nil
		if err == nil {
			expect(t, result, Done)
			ended = left >= 0 // else only an acknowledgement failed
			continue
		}
		if !errors.Is(err, syscall.EIO) {
			t.Fatalf("%d calls: got error %v", calls, err)
		}
		intents := 0
		if contents, err := witnessclient.ReadJournal(journalPath(e.StateDir, rec.Run)); err == nil {
			for _, r := range contents.Records {
				if r.Event.Name == stepIntent {
					intents++
				}
			}
		}
		if applied := one.applied + two.applied; applied > intents {
			t.Errorf("%d calls: %d effects, %d intents on the disk", calls, applied, intents)
		}
		if runs, err := Runs(e.StateDir); err == nil && len(runs) == 1 && runs[0].Unfinished() {
			expect(t, mustResume(t, e, rec.Run), Done)
			if one.applied != 1 || two.applied != 1 {
				t.Errorf("%d calls: applied %d and %d times", calls, one.applied, two.applied)
			}
		}
	}
}
