package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

const (
	// lostAfter is how long a message may be under way. An outage that ends
	// sooner only delays messages.
	lostAfter = 10 * time.Second
	// atLeast bounds what counts as silence from below: on a busy machine a
	// few intervals pass without a message.
	atLeast = 300 * time.Millisecond
)

// DeliveryCount is the traffic of all pairs so far, counted at the receivers.
type DeliveryCount struct {
	Sent       int `json:"sent"`
	Received   int `json:"received"`   // different messages
	Lost       int `json:"lost"`       // overtaken by a later one, or under way for more than 10 s
	Duplicated int `json:"duplicated"` // further copies
	Reordered  int `json:"reordered"`  // arrived after a later one
	Corrupt    int `json:"corrupt"`    // not what was sent
}

// PairOutage is the longest silence of one direction.
type PairOutage struct {
	From       string        `json:"from"`
	To         string        `json:"to"`
	LastBefore time.Time     `json:"last_before"` // zero: nothing ever arrived
	FirstAfter time.Time     `json:"first_after"` // zero: it lasts
	Outage     time.Duration `json:"outage_ns"`
	Recovered  bool          `json:"recovered"`
}

// direction is an ordered pair of agents.
type direction struct{ from, to string }

// traffic counts the messages that every agent sends to every other.
type traffic struct {
	interval time.Duration
	started  time.Time
	order    []direction // sorted

	mu    sync.Mutex
	pairs map[direction]*tally
}

// payload is what a message carries. The signature of a message does not cover
// it, so it has a sum of its own.
type payload struct {
	Seq int64  `json:"seq"`
	Sum string `json:"sum"`
}

func newPayload(d direction, seq int64) payload {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%d", d.from, d.to, seq))
	return payload{Seq: seq, Sum: hex.EncodeToString(sum[:])}
}

func newTraffic(agents []string, interval time.Duration) *traffic {
	t := &traffic{interval: interval, started: time.Now(), pairs: map[direction]*tally{}}
	for _, from := range agents {
		for _, to := range agents {
			if from != to {
				d := direction{from, to}
				t.order = append(t.order, d)
				t.pairs[d] = newTally()
			}
		}
	}
	slices.SortFunc(t.order, func(a, b direction) int {
		return strings.Compare(a.from+"\n"+a.to, b.from+"\n"+b.to)
	})
	return t
}

// send lets one agent send to all others until ctx ends. A message that the
// agent does not take was not sent.
func (t *traffic) send(ctx context.Context, from string, give func(to string, payload any) error) {
	ticker := time.NewTicker(t.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, d := range t.order {
			if d.from == from {
				t.sendOne(d, give)
			}
		}
	}
}

// sendOne counts before it sends: the receiver may be faster than the counting.
func (t *traffic) sendOne(d direction, give func(to string, payload any) error) {
	t.mu.Lock()
	pair := t.pairs[d]
	seq := pair.begin(time.Now())
	t.mu.Unlock()
	if give(d.to, newPayload(d, seq)) != nil {
		t.mu.Lock()
		pair.withdraw(seq)
		t.mu.Unlock()
	}
}

// receive counts a message at its receiver.
func (t *traffic) receive(from, to string, m wire.Message, at time.Time) {
	d := direction{from, to}
	var p payload
	bad := json.Unmarshal(m.Payload, &p) != nil || p.Seq < 1 || p != newPayload(d, p.Seq)
	t.mu.Lock()
	defer t.mu.Unlock()
	pair := t.pairs[d]
	switch {
	case pair == nil: // not an agent of the lab
	case bad || p.Seq > pair.last:
		pair.count.Corrupt++
	default:
		pair.arrived(p.Seq, at)
	}
}

func (t *traffic) delivery() DeliveryCount {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	var all DeliveryCount
	for _, pair := range t.pairs {
		c := pair.counted(now)
		all.Sent += c.Sent
		all.Received += c.Received
		all.Lost += c.Lost
		all.Duplicated += c.Duplicated
		all.Reordered += c.Reordered
		all.Corrupt += c.Corrupt
	}
	return all
}

// outages finds for every direction the longest silence that ended after
// since, or the one that lasts.
func (t *traffic) outages(since time.Time) []PairOutage {
	now := time.Now()
	lasting := max(time.Second, 10*t.interval)
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]PairOutage, 0, len(t.order))
	for _, d := range t.order {
		o := t.pairs[d].outage(since, now, lasting)
		if o.LastBefore.IsZero() && !o.Recovered {
			o.Outage = now.Sub(t.started)
		}
		o.From, o.To = d.from, d.to
		list = append(list, o)
	}
	return list
}

// silent names a direction in which nothing arrived lately.
func (t *traffic) silent() error {
	limit := max(atLeast, 4*t.interval)
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.order {
		last := t.pairs[d].lastAt
		switch {
		case last.IsZero():
			return fmt.Errorf("%s to %s: nothing received yet", d.from, d.to)
		case now.Sub(last) > limit:
			return fmt.Errorf("%s to %s: nothing received for %s", d.from, d.to, now.Sub(last).Round(time.Millisecond))
		}
	}
	return nil
}
