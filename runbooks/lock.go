package runbooks

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// Owner is who holds the lock of a mesh.
type Owner struct {
	Operator string    `json:"operator"`
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Doing    string    `json:"doing"`
	Since    time.Time `json:"since"`
}

// HeldError says that somebody else is changing this mesh.
type HeldError struct{ Owner Owner }

func (e *HeldError) Error() string {
	if e.Owner.PID == 0 {
		return "lock mesh: held by another process"
	}
	return fmt.Sprintf("lock mesh: held by %s (pid %d on %s) since %s, doing %s",
		e.Owner.Operator, e.Owner.PID, e.Owner.Host, e.Owner.Since.Format(time.RFC3339), e.Owner.Doing)
}

// lock takes the mesh's flock(2), which the kernel frees when the process
// dies, and leaves a record of the owner beside it for whoever is refused.
func (e *Engine) lock(doing string) (release func(), err error) {
	if err := os.MkdirAll(e.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("lock mesh: %w", err)
	}
	file := flock.New(filepath.Join(e.StateDir, "lock"), flock.SetPermissions(0o660))
	ok, err := file.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock mesh: %w", err)
	}
	record := filepath.Join(e.StateDir, "owner.json")
	if !ok {
		return nil, &HeldError{Owner: readOwner(record)}
	}
	owner := Owner{Operator: e.Stamp.Operator, Host: e.Stamp.Host, PID: os.Getpid(), Doing: doing, Since: time.Now().UTC()}
	if err := writeOwner(record, owner); err != nil {
		_ = file.Unlock()
		return nil, err
	}
	return func() {
		_ = os.Remove(record)
		_ = file.Unlock()
	}, nil
}

func writeOwner(path string, owner Owner) error {
	data, err := json.Marshal(owner)
	if err != nil {
		return fmt.Errorf("lock mesh: %w", err)
	}
	if err := os.WriteFile(path, data, 0o660); err != nil {
		return fmt.Errorf("lock mesh: %w", err)
	}
	return nil
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
