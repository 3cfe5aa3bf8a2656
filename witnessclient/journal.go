package witnessclient

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/gofrs/flock"
)

// Journal is the open record of one run. It keeps all its lines in memory: it
// is meant for a run, not for the years of an agent. It is safe for concurrent
// use; Close it when done.
type Journal struct {
	path string
	lock *flock.Flock

	mu       sync.Mutex
	file     File
	contents Contents
	stamp    Stamp
	failure  error // final: every later write returns it

	first      int           // index of the first record that may lack an acknowledgement
	doubt      map[int]bool  // events of which an earlier delivery may have arrived
	aside      map[int]error // events that the witness refuses for good
	appended   chan struct{} // wakes the outbox
	delivering chan struct{} // held by the one delivery that runs
}

// File is where the lines of a journal go. A write is one whole line.
type File interface {
	io.WriteCloser
	Sync() error
}

// Disk makes and opens journals; the zero Disk is the one to use.
type Disk struct {
	// Wrap stands between a journal and its file, so that a test can show what
	// a failing disk or the end of the process does at any point.
	Wrap func(File) File
}

func (d Disk) wrap(f File) File {
	if d.Wrap == nil {
		return f
	}
	return d.Wrap(f)
}

// BusyError says that another process, or another part of this one, has the
// journal open for writing.
type BusyError struct{ Path string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("journal %s: in use by another meshctl", e.Path)
}

// BrokenError says that the journal could not be written and will not be
// again: after a failed sync nobody knows what is on the disk, so nothing may
// be done any more that needs recording.
type BrokenError struct {
	Path string
	Err  error
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("write journal %s: %s", e.Path, e.Err)
}

// Unwrap gives the cause.
func (e *BrokenError) Unwrap() error { return e.Err }

// CreateJournal makes the journal of a new run on the zero Disk.
func CreateJournal(path string, s Stamp) (*Journal, error) { return Disk{}.Create(path, s) }

// Create makes the journal of a new run and locks it. The file appears under
// its name only when its header is on the disk. Its mode is 0600, or 0660 in a
// directory that its group may write. An existing file is an error
// (fs.ErrExist).
func (d Disk) Create(path string, s Stamp) (*Journal, error) {
	if s.Run == "" {
		return nil, fmt.Errorf("create journal %s: no run", path)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, fmt.Errorf("create journal: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // a left-over is hidden and harmless
	j, err := newJournal(path, f, Contents{Path: path, Head: genesis}, s)
	if err != nil {
		return nil, err
	}
	j.file = d.wrap(f)
	if err := j.start(dir, f); err != nil {
		_ = j.Close()
		return nil, fmt.Errorf("create journal %s: %w", path, err)
	}
	return j, nil
}

// start writes the header and gives the file its name.
func (j *Journal) start(dir string, f *os.File) error {
	if err := Share(f); err != nil {
		return err
	}
	header := entry{Journal: kindHeader, Format: journalFormat, Stamp: j.stamp}
	if _, err := j.appendEntry(header); err != nil {
		return err
	}
	if err := os.Link(f.Name(), j.path); err != nil {
		return err
	}
	return syncDir(dir)
}

// OpenJournal opens the journal of an earlier run on the zero Disk.
func OpenJournal(path string) (*Journal, error) { return Disk{}.Open(path) }

// Open opens the journal of an earlier run to continue it, checks its chain and
// cuts a torn last line off. Events carry the stamp the run was created with,
// but no operator until SetActor names who continues. Errors: *BusyError,
// *DamageError.
func (d Disk) Open(path string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j, err := newJournal(path, f, Contents{}, Stamp{})
	if err != nil {
		return nil, err
	}
	if err := j.resume(f); err != nil {
		_ = j.Close()
		return nil, err
	}
	j.file = d.wrap(f)
	return j, nil
}

func (j *Journal) resume(f *os.File) error {
	c, err := readContents(j.path, f)
	if err != nil {
		return err
	}
	if c.Torn {
		if err := errors.Join(f.Truncate(c.size), f.Sync()); err != nil {
			return fmt.Errorf("open journal %s: cut the torn last line: %w", j.path, err)
		}
	}
	if _, err := f.Seek(c.size, io.SeekStart); err != nil {
		return fmt.Errorf("open journal %s: %w", j.path, err)
	}
	j.contents, j.stamp = c, c.Stamp
	j.SetActor(Stamp{})
	for _, r := range c.Unacked() {
		j.doubt[r.Seq] = true // nobody knows how far the process before us came
	}
	return nil
}

// newJournal locks f, which it closes when that fails.
func newJournal(path string, f *os.File, c Contents, s Stamp) (*Journal, error) {
	lock := flock.New(f.Name(), flock.SetFlag(os.O_RDWR))
	locked, err := lock.TryLock()
	if err != nil || !locked {
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("lock journal %s: %w", path, err)
		}
		return nil, &BusyError{Path: path}
	}
	return &Journal{
		path: path, lock: lock, file: f, contents: c, stamp: s, doubt: map[int]bool{}, aside: map[int]error{},
		appended: make(chan struct{}, 1), delivering: make(chan struct{}, 1),
	}, nil
}

// SetActor says who continues the run: Operator, OperatorSource, Host and
// Version of s go into the events from now on; the rest of s is ignored.
func (j *Journal) SetActor(s Stamp) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stamp.Operator, j.stamp.OperatorSource, j.stamp.Host, j.stamp.Version = s.Operator, s.OperatorSource, s.Host, s.Version
}

// Records gives the events and notes so far.
func (j *Journal) Records() []Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.contents.Records)
}

// Unacked gives the events that the witness has not acknowledged.
func (j *Journal) Unacked() []Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.contents.Unacked()
}

// Head gives the hash of the last line.
func (j *Journal) Head() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.contents.Head
}

// Count gives the number of events.
func (j *Journal) Count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.contents.Events
}

// Stamp gives what events carry now.
func (j *Journal) Stamp() Stamp {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stamp
}

// Contents gives all that the journal holds now; Torn in it tells that a torn
// last line was cut off when the journal was opened.
func (j *Journal) Contents() Contents {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.contents
	c.Records = slices.Clone(c.Records)
	return c
}

// Path gives the name of the file.
func (j *Journal) Path() string { return j.path }

// Close gives the journal free for others. Later writes fail with os.ErrClosed.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if errors.Is(j.failure, os.ErrClosed) {
		return nil
	}
	j.failure = fmt.Errorf("journal %s: %w", j.path, os.ErrClosed)
	if err := errors.Join(j.file.Close(), j.lock.Unlock()); err != nil {
		return fmt.Errorf("close journal %s: %w", j.path, err)
	}
	return nil
}
