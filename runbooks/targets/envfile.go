// Package targets answers: what exactly does a recovery change on a server,
// and is it still what the plan saw?
package targets

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
)

// maxEnvFile bounds what is read: a configuration file, not a log.
const maxEnvFile = 1 << 20

// EnvFile is a shell KEY=value file as it was read. Edits replace values only
// and keep every other byte: comments, order, quoting, line ends.
type EnvFile struct {
	Path string
	data []byte
}

// ChangedError says that a target is no longer what the plan saw.
type ChangedError struct{ Object string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("edit %s: changed since the plan was made", e.Object)
}

// ReadEnvFile reads a regular file of at most 1 MiB: to open a pipe could wait
// for ever.
func ReadEnvFile(path string) (EnvFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return EnvFile{}, fmt.Errorf("read env file %s: %w", path, cause(err))
	}
	if !info.Mode().IsRegular() {
		return EnvFile{}, fmt.Errorf("read env file %s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return EnvFile{}, fmt.Errorf("read env file %s: %w", path, cause(err))
	}
	defer f.Close() //nolint:errcheck // read only
	data, err := io.ReadAll(io.LimitReader(f, maxEnvFile+1))
	if err != nil {
		return EnvFile{}, fmt.Errorf("read env file %s: %w", path, cause(err))
	}
	if len(data) > maxEnvFile {
		return EnvFile{}, fmt.Errorf("read env file %s: larger than 1 MiB", path)
	}
	return EnvFile{Path: path, data: data}, nil
}

// Hash is the hex SHA-256 of the content: what a compare-and-swap compares.
func (f EnvFile) Hash() string {
	sum := sha256.Sum256(f.data)
	return hex.EncodeToString(sum[:])
}

// Value is what a shell that sources the file would set KEY to: the last
// assignment wins. One that only a shell could read is given as it stands, so
// that it is not taken for what it begins with. ok is false when there is none.
func (f EnvFile) Value(key string) (value string, ok bool) {
	for _, a := range f.assignments(key) {
		value, ok = string(f.data[a.start:a.end]), true
	}
	return value, ok
}

// With returns a copy in which every assignment of key goes through edit. A
// value that needs shell expansion is refused, because its text is not its value.
func (f EnvFile) With(key string, edit func(value string) string) (EnvFile, error) {
	var out bytes.Buffer
	at := 0
	for _, a := range f.assignments(key) {
		value := string(f.data[a.start:a.end])
		if a.odd || strings.ContainsAny(value, "$`\\") {
			return EnvFile{}, fmt.Errorf("edit %s line %d: %s uses shell quoting that cannot be edited safely", f.Path, a.line, key)
		}
		out.Write(f.data[at:a.start])
		out.WriteString(edit(value))
		at = a.end
	}
	out.Write(f.data[at:])
	return EnvFile{Path: f.Path, data: out.Bytes()}, nil
}

// Replace writes f over the file at its path when that still has the hash
// before: an atomic rename beside the symlink's target that keeps mode and owner.
func (f EnvFile) Replace(before string) error {
	now, err := ReadEnvFile(f.Path)
	if err != nil {
		return err
	}
	if now.Hash() != before {
		return &ChangedError{Object: f.Path}
	}
	target, info, err := resolve(f.Path)
	if err != nil {
		return err
	}
	pending, err := renameio.NewPendingFile(target, renameio.WithStaticPermissions(info.Mode().Perm()), renameio.WithTempDir(filepath.Dir(target)))
	if err != nil {
		return fmt.Errorf("edit %s: %w", f.Path, cause(err))
	}
	defer pending.Cleanup() //nolint:errcheck // after a successful replace there is nothing left
	if err := keepOwner(pending.File, info); err != nil {
		return fmt.Errorf("edit %s: %w", f.Path, err)
	}
	if _, err := pending.Write(f.data); err != nil {
		return fmt.Errorf("edit %s: %w", f.Path, cause(err))
	}
	if err := pending.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("edit %s: %w", f.Path, cause(err))
	}
	return syncDir(filepath.Dir(target))
}

// Writable tells why Replace could not work, before anything is changed: an
// atomic replace needs a writable directory and, for another owner, privilege.
func Writable(path string) error {
	target, info, err := resolve(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("edit %s: not a regular file", path)
	}
	if err := syscall.Access(target, accessWrite); err != nil {
		return fmt.Errorf("edit %s: %w", path, err)
	}
	if err := syscall.Access(filepath.Dir(target), accessWrite|accessSearch); err != nil {
		return fmt.Errorf("edit %s: directory %s: %w", path, filepath.Dir(target), err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("edit %s: owned by uid %d, and only root can keep that owner", path, st.Uid)
	}
	return nil
}

// POSIX access(2) modes; package syscall names no portable ones.
const (
	accessSearch = 1
	accessWrite  = 2
)

func resolve(path string) (string, os.FileInfo, error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", nil, fmt.Errorf("edit %s: %w", path, cause(err))
	}
	info, err := os.Stat(target)
	if err != nil {
		return "", nil, fmt.Errorf("edit %s: %w", path, cause(err))
	}
	return target, info, nil
}

func keepOwner(f *os.File, info os.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || (int(st.Uid) == os.Geteuid() && int(st.Gid) == os.Getegid()) {
		return nil
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}

// syncDir makes the rename itself durable, not only the file's content.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, cause(err))
	}
	defer d.Close() //nolint:errcheck // read only
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, cause(err))
	}
	return nil
}

// cause drops the path that os errors repeat.
func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
