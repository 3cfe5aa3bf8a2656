package witnessclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/infrafabric/meshctl/mesh/httpapi"
)

// queryMargin widens the time range of queries for our own events on both
// sides, against clocks that differ.
const queryMargin = 24 * time.Hour

// Delivery is what became of the events of a journal.
type Delivery struct {
	Sent         int   // accepted by the witness now
	AlreadyThere int   // found there, or refused as a duplicate (409): an earlier attempt had arrived
	Left         int   // still without acknowledgement
	Aside        int   // of these: refused for good, so that asking again now is no use
	LastError    error // why the delivery stopped or what was refused; nil when nothing is left
}

// Deliver sends the events that the witness has not acknowledged, in order, and
// stops at the first that cannot be delivered. One that the witness refuses for
// good (400, 413, 422, or another event under its key) is set aside for as long
// as the journal is open, and does not keep the others. An event of which an earlier
// attempt may have arrived, in this process or in one before it, is sent only
// after the witness was asked and does not hold it; when the question fails it
// stays. Several calls at once take turns. The error is that of a journal which
// cannot record acknowledgements, usually a *BrokenError; everything about the
// witness is in LastError.
func Deliver(ctx context.Context, c *Client, j *Journal) (Delivery, error) {
	var d Delivery
	select {
	case j.delivering <- struct{}{}:
		defer func() { <-j.delivering }()
	case <-ctx.Done():
		d.LastError = fmt.Errorf("deliver events: stopped while another delivery was under way: %w", ctx.Err())
		d.Left = j.left()
		return d, nil
	}
	for {
		r, doubtful, err := j.next()
		if err != nil {
			d.LastError, d.Left = err, j.left()
			return d, err
		}
		if r.Seq == 0 {
			d.Left = j.left()
			d.Aside, d.LastError = j.refused()
			return d, nil
		}
		already, err := c.deliver(ctx, j, r, doubtful)
		if refusedForGood(err) {
			j.setAside(r, err)
			continue
		}
		if err != nil {
			d.LastError, d.Left = err, j.left()
			return d, nil
		}
		if err := j.Ack(r.Seq); err != nil {
			d.LastError, d.Left = err, j.left()
			return d, err
		}
		if already {
			d.AlreadyThere++
		} else {
			d.Sent++
		}
	}
}

func (c *Client) deliver(ctx context.Context, j *Journal, r Record, doubtful bool) (already bool, err error) {
	run := j.Stamp().Run
	if doubtful {
		already, err = c.holds(ctx, run, r)
		if already || err != nil {
			return already, err
		}
	}
	body, err := posted(r)
	if err != nil {
		return false, fmt.Errorf("event %s of line %d: %w", r.Event.Name, r.Seq, err)
	}
	j.doubtful(r.Seq) // until the acknowledgement is recorded
	return c.log(ctx, body, fmt.Sprintf("%s/%d", run, r.Seq))
}

// holds asks whether the witness has the event. Anything but a clear answer is
// an error: a wrong no would make a duplicate.
func (c *Client) holds(ctx context.Context, run string, r Record) (bool, error) {
	found, err := c.Query(ctx, Query{
		Match: map[string]any{"metadata.run": run, "metadata.seq": r.Seq},
		From:  formatTime(r.At.Add(-queryMargin)),
		To:    formatTime(time.Now().Add(queryMargin)),
	})
	if err != nil {
		return false, err
	}
	for _, e := range found {
		if e.Metadata["run"] != run || number(e.Metadata["seq"]) != r.Seq {
			continue
		}
		if e.Metadata["hash"] != r.Hash {
			return false, &takenError{key: fmt.Sprintf("%s/%d", run, r.Seq)}
		}
		return true, nil
	}
	if len(found) > 0 {
		return false, fmt.Errorf("query events: asked for %s/%d, the witness gave %d other events: not sent, it could be a duplicate", run, r.Seq, len(found))
	}
	return false, nil
}

// posted gives the line of an event with its hash in the metadata. It works on
// the raw text, so that large numbers stay as they are.
func posted(r Record) (json.RawMessage, error) {
	var event, metadata map[string]json.RawMessage
	if err := json.Unmarshal(r.Line, &event); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(event["metadata"], &metadata); err != nil {
		return nil, err
	}
	metadata["hash"] = json.RawMessage(`"` + r.Hash + `"`)
	raw, err := encode(metadata)
	if err != nil {
		return nil, err
	}
	event["metadata"] = raw
	return encode(event)
}

// next gives the first event without acknowledgement, the zero Record when
// there is none, and whether an earlier attempt may have arrived. A journal
// that cannot record acknowledgements gives its error.
func (j *Journal) next() (r Record, doubtful bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failure != nil {
		return Record{}, false, j.failure
	}
	for ; j.first < len(j.contents.Records); j.first++ {
		if r := j.contents.Records[j.first]; r.IsEvent() && !r.Acked {
			break
		}
	}
	for _, r := range j.contents.Records[j.first:] {
		if _, aside := j.aside[r.Seq]; r.IsEvent() && !r.Acked && !aside {
			return r, j.doubt[r.Seq], nil
		}
	}
	return Record{}, false, nil
}

// takenError says that the witness holds something else under an event's key.
type takenError struct{ key string }

func (e *takenError) Error() string {
	return "query events: the witness holds another event as " + e.key + ": not sent"
}

// refusedForGood tells that the same event will be refused again, while others
// may be accepted.
func refusedForGood(err error) bool {
	var status *httpapi.StatusError
	if errors.As(err, &status) {
		switch status.Code {
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
			return true
		}
	}
	return errors.As(err, new(*takenError))
}

func (j *Journal) setAside(r Record, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.aside[r.Seq] = fmt.Errorf("%s (line %d) is refused and set aside: %w", r.Event.Name, r.Seq, err)
}

// refused gives how many events are set aside, and why the first of them is.
func (j *Journal) refused() (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.aside) == 0 {
		return 0, nil
	}
	return len(j.aside), j.aside[slices.Min(slices.Collect(maps.Keys(j.aside)))]
}

func (j *Journal) doubtful(seq int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.doubt[seq] = true
}

func (j *Journal) left() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.contents.Events - j.contents.Acked
}
