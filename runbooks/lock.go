package runbooks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/infrafabric/meshctl/witnessclient"
)

// Owner is who holds the lock of a mesh.
type Owner struct {
	Operator string    `json:"operator"`
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Run      string    `json:"run"`
	Doing    string    `json:"doing"`
	Since    time.Time `json:"since"`
}

// HeldError says that somebody else is changing this mesh. The zero Owner
// stands for one whose record cannot be read.
type HeldError struct{ Owner Owner }

func (e *HeldError) Error() string {
	if e.Owner.PID == 0 {
		return "lock mesh: held by another process"
	}
	return fmt.Sprintf("lock mesh: held by %s (pid %d on %s) since %s, doing %s, run %s",
		e.Owner.Operator, e.Owner.PID, e.Owner.Host, e.Owner.Since.Format(time.RFC3339), e.Owner.Doing, e.Owner.Run)
}

// lock takes the mesh's flock(2), which the kernel frees when the process
// dies, and leaves a record of the owner beside it for whoever is refused. A
// record without its lock is what a killed process leaves: it is said, and
// replaced.
func (e *Engine) lock(doing, run string) (release func(), err error) {
	if err := witnessclient.MakeDir(e.StateDir); err != nil {
		return nil, fmt.Errorf("lock mesh: %w", err)
	}
	path, record := filepath.Join(e.StateDir, "lock"), filepath.Join(e.StateDir, "owner.json")
	if err := placeLock(path); err != nil {
		return nil, fmt.Errorf("lock mesh: %w", err)
	}
	file := flock.New(path, flock.SetFlag(os.O_RDWR))
	ok, err := file.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock mesh: %w", err)
	}
	if !ok {
		return nil, &HeldError{Owner: e.liveOwner(record)}
	}
	if left := readOwner(record); left.PID != 0 {
		e.note("", fmt.Sprintf("%s (pid %d on %s) died while doing %s, run %s", left.Operator, left.PID, left.Host, left.Doing, left.Run), 0)
	}
	owner := Owner{Operator: e.Stamp.Operator, Host: e.Stamp.Host, PID: os.Getpid(), Run: run, Doing: doing, Since: time.Now().UTC()}
	if err := writeOwner(record, owner); err != nil {
		_ = file.Unlock()
		return nil, fmt.Errorf("lock mesh: %w", err)
	}
	return func() {
		_ = os.Remove(record)
		_ = file.Unlock()
	}, nil
}

// placeLock makes the file to lock, unless it is there. It appears with the
// mode it keeps, so that a colleague who comes at the same moment can open it.
func placeLock(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return place(path, nil, func(from, to string) error {
		if err := os.Link(from, to); !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
}

func writeOwner(path string, owner Owner) error {
	data, err := json.Marshal(owner)
	if err != nil {
		return err
	}
	return place(path, data, os.Rename)
}

// place writes a file beside path and gives it that name when it is whole.
func place(path string, data []byte, name func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // left over only when something failed
	_, err = f.Write(data)
	if err := errors.Join(err, witnessclient.Share(f), f.Close()); err != nil {
		return err
	}
	return name(f.Name(), path)
}

// readOwner gives the zero Owner when the record is missing or unreadable:
// the lock itself decides, not the record.
func readOwner(path string) Owner {
	var owner Owner
	if data, err := os.ReadFile(path); err == nil {
		_ = json.Unmarshal(data, &owner)
	}
	return owner
}

// recordTime is how long the record of an owner may lag behind its lock.
const recordTime = 2 * time.Second

// liveOwner reads who holds the lock. The record of a process that is gone is
// that of an earlier owner: the new one is about to write its own.
func (e *Engine) liveOwner(record string) Owner {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(recordTime); time.Now().Before(deadline); <-ticker.C {
		if owner := readOwner(record); owner.PID != 0 && (owner.Host != e.Stamp.Host || !gone(owner.PID)) {
			return owner
		}
	}
	return Owner{}
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
