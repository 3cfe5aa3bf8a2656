package probes

import (
	"context"
	"errors"
	"time"
)

// Schedule says when a request over UDP is sent again and when the wait for a
// reply ends (RFC 8489 section 6.2.1). The zero value means QuickSchedule.
type Schedule struct {
	First  time.Duration // until the second send; doubles from send to send
	Sends  int           // how often the request is sent at most
	GiveUp time.Duration // from the first send until the verdict "silent"
}

// QuickSchedule answers an operator who waits: sends at 0, 0.25, 0.75 and
// 1.75 s, and a verdict after 2.8 s.
func QuickSchedule() Schedule {
	return Schedule{First: 250 * time.Millisecond, Sends: 4, GiveUp: 2800 * time.Millisecond}
}

// StandardSchedule is the one of RFC 8489: seven sends from 0.5 s on, and a
// verdict after 39.5 s.
func StandardSchedule() Schedule {
	return Schedule{First: 500 * time.Millisecond, Sends: 7, GiveUp: 39500 * time.Millisecond}
}

// releaseSchedule bounds how long giving back an allocation may hold up a
// verdict that is already known.
func releaseSchedule(over Transport) Schedule {
	s := Schedule{First: 150 * time.Millisecond, Sends: 3, GiveUp: time.Second}
	if over.reliable() {
		s.Sends = 1
	}
	return s
}

// errSilence ends a context whose time for an answer is over. Any other cause
// means that the caller stopped the probe.
var errSilence = errors.New("no answer in time")

// bounded limits one whole probe: by timeout, or by the schedule without one.
func (s Schedule) bounded(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		timeout = s.GiveUp
	}
	return context.WithTimeoutCause(ctx, timeout, errSilence)
}

func (s Schedule) orQuick() Schedule {
	if s == (Schedule{}) {
		return QuickSchedule()
	}
	return s
}

// interrupted tells whether the caller stopped the probe before its time.
func interrupted(ctx context.Context) bool {
	return ctx.Err() != nil && !errors.Is(context.Cause(ctx), errSilence)
}

// lingering outlives an interrupted ctx by grace: a server that was asked for
// an allocation may still grant it, and only who reads the answer can give the
// allocation back.
func lingering(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if !interrupted(ctx) {
			cancel(context.Cause(ctx))
			return
		}
		time.AfterFunc(grace, func() { cancel(context.Cause(ctx)) })
	})
	return longer, func() {
		stop()
		cancel(context.Canceled)
	}
}

// patience is a timer that does not count the time in which this process was
// not running: what came meanwhile has yet to be read.
type patience struct {
	*time.Timer
	wait time.Duration
	due  time.Time
}

const starved = 100 * time.Millisecond // later than this a timer fires only on a busy machine

func startPatience(wait time.Duration) *patience {
	return &patience{time.NewTimer(wait), wait, time.Now().Add(wait)}
}

// over is asked when the timer has fired. It starts the timer again when that
// was late.
func (p *patience) over() bool {
	if time.Since(p.due) < starved {
		return true
	}
	again := min(p.wait, settling)
	p.due = time.Now().Add(again)
	p.Reset(again)
	return false
}

// fired is the timer's channel; that of nil never fires.
func (p *patience) fired() <-chan time.Time {
	if p == nil {
		return nil
	}
	return p.C
}
