package witnessclient

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A directory of the group stays the group's all the way down, whatever the
// umask of who comes first; a private one stays private.
func TestMakeDir(t *testing.T) {
	for _, test := range []struct {
		name string
		top  fs.FileMode
		want fs.FileMode
		file fs.FileMode
	}{
		{"private", 0o755, 0o700, 0o600},
		{"group", 0o770, 0o770, 0o660},
		{"group, inherited", 0o770 | fs.ModeSetgid, 0o770 | fs.ModeSetgid, 0o660},
		{"everybody's", 0o777 | fs.ModeSticky, 0o700, 0o600},
	} {
		t.Run(test.name, func(t *testing.T) {
			top := t.TempDir()
			if err := os.Chmod(top, test.top); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(top, "mesh", "runs")
			for range 2 {
				if err := MakeDir(dir); err != nil {
					t.Fatal(err)
				}
			}
			j, err := CreateJournal(filepath.Join(dir, "r.jsonl"), testStamp)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = j.Close() }()
			for path, want := range map[string]fs.FileMode{filepath.Dir(dir): test.want, dir: test.want, j.Path(): test.file} {
				info, err := os.Stat(path)
				if err != nil || info.Mode()&(fs.ModePerm|fs.ModeSetgid) != want {
					t.Errorf("%s: %v, %v; want %v", path, info.Mode(), err, want)
				}
			}
		})
	}
}

func TestMakeDirRefusesAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	writeFile(t, path, nil)
	if err := MakeDir(path); err == nil {
		t.Error("a file passed for a directory")
	}
	if err := MakeDir(filepath.Join(path, "runs")); err == nil {
		t.Error("a directory in a file")
	}
}

// The group of the directory, not that of the user, gets the files.
func TestShareChangesTheGroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to have a second group")
	}
	top := t.TempDir()
	if err := os.Chown(top, 0, 4321); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(top, 0o770); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(top, "runs")
	if err := MakeDir(dir); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Sys().(*syscall.Stat_t).Gid != 4321 {
		t.Errorf("group of %s: %+v, %v", dir, info.Sys(), err)
	}
}

func TestJournalHasALimit(t *testing.T) {
	j := testJournal(t, RunStarted)
	before := readFile(t, j.Path())
	j.contents.size = MaxJournal - 10
	if _, err := j.Append(Event{Name: "one_too_many"}); err == nil {
		t.Error("written beyond the limit")
	}
	if after := readFile(t, j.Path()); string(after) != string(before) {
		t.Error("the file was changed")
	}
}
