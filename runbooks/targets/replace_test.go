package targets

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReplace(t *testing.T) {
	path := write(t, "# note\nTURN_SERVERS=turn:old\n")
	f := read(t, path)
	edited := edit(t, f)
	if err := edited.Replace(f.Hash()); err != nil {
		t.Fatal(err)
	}
	if got := content(t, path); got != "# note\nTURN_SERVERS=turn:new\n" {
		t.Errorf("got %q", got)
	}
	if got := read(t, path).Hash(); got != edited.Hash() {
		t.Errorf("hash %s, want %s", got, edited.Hash())
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("something is left beside the file: %v", entries)
	}
}

// The plan's file only: an edit of somebody else is never overwritten.
func TestReplaceIsCompareAndSwap(t *testing.T) {
	path := write(t, "TURN_SERVERS=turn:old\n")
	f := read(t, path)
	edited := edit(t, f)
	const theirs = "TURN_SERVERS=turn:old\nALERT_EMAIL=oncall@example.com\n"
	if err := os.WriteFile(path, []byte(theirs), 0o640); err != nil {
		t.Fatal(err)
	}
	var changed *ChangedError
	if err := edited.Replace(f.Hash()); !errors.As(err, &changed) || changed.Object != path {
		t.Errorf("got error %v, want a *ChangedError of %s", err, path)
	}
	if got := content(t, path); got != theirs {
		t.Errorf("their edit is gone: %q", got)
	}
}

func TestReplaceKeepsModeAndSymlink(t *testing.T) {
	target := write(t, "TURN_SERVERS=turn:old\n")
	if err := os.Chmod(target, 0o604); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link.env")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	f := read(t, link)
	edited := edit(t, f)
	if err := edited.Replace(f.Hash()); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(link); err != nil || to != target {
		t.Errorf("the link is now %q, %v", to, err)
	}
	if got := content(t, target); got != "TURN_SERVERS=turn:new\n" {
		t.Errorf("the link's target is %q", got)
	}
	info, err := os.Stat(target)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o604 {
		t.Errorf("mode %v", info.Mode())
	}
}

// Root keeps a foreign owner; anybody else is told before anything is changed
// that this is not possible.
func TestReplaceKeepsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		if err := Writable("/etc/hosts"); err == nil {
			t.Error("a file of root counts as writable")
		}
		return
	}
	path := write(t, "TURN_SERVERS=turn:old\n")
	const uid, gid = 12345, 54321
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
	if err := Writable(path); err != nil {
		t.Fatal(err)
	}
	f := read(t, path)
	edited := edit(t, f)
	if err := edited.Replace(f.Hash()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != uid || st.Gid != gid {
		t.Errorf("owner is now %d:%d", st.Uid, st.Gid)
	}
}

func TestWritable(t *testing.T) {
	dir := t.TempDir()
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), dangling); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	good := write(t, "A=1\n")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, path, want string }{
		{"file", good, ""},
		{"link to a file", link, ""},
		{"missing", filepath.Join(dir, "missing"), "no such file or directory"},
		{"dangling link", dangling, "no such file or directory"},
		{"directory", dir, "not a regular file"},
		{"pipe", pipe, "not a regular file"},
		{"file as a directory", filepath.Join(good, "x"), "not a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Writable(tt.path)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "edit "+tt.path+": ") || !strings.HasSuffix(err.Error(), tt.want)):
				t.Errorf("got error %v, want %q", err, tt.want)
			}
		})
	}
}

// What cannot be written is an error and leaves the file as it was.
func TestReplaceFails(t *testing.T) {
	gone := write(t, "A=1\n")
	f := read(t, gone)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	if err := f.Replace(f.Hash()); err == nil {
		t.Error("replaced a file that is gone")
	}
	if _, err := os.Stat(gone); err == nil {
		t.Error("the file was made again")
	}
	// A file of /proc can be read, and nothing can be put beside it.
	f = read(t, "/proc/self/comm")
	if err := f.Replace(f.Hash()); err == nil || !strings.HasPrefix(err.Error(), "edit /proc/self/comm: ") {
		t.Errorf("got error %v", err)
	}
}
