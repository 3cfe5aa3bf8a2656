package witnessclient

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const journalFormat = 1

// genesis stands for the hash of the line before the first one.
var genesis = strings.Repeat("0", 2*sha256.Size)

// entry is a line that was read. In a line that is not an event the JSON
// fields are these; an event has run, seq and prev in its metadata.
type entry struct {
	Journal string          `json:"journal"` // header, sent, failed, ack or note
	Format  int             `json:"format,omitempty"`
	Line    int             `json:"line,omitempty"` // the event that sent and failed are about
	Acked   int             `json:"acked,omitempty"`
	Note    string          `json:"note,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
	Stamp
	Seq       int    `json:"seq"`
	Prev      string `json:"prev"`
	Timestamp string `json:"timestamp"`

	at    time.Time
	event Event
}

const (
	kindHeader = "header"
	kindSent   = "sent"   // an attempt to deliver begins
	kindFailed = "failed" // it is over, and not still on its way
	kindAck    = "ack"
	kindNote   = "note"
)

// check tells whether line may follow the contents.
func (c *Contents) check(line []byte) (entry, error) {
	p, err := readEntry(line)
	if err != nil {
		return p, fmt.Errorf("not a record: %w", err)
	}
	if p.at.IsZero() {
		return p, errors.New("no usable timestamp")
	}
	switch {
	case (p.Journal == kindHeader) != (c.Lines == 0):
		return p, errors.New("a header must be the first line, and only the first")
	case p.Seq != c.Lines+1:
		return p, fmt.Errorf("has the sequence number %d: lines were lost, swapped or repeated", p.Seq)
	case p.Prev != c.Head:
		return p, errors.New("does not continue the hash chain: this line or the one before was changed")
	}
	return p, c.checkKind(p)
}

// readEntry reads a line. That of an event, as we write it, is read only once.
func readEntry(line []byte) (p entry, err error) {
	if !bytes.HasPrefix(line, []byte(`{"event":`)) {
		if err := json.Unmarshal(line, &p); err != nil {
			return p, err
		}
		p.at, _ = time.Parse(time.RFC3339, p.Timestamp) // the zero time is refused
	}
	if p.Journal == "" {
		err = p.readEvent(line)
	}
	return p, err
}

func (p *entry) readEvent(line []byte) error {
	if err := p.event.UnmarshalJSON(line); err != nil { // as json.Unmarshal, without a pass before
		return err
	}
	p.at = p.event.Timestamp
	p.Run, _ = p.event.Metadata["run"].(string) // a missing one does not equal what is expected
	p.Prev, _ = p.event.Metadata["prev"].(string)
	p.Seq = number(p.event.Metadata["seq"])
	return nil
}

func (c *Contents) checkKind(p entry) error {
	switch p.Journal {
	case kindHeader:
		return p.checkHeader()
	case kindSent, kindFailed, kindAck:
		if i, found := c.find(p.subject()); !found || !c.Records[i].IsEvent() || c.Records[i].Acked {
			return fmt.Errorf("%s of line %d, which is no event that waits for its acknowledgement", p.Journal, p.subject())
		}
	case kindNote:
		if p.Note == "" {
			return errors.New("a note without a kind")
		}
	case "":
		return c.checkEvent(p)
	default:
		return fmt.Errorf("unknown kind of record %q", p.Journal)
	}
	return nil
}

func (p *entry) checkHeader() error {
	switch {
	case p.Format != journalFormat:
		return fmt.Errorf("journal format %d is not known to this version, which reads format %d", p.Format, journalFormat)
	case p.Run == "":
		return errors.New("a header without a run")
	}
	return nil
}

func (c *Contents) checkEvent(p entry) error {
	switch {
	case p.event.Name == "":
		return errors.New("an event without a name")
	case p.Run != c.Stamp.Run:
		return fmt.Errorf("belongs to run %q, not to %q", p.Run, c.Stamp.Run)
	case number(p.event.Metadata["events"]) != c.Events:
		return fmt.Errorf("does not count the %d events before it", c.Events)
	case p.event.Name != RunFinished:
		return nil
	case p.event.Metadata["head"] != c.Head:
		return fmt.Errorf("%s does not carry the head of the chain", RunFinished)
	}
	return nil
}

// take adds a line that check has accepted; line must not change any more.
func (c *Contents) take(p entry, line []byte) Record {
	sum := sha256.Sum256(line)
	r := Record{Seq: p.Seq, At: p.at, Event: p.event, Note: p.Note, Data: p.Data, Line: line, Hash: hex.EncodeToString(sum[:]), Prev: p.Prev}
	c.Lines, c.Head, c.size = r.Seq, r.Hash, c.size+int64(len(line))+1
	switch p.Journal {
	case kindHeader:
		c.Stamp, c.Created = p.Stamp, p.at
	case kindSent:
		i, _ := c.find(p.subject())
		c.Records[i].Sent = p.at
	case kindFailed:
		i, _ := c.find(p.subject())
		c.Records[i].Sent = time.Time{}
	case kindAck:
		i, _ := c.find(p.subject())
		c.Records[i].Acked = true
		c.Acked++
	case kindNote:
		c.Records = append(c.Records, r)
	default:
		c.Records = append(c.Records, r)
		c.Events++
	}
	return r
}

func (c *Contents) find(seq int) (int, bool) {
	return slices.BinarySearchFunc(c.Records, seq, func(r Record, seq int) int { return cmp.Compare(r.Seq, seq) })
}

// subject is the event that a line of delivery is about.
func (p *entry) subject() int {
	if p.Journal == kindAck {
		return p.Acked
	}
	return p.Line
}

// number gives a whole number of a JSON document, -1 when v is none.
func number(v any) int {
	f, ok := v.(float64)
	if n := int(f); ok && float64(n) == f {
		return n
	}
	return -1
}
