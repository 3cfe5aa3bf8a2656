package witnessclient

import (
	"context"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	retryFirst  = time.Second      // during the run, doubled up to retryMax, ±50 %
	retryMax    = 30 * time.Second // a witness that comes back is noticed within this time
	finalTries  = 3
	finalFirst  = 250 * time.Millisecond // between the tries of Final, doubled, ±50 %
	retryJitter = 0.5
)

// Outbox delivers the events of a journal in the background while the run goes
// on, so that a slow or dead witness never holds the run up. After a failure it
// waits before the next attempt. It needs no call after Append; end it with
// Final.
type Outbox struct {
	client  *Client
	journal *Journal
	first   time.Duration // wait after the first failure
	cancel  context.CancelFunc
	stop    func()        // lets the worker end after what it is doing
	stopped chan struct{} // closed by stop
	done    chan struct{} // closed when the worker has ended

	mu    sync.Mutex
	state Delivery
}

// NewOutbox starts to deliver, beginning with what an earlier process left.
func NewOutbox(c *Client, j *Journal) *Outbox { return newOutbox(c, j, retryFirst) }

func newOutbox(c *Client, j *Journal, first time.Duration) *Outbox {
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	o := &Outbox{
		client: c, journal: j, first: first, cancel: cancel, stopped: stopped,
		stop: sync.OnceFunc(func() { close(stopped) }), done: make(chan struct{}),
	}
	go o.work(ctx)
	return o
}

// work delivers after every Append. While the witness fails, it tries again
// when the wait is over and not sooner.
func (o *Outbox) work(ctx context.Context) {
	defer close(o.done)
	waits := o.waits()
	for {
		appended, retry := o.journal.appended, (<-chan time.Time)(nil)
		failed, broken := o.deliver(ctx)
		switch {
		case broken:
			return
		case failed:
			appended, retry = nil, time.After(waits.NextBackOff())
		default:
			waits.Reset()
		}
		select {
		case <-o.stopped:
			return
		case <-appended:
		case <-retry:
		}
	}
}

func (o *Outbox) waits() *backoff.ExponentialBackOff {
	b := &backoff.ExponentialBackOff{
		InitialInterval: o.first, RandomizationFactor: retryJitter, Multiplier: 2, MaxInterval: retryMax,
	}
	b.Reset()
	return b
}

func (o *Outbox) deliver(ctx context.Context) (failed, broken bool) {
	d, err := Deliver(ctx, o.client, o.journal)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.state.Sent += d.Sent
	o.state.AlreadyThere += d.AlreadyThere
	o.state.Aside, o.state.LastError = d.Aside, d.LastError
	return d.LastError != nil && d.Left > d.Aside, err != nil
}

// State tells what was delivered since NewOutbox and what is left now. It never
// waits for the witness.
func (o *Outbox) State() Delivery {
	o.mu.Lock()
	defer o.mu.Unlock()
	d := o.state
	d.Left = o.journal.left()
	return d
}

// Final ends the background work and delivers the rest in up to three tries.
// It takes as long as the witness does, until ctx ends: give it a deadline.
// After it, the journal may be closed.
func (o *Outbox) Final(ctx context.Context) Delivery {
	o.stop()
	select {
	case <-o.done: // an attempt that is under way is not cut short: its outcome would be unknown
	case <-ctx.Done():
	}
	o.cancel()
	<-o.done
	waits := o.waits()
	waits.InitialInterval = min(finalFirst, o.first)
	waits.Reset()
	for try := 1; ctx.Err() == nil; try++ {
		failed, broken := o.deliver(ctx)
		if !failed || broken || try == finalTries {
			break
		}
		select {
		case <-time.After(waits.NextBackOff()):
		case <-ctx.Done():
		}
	}
	return o.State()
}
