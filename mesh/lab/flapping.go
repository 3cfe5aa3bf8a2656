package lab

import (
	"context"
	"errors"
	"sync"
	"time"
)

// flapEvery is how long a flapping server is up, and how long it is down. The
// hold of agents in the lab is as much shorter than a minute.
const flapEvery = 500 * time.Millisecond

// flapping is the servers that come and go.
type flapping struct {
	mu   sync.Mutex
	stop map[string]func() error // by target
}

// turnFlaps kills a server and brings it back again and again.
func turnFlaps() faultKind {
	return faultKind{
		FaultInfo{"turn-flapping", "the server is killed and comes back, every half second", turnName(0)},
		func(_ context.Context, l *Lab, target string) error {
			l.flaps.begin(l.ctx, target, l.turnServer(target))
			return nil
		},
		func(_ context.Context, l *Lab, target string) error { return l.flaps.end(target) },
	}
}

func (f *flapping) begin(ctx context.Context, target string, t *turnServer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stop[target] != nil {
		return
	}
	if f.stop == nil {
		f.stop = map[string]func() error{}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- flap(ctx, t) }()
	f.stop[target] = func() error {
		cancel()
		return <-done
	}
}

// end returns when the server is up for good.
func (f *flapping) end(target string) error {
	f.mu.Lock()
	stop := f.stop[target]
	delete(f.stop, target)
	f.mu.Unlock()
	if stop == nil {
		return nil
	}
	return stop()
}

// flap leaves the server up when ctx ends. A change that has begun is made.
func flap(ctx context.Context, t *turnServer) error {
	ticker := time.NewTicker(flapEvery)
	defer ticker.Stop()
	whole := context.WithoutCancel(ctx)
	var err error
	for down := true; ctx.Err() == nil; down = !down {
		if down {
			err = errors.Join(err, t.inject(whole, faultKilled))
		} else {
			err = errors.Join(err, t.heal(whole, faultKilled))
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	return errors.Join(err, t.heal(whole, faultKilled))
}

func (f *flapping) close() error {
	f.mu.Lock()
	var targets []string
	for target := range f.stop {
		targets = append(targets, target)
	}
	f.mu.Unlock()
	var errs []error
	for _, target := range targets {
		errs = append(errs, f.end(target))
	}
	return errors.Join(errs...)
}
