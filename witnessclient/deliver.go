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
// stays. While such an attempt may still be on its way, the question is asked
// again: see Options.Patience. One that is under way when ctx ends gets a second
// for its answer. Several calls at once take turns. The error is that of a journal which
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
	for c.deliverNext(ctx, j, &d) {
	}
	d.Left = j.left()
	return d, j.broken()
}

// deliverNext gives false when there is nothing more to do, or something failed.
func (c *Client) deliverNext(ctx context.Context, j *Journal, d *Delivery) bool {
	r, doubtful := j.next()
	if r.Seq == 0 {
		d.Aside, d.LastError = j.refused()
		return false
	}
	already, err := c.deliver(ctx, j, r, doubtful)
	if err == nil {
		err = j.Ack(r.Seq)
	}
	switch {
	case refusedForGood(err):
		j.setAside(r, err)
	case err != nil:
		d.LastError = err
		return false
	case already:
		d.AlreadyThere++
	default:
		d.Sent++
	}
	return true
}

// deliver sends one event, or finds that the witness has it: doubtful means that
// an earlier attempt may have arrived.
func (c *Client) deliver(ctx context.Context, j *Journal, r Record, doubtful bool) (already bool, err error) {
	if err := j.broken(); err != nil {
		return false, err
	}
	run := j.Stamp().Run
	if doubtful {
		already, err = c.arrived(ctx, run, r)
		if already || err != nil {
			return already, err
		}
	}
	body, err := posted(r)
	if err != nil {
		return false, fmt.Errorf("event %s of line %d: %w", r.Event.Name, r.Seq, err)
	}
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("deliver events: stopped before %s (line %d): %w", r.Event.Name, r.Seq, err)
	}
	if err := j.send(r.Seq); err != nil {
		return false, err
	}
	ctx, cancel := lingering(ctx, c.grace)
	defer cancel()
	already, err = c.log(ctx, body, fmt.Sprintf("%s/%d", run, r.Seq))
	if answered(err) {
		err = errors.Join(err, j.failed(r.Seq))
	}
	return already, err
}

// lingering gives a context that ends a moment after its parent: cut short, an
// attempt would leave it open whether the event arrives.
func lingering(parent context.Context, moment time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() { time.AfterFunc(moment, cancel) })
	return ctx, func() { stop(); cancel() }
}

// answered tells that a failed attempt is over, and not still on its way: the
// witness itself has replied, or nothing was sent.
func answered(err error) bool {
	var status *httpapi.StatusError
	if errors.As(err, &status) {
		return status.Code != http.StatusBadGateway && status.Code != http.StatusGatewayTimeout
	}
	var unreachable *httpapi.UnreachableError
	return errors.As(err, &unreachable) && !unreachable.Sent
}

const askAgain = 250 * time.Millisecond

// arrived asks until the witness has the event, or its no can be believed: when
// an attempt to which no answer came is not on its way any more.
func (c *Client) arrived(ctx context.Context, run string, r Record) (bool, error) {
	believe := r.Sent.Add(c.patience)
	if latest := time.Now().Add(c.patience); believe.After(latest) {
		believe = latest // the clock went back since
	}
	for {
		last := !time.Now().Before(believe)
		held, err := c.holds(ctx, run, r)
		if held || err != nil || last {
			return held, err
		}
		select {
		case <-time.After(min(askAgain, time.Until(believe))):
		case <-ctx.Done():
			return false, fmt.Errorf("deliver events: stopped while %s (line %d) could still arrive: %w", r.Event.Name, r.Seq, ctx.Err())
		}
	}
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
// there is none, and whether an earlier attempt may have arrived.
func (j *Journal) next() (r Record, doubtful bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for ; j.first < len(j.contents.Records); j.first++ {
		if r := j.contents.Records[j.first]; r.IsEvent() && !r.Acked {
			break
		}
	}
	for _, r := range j.contents.Records[j.first:] {
		if _, aside := j.aside[r.Seq]; r.IsEvent() && !r.Acked && !aside {
			return r, j.doubt[r.Seq]
		}
	}
	return Record{}, false
}

// broken gives why nothing can be recorded any more.
func (j *Journal) broken() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failure
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

func (j *Journal) left() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.contents.Events - j.contents.Acked
}
