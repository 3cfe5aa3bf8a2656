package mesh

import (
	"math"
	"time"
)

const (
	healingAttempts = 10
	// stopped parks the timer: nothing is due.
	stopped = time.Duration(math.MaxInt64)
)

// healing is the schedule by which a link tries to come back from a partition:
// attempts 0, 2, 6, 14 ... 1022 s after its detection, a call for a human when
// the tenth has failed, and then one attempt every 17 minutes. All times are
// those of Timing.HealingUnit, a second.
type healing struct {
	timing Timing
	emit   func(name string, m metadata)
	timer  *time.Timer // when step is due

	since    time.Time // detection; zero: no partition
	attempts int
	judged   bool // the last attempt has had its time
	final    bool // the call has gone out
}

func newHealing(t Timing, emit func(string, metadata)) *healing {
	h := &healing{timing: t, emit: emit, timer: time.NewTimer(stopped)}
	return h
}

func (h *healing) active() bool { return !h.since.IsZero() }

func (h *healing) stop() { h.timer.Stop() }

// detect begins the schedule; the first attempt is due at once.
func (h *healing) detect(now time.Time, silence time.Duration) {
	if h.active() {
		return
	}
	h.since, h.attempts, h.judged, h.final = now, 0, true, false
	h.emit("mesh_partition_detected", metadata{"silence_ms": millis(silence)})
	h.timer.Reset(0)
}

// healed ends the schedule.
func (h *healing) healed() {
	if !h.active() {
		return
	}
	h.emit("mesh_partition_healed", metadata{"attempts": h.attempts, "partition_ms": millis(time.Since(h.since))})
	h.since = time.Time{}
	h.timer.Stop()
}

// now has an attempt made at once: an operator asks for it. The schedule goes
// on where it is.
func (h *healing) now() {
	if h.active() {
		h.judged = true
		h.timer.Reset(0)
	}
}

// step is what is due when the timer fires: true for an attempt. The end of
// the tenth attempt's time is a step of its own.
func (h *healing) step(now time.Time) (attempt bool) {
	if !h.active() {
		return false
	}
	if !h.judged && h.attempts >= healingAttempts {
		h.judged = true
		if !h.final {
			h.final = true
			h.emit("mesh_healing_failed_final", metadata{
				"total_attempts": h.attempts, "severity": "critical",
				"error": "no attempt of " + h.timing.HealingAttempt.String() + " brought the peer back",
			})
		}
		h.timer.Reset(h.next().Sub(now))
		return false
	}
	h.attempts++
	h.judged = false
	next := h.next()
	h.emit("mesh_healing_attempt", metadata{
		"attempt": h.attempts, "next_retry_ms": millis(next.Sub(now)), "max_attempts": healingAttempts,
	})
	if h.attempts >= healingAttempts {
		h.timer.Reset(h.timing.HealingAttempt)
	} else {
		h.timer.Reset(next.Sub(now))
	}
	return true
}

// next is when the attempt after those made is due.
func (h *healing) next() time.Time {
	unit := h.timing.HealingUnit
	if h.attempts < healingAttempts {
		return h.since.Add(unit * (1<<(h.attempts+1) - 2))
	}
	last := unit * (1<<healingAttempts - 2)
	return h.since.Add(last + unit*time.Duration(h.attempts+1-healingAttempts)*17*60)
}

// checkPartition compares the silence of the link with what counts as one.
func (l *link) checkPartition() {
	c := l.conn
	if l.up || c == nil {
		return
	}
	silence := time.Since(c.lastHeard)
	if c.lastHeard.IsZero() || silence < l.agent.o.Timing.Partition {
		return
	}
	l.healing.detect(time.Now(), silence)
}

// healNow makes an attempt that an operator asks for.
func (l *link) healNow() {
	if l.healing.active() {
		l.healing.now()
		return
	}
	l.retry()
}

// heal makes the attempt that is due, if any.
func (l *link) heal() {
	attempt := l.healing.step(time.Now())
	l.hopeless.Store(l.healing.active() && l.healing.final)
	if !attempt || l.up {
		return
	}
	if l.attempt != nil && !l.attempt.offering {
		return // the peer's schedule is a moment ahead
	}
	l.abandon()
	clear(l.excluded)
	l.kick()
}
