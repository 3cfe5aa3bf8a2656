package runbooks

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Two operators who start at the same moment: one runs, the other is told who.
func TestTwoOperatorsAtOnce(t *testing.T) {
	t.Parallel()
	rounds := 100
	dir, witness := filepath.Join(t.TempDir(), "state"), acceptingWitness(t)
	both := [2]*operator{startOperator(t, "", dir, witness, nil), startOperator(t, "", dir, witness, nil)}
	for range rounds {
		oneRuns(t, both)
	}
	runs, err := Runs(dir)
	if err != nil || len(runs) != rounds {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	for _, r := range runs {
		if r.Outcome != string(Done) {
			t.Errorf("run %+v", r)
		}
	}
}

// oneRuns starts both and lets the one that runs end after the other was refused.
func oneRuns(t *testing.T, both [2]*operator) {
	t.Helper()
	both[0].do(t)
	both[1].do(t)
	said := [2]string{both[0].says(t), both[1].says(t)}
	winner := 0
	if said[1] == "runs\n" {
		winner = 1
	}
	if refused := said[1-winner]; said[winner] != "runs\n" || !strings.Contains(refused, "lock mesh: held by user") || !strings.Contains(refused, "doing fake, run 01") {
		t.Fatalf("said %q", said)
	}
	both[winner].do(t)
	if end := both[winner].says(t); end != "done\n" {
		t.Fatalf("ended %q", end)
	}
}

// On a shared host two users exclude each other and see each other's runs, in
// a directory that their group may write.
func TestTwoUsersShareAStateDirectory(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root to be two users")
	}
	const group = 4242
	top, self := openTempDir(t)
	witness := acceptingWitness(t)
	shared := filepath.Join(top, "shared")
	if err := os.Mkdir(shared, 0o770); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(shared, 0, group); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(shared, 0o770); err != nil { // no setgid bit: the harder case
		t.Fatal(err)
	}
	dir := filepath.Join(shared, "mesh")
	user := func(id uint32) *syscall.Credential {
		return &syscall.Credential{Uid: id, Gid: id, Groups: []uint32{group}}
	}
	both := [2]*operator{startOperator(t, self, dir, witness, user(4001)), startOperator(t, self, dir, witness, user(4002))}
	for i := range 10 {
		if i%2 == 1 {
			both[0], both[1] = both[1], both[0]
		}
		oneRuns(t, both)
	}
	// Each has to be able to go on with what the other left.
	for i, from := range both {
		from.do(t)
		if said := from.says(t); said != "runs\n" {
			t.Fatalf("said %q", said)
		}
		both[1-i].do(t)
		if said := both[1-i].says(t); !strings.Contains(said, "held by user"+strconv.Itoa(4001)) && !strings.Contains(said, "held by user"+strconv.Itoa(4002)) {
			t.Fatalf("said %q", said)
		}
		from.do(t)
		from.says(t)
	}
	journals, err := filepath.Glob(filepath.Join(dir, "runs", "*.jsonl"))
	if err != nil || len(journals) != 12 {
		t.Fatalf("%d journals, %v", len(journals), err)
	}
	for _, path := range journals {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o660 || info.Sys().(*syscall.Stat_t).Gid != group {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// openTempDir is a directory that other users can reach, with a copy of this
// binary, which they may not reach where it is.
func openTempDir(t *testing.T) (dir, self string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "meshctl-users-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err = os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "self")
	err = os.Link(self, copied)
	if err != nil {
		var data []byte
		if data, err = os.ReadFile(self); err == nil {
			err = os.WriteFile(copied, data, 0o755) //nolint:gosec // others run it
		}
	}
	if err := errors.Join(err, os.Chmod(dir, 0o755)); err != nil { //nolint:gosec // others must get in
		t.Fatal(err)
	}
	return dir, copied
}

// acceptingWitness says yes to everything and holds nothing.
func acceptingWitness(t *testing.T) string {
	t.Helper()
	w := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"results":[]}`)
	}))
	t.Cleanup(w.Close)
	return w.URL
}
