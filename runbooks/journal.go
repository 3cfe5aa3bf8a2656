package runbooks

import (
	"path/filepath"

	"github.com/infrafabric/meshctl/witnessclient"
)

// RunsDir is where the journals of a state directory are.
func RunsDir(stateDir string) string { return filepath.Join(stateDir, "runs") }

func journalPath(stateDir, run string) string {
	return filepath.Join(RunsDir(stateDir), run+".jsonl")
}

// createJournal makes the journal of a new run, and the directory where needed.
func (e *Engine) createJournal(stamp witnessclient.Stamp) (*witnessclient.Journal, error) {
	if err := witnessclient.MakeDir(RunsDir(e.StateDir)); err != nil {
		return nil, err
	}
	return e.disk.Create(journalPath(e.StateDir, stamp.Run), stamp)
}

// openJournal opens the journal of an earlier run, and tells when the crash of
// that run left half a line, which is cut off.
func (e *Engine) openJournal(run string) (*witnessclient.Journal, error) {
	journal, err := e.disk.Open(journalPath(e.StateDir, run))
	if err != nil {
		return nil, err
	}
	if journal.Contents().Torn {
		e.note("", "the last line of the journal of "+run+" was not written whole and was cut off: nothing had been done on it", 0)
	}
	return journal, nil
}
