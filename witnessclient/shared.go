package witnessclient

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// MakeDir makes a directory for evidence, with its parents, and syncs what
// names it, so that a power cut cannot lose a journal with its directory. It is
// private (0700), or the group's where the group may write the parent: on a
// shared host colleagues exclude each other and go on with each other's runs. It
// appears with the mode it keeps, for colleagues who come at the same moment.
func MakeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("make %s: it is a file", dir)
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MakeDir(parent); err != nil {
			return err
		}
	}
	made, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+".*") // 0700
	if err != nil {
		return err
	}
	err = errors.Join(shareDir(made), os.Rename(made, dir))
	if err != nil {
		_ = os.Remove(made)
		if info, statErr := os.Stat(dir); statErr == nil && info.IsDir() {
			return nil // somebody else was faster, and has begun to use it
		}
		return err
	}
	return syncDir(parent)
}

func shareDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // only read
	return Share(d)
}

// Share gives a new file or directory to the group of its directory when that
// group may write there, and leaves it private otherwise. A directory that
// everybody may write is nobody's.
func Share(f *os.File) error {
	parent, err := os.Stat(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	if parent.Mode()&0o022 != 0o020 {
		return nil
	}
	own, err := f.Stat()
	if err != nil {
		return err
	}
	if gid := groupOf(parent); gid != groupOf(own) {
		if err := f.Chown(-1, gid); err != nil {
			return fmt.Errorf("give %s to the group %d that shares its directory: %w", f.Name(), gid, err)
		}
	}
	mode := fs.FileMode(0o660)
	if own.IsDir() {
		mode = 0o770 | parent.Mode()&fs.ModeSetgid
	}
	return f.Chmod(mode)
}

func groupOf(info fs.FileInfo) int {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Gid)
	}
	return -1
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // only read
	return d.Sync()
}
