package lab

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A lab that is killed takes its children with it.
func TestChildDiesWithItsParent(t *testing.T) {
	parent := exec.Command(os.Args[0], "-test.run=^TestParentOfAChild$")
	parent.Env = append(os.Environ(), "LAB_TEST_PARENT="+t.TempDir())
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(bufio.NewReader(out), &pid); err != nil {
		t.Fatal(err)
	}
	if state := processState(pid); state == "" || state == "Z" {
		t.Fatalf("child %d: state %q", pid, state)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed
	eventually(t, "the child ends", func() error {
		if state := processState(pid); state != "" && state != "Z" {
			return fmt.Errorf("state %s", state)
		}
		return nil
	})
}

// TestParentOfAChild is the other process of TestChildDiesWithItsParent.
func TestParentOfAChild(t *testing.T) {
	dir := os.Getenv("LAB_TEST_PARENT")
	if dir == "" {
		t.Skip("only as a child process")
	}
	c, err := startChild(syscall.SIGKILL, filepath.Join(dir, "log"), "sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(c.cmd.Process.Pid)
	<-c.done
}

// processState is R, S, Z and so on, "" when there is no such process. Nobody
// may be there to collect a zombie.
func processState(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	return fields[0]
}
