// Package witnessclient answers: what was done, can it be proved, and does the
// witness hold it?
//
// Every event goes first into the journal of its run: an append-only file of
// JSON lines, each carrying the hash of the one before, synced to disk before
// Append returns. The same file is the outbox: what the witness has not
// acknowledged is delivered later, each event exactly once. Verification
// compares the journal with itself and with what the witness holds.
package witnessclient

import (
	"bytes"
	"encoding/json"
	"time"
)

// timestampFormat is RFC 3339 with milliseconds; times are in UTC.
const timestampFormat = "2006-01-02T15:04:05.000Z07:00"

// Names of the events that this package itself gives a meaning to.
const (
	RunStarted  = "run_started"
	RunFinished = "run_finished" // Append adds the count of the events before it and the head of the chain
)

// Event is one entry of the audit log. Empty fields are left out of the JSON.
// In an event that was read, numbers in Metrics and Metadata are float64.
type Event struct {
	Name         string         `json:"event"`
	Timestamp    time.Time      `json:"timestamp"` // written in UTC with milliseconds
	AgentID      string         `json:"agent_id,omitempty"`
	PeerID       string         `json:"peer_id,omitempty"`
	TraceID      string         `json:"trace_id,omitempty"`
	FailoverID   string         `json:"failover_id,omitempty"`
	IncidentID   string         `json:"incident_id,omitempty"`
	DeploymentID string         `json:"deployment_id,omitempty"`
	Scenario     string         `json:"scenario,omitempty"`
	Severity     string         `json:"severity,omitempty"`
	Metrics      map[string]any `json:"metrics,omitempty"`
	Metadata     map[string]any `json:"metadata,omitempty"`
	SDPHash      string         `json:"sdp_hash,omitempty"`
	ICECandidate string         `json:"ice_candidate,omitempty"`
}

type plainEvent Event // without the methods

// MarshalJSON implements json.Marshaler.
func (e Event) MarshalJSON() ([]byte, error) {
	return encode(struct {
		Name      string `json:"event"`
		Timestamp string `json:"timestamp"`
		plainEvent
	}{e.Name, formatTime(e.Timestamp), plainEvent(e)})
}

// UnmarshalJSON implements json.Unmarshaler. Unknown fields are ignored; an
// ice_candidate that is an object, as browsers give it, is kept as JSON text.
func (e *Event) UnmarshalJSON(data []byte) error {
	var read struct {
		plainEvent
		ICECandidate json.RawMessage `json:"ice_candidate"`
	}
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	*e = Event(read.plainEvent)
	if raw := read.ICECandidate; len(raw) > 0 && json.Unmarshal(raw, &e.ICECandidate) != nil {
		e.ICECandidate = string(raw)
	}
	return nil
}

func formatTime(t time.Time) string { return t.UTC().Format(timestampFormat) }

// encode gives JSON on one line, with <, > and & as they are.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
