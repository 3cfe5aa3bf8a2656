package mesh

import (
	"context"
	"sync"
	"time"
)

// enter begins a phase of the test.
func (d *delivery) enter(phase string, atMost time.Duration) {
	d.mu.Lock()
	d.phase, d.ends = phase, time.Now().Add(atMost)
	d.mu.Unlock()
	d.tell()
}

func (d *delivery) tell() {
	if d.o.Progress == nil {
		return
	}
	d.mu.Lock()
	p := DeliveryProgress{Phase: d.phase, Left: max(0, time.Until(d.ends))}
	d.mu.Unlock()
	for _, c := range d.counts {
		sent, received := c.soFar()
		p.Sent += sent
		p.Received += received
	}
	d.o.Progress(p)
}

// report tells the progress once a second until stop is called.
func (d *delivery) report(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				d.tell()
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}
