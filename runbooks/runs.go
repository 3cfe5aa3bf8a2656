package runbooks

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/witnessclient"
)

// RunSummary is one journal of the state directory, in a line.
type RunSummary struct {
	Run         string    `json:"run"`
	Runbook     string    `json:"runbook,omitempty"`
	Scenario    string    `json:"scenario,omitempty"`
	FailoverID  string    `json:"failover_id,omitempty"`
	Operator    string    `json:"operator,omitempty"`
	Host        string    `json:"host,omitempty"`
	Elsewhere   bool      `json:"elsewhere,omitempty"` // only the witness knows it
	Changes     bool      `json:"changes"`
	Started     time.Time `json:"started"`
	Finished    time.Time `json:"finished,omitzero"`
	Outcome     string    `json:"outcome,omitempty"` // "" while unfinished
	Undelivered int       `json:"undelivered"`
	Damage      string    `json:"damage,omitempty"`
	start       startRecord
}

// NoRunError says that there is no journal of that run here.
type NoRunError struct{ Run, Dir string }

func (e *NoRunError) Error() string {
	return fmt.Sprintf("open run %s: no journal in %s", e.Run, e.Dir)
}

// Runs lists the journals of a state directory, oldest first. A damaged one
// is listed with its damage.
func Runs(stateDir string) ([]RunSummary, error) {
	journals, err := witnessclient.List(RunsDir(stateDir))
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	runs := make([]RunSummary, 0, len(journals))
	for _, j := range journals {
		runs = append(runs, summarize(j))
	}
	return runs, nil
}

// findRun is the journal of one run.
func findRun(stateDir, id string) (RunSummary, error) {
	runs, err := Runs(stateDir)
	if err != nil {
		return RunSummary{}, err
	}
	for _, r := range runs {
		if r.Run == id {
			return r, nil
		}
	}
	return RunSummary{}, &NoRunError{Run: id, Dir: RunsDir(stateDir)}
}

func summarize(j witnessclient.Summary) RunSummary {
	s := RunSummary{Run: strings.TrimSuffix(filepath.Base(j.Path), ".jsonl"), Undelivered: j.Unacked}
	if j.Err != nil {
		s.Damage = j.Err.Error()
	}
	for _, e := range []*witnessclient.Event{j.Started, j.Finished} {
		if e != nil {
			s.add(*e)
		}
	}
	return s
}

// add takes in the first or the last event of a run.
func (s *RunSummary) add(e witnessclient.Event) {
	switch e.Name {
	case witnessclient.RunStarted:
		_ = decodeMetadata(e, &s.start)
		s.Runbook, s.Changes, s.Started = s.start.Runbook, s.start.Changes, e.Timestamp
		s.Scenario, s.FailoverID = e.Scenario, e.FailoverID
		s.Operator, _ = e.Metadata["operator"].(string)
		s.Host, _ = e.Metadata["host"].(string)
	case witnessclient.RunFinished:
		s.Outcome, _ = e.Metadata["outcome"].(string)
		s.Finished = e.Timestamp
	}
}

// RunRecords returns the whole journal of one run.
func RunRecords(stateDir, id string) ([]witnessclient.Record, error) {
	if _, err := findRun(stateDir, id); err != nil {
		return nil, err
	}
	contents, err := witnessclient.ReadJournal(journalPath(stateDir, id))
	return contents.Records, err
}

// SummarizeRun is the run of one journal file.
func SummarizeRun(path string) RunSummary { return summarize(witnessclient.Summarize(path)) }
