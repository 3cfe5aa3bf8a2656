package witnessclient

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"
)

// The verdicts on a chain.
const (
	ChainOK         = "ok"
	ChainBroken     = "broken"     // changed after it was written
	ChainUnanchored = "unanchored" // whole as far as it goes, but lines missing at its end would not show
)

// Verification is what a journal proves by itself.
type Verification struct {
	Path   string `json:"path"`
	Run    string `json:"run"`
	Lines  int    `json:"lines"`
	Events int    `json:"events"`
	Acked  int    `json:"acked"` // events that the witness acknowledged
	// Finished is true when run_finished is the last record. It does not say
	// with what outcome.
	Finished bool   `json:"finished"`
	Torn     bool   `json:"torn"` // an unfinished line follows, which a crash leaves behind
	Head     string `json:"head"`
	Chain    string `json:"chain"`            // ok, broken or unanchored
	Line     int    `json:"line,omitempty"`   // of the damage
	Reason   string `json:"reason,omitempty"` // why the chain is not ok

	contents Contents
}

// VerifyJournal checks the chain of a journal. It is ok only when run_finished,
// with the right count and head, is followed by nothing but acknowledgements.
// The error is that of a file that could not be read; damage is a verdict.
func VerifyJournal(path string) (Verification, error) {
	c, err := ReadJournal(path)
	var damage *DamageError
	if err != nil && !errors.As(err, &damage) {
		return Verification{Path: path}, err
	}
	_, finished := c.Finished()
	v := Verification{
		Path: path, Run: c.Stamp.Run, Lines: c.Lines, Events: c.Events, Acked: c.Acked,
		Finished: finished, Torn: c.Torn, Head: c.Head, Chain: ChainOK, contents: c,
	}
	switch {
	case damage != nil:
		v.Chain, v.Finished, v.Line, v.Reason = ChainBroken, false, damage.Line, damage.Reason
	case c.Torn:
		v.Chain, v.Reason = ChainUnanchored, "an unfinished line is at the end"
	case !finished:
		v.Chain, v.Reason = ChainUnanchored, "no run_finished at the end: lines cut off there would not show"
	}
	return v, nil
}

// Comparison is what the witness holds of a run, beside the journal.
type Comparison struct {
	Run        string `json:"run"`
	Matching   int    `json:"matching"`         // held once, with equal content and hash
	Missing    int    `json:"missing"`          // in the journal, not at the witness
	Extra      int    `json:"extra"`            // at the witness, not in the journal
	Beyond     int    `json:"beyond"`           // of the extra ones: after the journal's last line
	Duplicated int    `json:"duplicated"`       // copies beyond the first
	Altered    int    `json:"altered"`          // content or hash differ
	Reason     string `json:"reason,omitempty"` // the first difference
}

// OK tells whether journal and witness hold the same.
func (c Comparison) OK() bool {
	return c.Missing == 0 && c.Extra == 0 && c.Duplicated == 0 && c.Altered == 0
}

// VerifyWitness compares a journal, as VerifyJournal read it, with what the
// witness holds of its run. It also finds what the chain cannot: a changed last
// line, and lines cut off at the end. An error means unknown: the witness could
// not be asked, or the chain is broken and there is nothing to compare with.
func VerifyWitness(ctx context.Context, c *Client, v Verification) (Comparison, error) {
	result := Comparison{Run: v.Run}
	if v.Chain == ChainBroken || v.Run == "" {
		return result, fmt.Errorf("compare with witness: journal %s is broken at line %d", v.Path, v.Line)
	}
	events, err := c.Query(ctx, Query{
		Match: map[string]any{"metadata.run": v.Run},
		From:  formatTime(v.contents.Created.Add(-queryMargin)),
		To:    formatTime(time.Now().Add(queryMargin)),
	})
	if err != nil {
		return result, err
	}
	copies := map[int]int{}
	for _, e := range events {
		if e.Metadata["run"] == v.Run {
			result.compare(&v.contents, e, copies)
		}
	}
	for _, r := range v.contents.Records {
		if r.IsEvent() && copies[r.Seq] == 0 {
			result.Missing++
			result.note("the witness does not hold %s (line %d)", r.Event.Name, r.Seq)
		}
	}
	return result, nil
}

// compare judges one event that the witness holds.
func (c *Comparison) compare(journal *Contents, held Event, copies map[int]int) {
	seq := number(held.Metadata["seq"])
	i, found := journal.find(seq)
	if !found || !journal.Records[i].IsEvent() {
		c.Extra++
		if seq > journal.Lines {
			c.Beyond++
		}
		c.note("the witness holds %s as line %v, which is no event of the journal", held.Name, held.Metadata["seq"])
		return
	}
	copies[seq]++
	switch own := journal.Records[i]; {
	case held.Metadata["hash"] != own.Hash:
		c.Altered++
		c.note("the hash of %s (line %d) differs", own.Event.Name, seq)
	case !sameContent(own.Event, held):
		c.Altered++
		c.note("the content of %s (line %d) differs", own.Event.Name, seq)
	case copies[seq] > 1:
		c.Duplicated++
		c.note("the witness holds %s (line %d) %d times", own.Event.Name, seq, copies[seq])
	default:
		c.Matching++
	}
}

func (c *Comparison) note(format string, args ...any) {
	if c.Reason == "" {
		c.Reason = fmt.Sprintf(format, args...)
	}
}

// sameContent allows the witness to add metadata and metrics, not to change
// or drop any.
func sameContent(own, held Event) bool {
	if !own.Timestamp.Equal(held.Timestamp) || !within(own.Metadata, held.Metadata) || !within(own.Metrics, held.Metrics) {
		return false
	}
	for _, e := range []*Event{&own, &held} { // copies: what is left is compared as it is
		e.Timestamp, e.Metadata, e.Metrics = time.Time{}, nil, nil
	}
	return reflect.DeepEqual(own, held)
}

func within(part, whole map[string]any) bool {
	for key, value := range part {
		if !reflect.DeepEqual(value, whole[key]) {
			return false
		}
	}
	return true
}
