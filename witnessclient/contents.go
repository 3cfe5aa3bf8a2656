package witnessclient

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// The limits of a journal, in bytes. A run writes some tens of lines; what goes
// beyond these is no journal, and is neither written nor read.
const (
	MaxLine    = 1 << 20  // one line, without the newline
	MaxJournal = 64 << 20 // all of them
)

// Stamp is what every event of a run carries. Run is required.
type Stamp struct {
	Run            string `json:"run,omitempty"`
	FailoverID     string `json:"failover_id,omitempty"`
	IncidentID     string `json:"incident_id,omitempty"`
	Scenario       string `json:"scenario,omitempty"`
	Operator       string `json:"operator,omitempty"`
	OperatorSource string `json:"operator_source,omitempty"`
	Host           string `json:"host,omitempty"`
	Version        string `json:"meshctl_version,omitempty"`
}

// Record is one event or note of a journal. Treat it as read-only: its line
// and maps are shared.
type Record struct {
	Seq   int             // number of its line in the file, from 1, headers and acknowledgements included
	At    time.Time       // when it was written, for an event its timestamp
	Event Event           // of an event; Event.Name is empty in a note
	Note  string          // kind of a note, empty in an event
	Data  json.RawMessage // of a note
	Line  []byte          // the exact bytes, without the newline
	Hash  string          // hex SHA-256 of Line
	Prev  string          // hash of the line before
	Sent  time.Time       // when an attempt to deliver the event began that may still be on its way
	Acked bool            // the witness has acknowledged the event
}

// IsEvent tells an event, which the witness gets, from a note, which it does not.
func (r Record) IsEvent() bool { return r.Note == "" }

// Contents is what a journal holds, as far as its chain is whole.
type Contents struct {
	Path    string
	Stamp   Stamp     // of the run when it was created
	Created time.Time // when the journal was created
	Records []Record  // events and notes, in order
	Lines   int       // all lines, with header and acknowledgements
	Events  int
	Acked   int    // events that the witness has acknowledged
	Head    string // hash of the last line
	Torn    bool   // an unfinished line follows, which a crash leaves behind; it is not in the counts
	size    int64  // bytes of the whole lines
}

// DamageError says that a journal was changed after it was written, or is no
// journal. Line counts from 1.
type DamageError struct {
	Path   string
	Line   int
	Reason string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("journal %s: line %d: %s", e.Path, e.Line, e.Reason)
}

// ReadJournal reads and checks a journal without locking or changing it. The
// error is a *DamageError when the chain does not hold; the contents then end
// before the damage. A torn last line is no damage.
func ReadJournal(path string) (Contents, error) {
	f, err := os.Open(path)
	if err != nil {
		return Contents{Path: path}, fmt.Errorf("read journal: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	return readContents(path, f)
}

func readContents(path string, r io.Reader) (Contents, error) {
	c := Contents{Path: path, Head: genesis}
	lines := bufio.NewScanner(io.LimitReader(r, MaxJournal+1))
	lines.Buffer(nil, MaxLine+1)
	lines.Split(splitLines)
	for lines.Scan() {
		line, whole := bytes.CutSuffix(lines.Bytes(), []byte("\n"))
		if !whole {
			c.Torn = true
			break
		}
		p, err := c.check(line)
		if err != nil {
			return c, c.damage(err)
		}
		c.take(p, bytes.Clone(line))
	}
	switch err := lines.Err(); {
	case c.size > MaxJournal, c.Torn && c.size+int64(len(lines.Bytes())) > MaxJournal:
		return c, c.damage(fmt.Errorf("the journal is longer than %d bytes", MaxJournal))
	case errors.Is(err, bufio.ErrTooLong):
		return c, c.damage(fmt.Errorf("longer than %d bytes", MaxLine))
	case err != nil:
		return c, fmt.Errorf("read journal %s: %w", path, err)
	case c.Lines == 0:
		return c, c.damage(errors.New("no header: nothing was recorded"))
	}
	return c, nil
}

// splitLines is a bufio.SplitFunc that keeps the newline, so that a last line
// without one can be told from a whole one.
func splitLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i+1], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// Unacked gives the events that the witness has not acknowledged.
func (c *Contents) Unacked() []Record {
	return slices.DeleteFunc(slices.Clone(c.Records), func(r Record) bool { return r.Acked || !r.IsEvent() })
}

// Finished gives the run_finished that ends the run; false when there is none
// or a whole line other than acknowledgements follows it.
func (c *Contents) Finished() (Record, bool) {
	if len(c.Records) == 0 {
		return Record{}, false
	}
	last := c.Records[len(c.Records)-1]
	return last, last.Event.Name == RunFinished
}

func (c *Contents) damage(reason error) error {
	return &DamageError{Path: c.Path, Line: c.Lines + 1, Reason: reason.Error()}
}
