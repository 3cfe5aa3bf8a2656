package witnessclient

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Summary is one journal of a directory. When Err is set, the rest is what
// comes before the damage.
type Summary struct {
	Path     string
	Stamp    Stamp  // of the run; Stamp.Run is empty when not even the header can be read
	Started  *Event // run_started; nil when there is none
	Finished *Event // run_finished; nil while the run is unfinished or was continued
	Events   int
	Unacked  int // events not yet delivered
	Torn     bool
	Err      error // *DamageError, or why the file cannot be read
}

// List reads all *.jsonl files of a directory, by name. A damaged file is an
// entry with Err, not a failure; a directory that does not exist has none.
func List(dir string) ([]Summary, error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list journals: %w", err)
	}
	var list []Summary
	for _, f := range files {
		if !f.IsDir() && filepath.Ext(f.Name()) == ".jsonl" {
			list = append(list, Summarize(filepath.Join(dir, f.Name())))
		}
	}
	return list, nil
}

// Summarize reads one journal.
func Summarize(path string) Summary {
	c, err := ReadJournal(path)
	s := Summary{Path: path, Stamp: c.Stamp, Events: c.Events, Unacked: c.Events - c.Acked, Torn: c.Torn, Err: err}
	for _, r := range c.Records {
		if r.Event.Name == RunStarted {
			s.Started = &r.Event
			break
		}
	}
	if r, finished := c.Finished(); finished && err == nil {
		s.Finished = &r.Event
	}
	return s
}
