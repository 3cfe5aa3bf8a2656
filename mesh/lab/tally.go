package lab

import "time"

const (
	maxTimes   = 32_768 // arrival times kept of a direction
	maxPending = 8_192  // messages of a direction that have not arrived
)

// tally counts one direction.
type tally struct {
	last    int64 // highest number given to a message
	highest int64 // highest number that arrived
	lastAt  time.Time
	count   DeliveryCount // Lost: only those given up for good
	pending map[int64]time.Time
	times   []time.Time // of the latest arrivals, in order
}

func newTally() *tally { return &tally{pending: map[int64]time.Time{}} }

// begin numbers a message that is about to be sent.
func (t *tally) begin(now time.Time) int64 {
	if len(t.pending) >= maxPending {
		t.giveUp(now)
	}
	t.last++
	t.count.Sent++
	t.pending[t.last] = now
	return t.last
}

// withdraw takes back a number whose message could not be sent.
func (t *tally) withdraw(seq int64) {
	if _, waits := t.pending[seq]; waits {
		delete(t.pending, seq)
		t.count.Sent--
	}
}

// giveUp forgets messages that are lost, to bound the memory of long faults.
func (t *tally) giveUp(now time.Time) {
	for seq, at := range t.pending {
		if t.lost(seq, at, now) {
			delete(t.pending, seq)
			t.count.Lost++
		}
	}
}

func (t *tally) lost(seq int64, at, now time.Time) bool {
	return seq < t.highest || now.Sub(at) > lostAfter
}

func (t *tally) arrived(seq int64, at time.Time) {
	if _, waits := t.pending[seq]; !waits {
		t.count.Duplicated++
		return
	}
	delete(t.pending, seq)
	t.count.Received++
	if seq < t.highest {
		t.count.Reordered++
	}
	t.highest = max(t.highest, seq)
	t.lastAt = at
	if len(t.times) >= 2*maxTimes {
		t.times = append([]time.Time(nil), t.times[maxTimes:]...)
	}
	t.times = append(t.times, at)
}

func (t *tally) counted(now time.Time) DeliveryCount {
	c := t.count
	for seq, at := range t.pending {
		if t.lost(seq, at, now) {
			c.Lost++
		}
	}
	return c
}

// outage finds the longest silence that ended after since. A silence that
// lasts for longer than lasting has not ended.
func (t *tally) outage(since, now time.Time, lasting time.Duration) PairOutage {
	if t.lastAt.IsZero() {
		return PairOutage{}
	}
	if silence := now.Sub(t.lastAt); silence > lasting {
		return PairOutage{LastBefore: t.lastAt, Outage: silence}
	}
	longest := PairOutage{Recovered: true}
	for i := len(t.times) - 1; i > 0 && t.times[i].After(since); i-- {
		if gap := t.times[i].Sub(t.times[i-1]); gap > longest.Outage {
			longest.LastBefore, longest.FirstAfter, longest.Outage = t.times[i-1], t.times[i], gap
		}
	}
	return longest
}
