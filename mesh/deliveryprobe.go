package mesh

import (
	"context"
	"sync"
	"time"
)

// probeCount is how many probes of a direction were sent and lost.
type probeCount struct{ sent, lost int64 }

const (
	wantedProbes = 200 // of each direction, to tell 2 % from nothing
	fastestProbe = 20 * time.Millisecond
	mostProbes   = 2000 // a second, of all directions together
)

// probe sends packets that nothing retransmits until stop is called: the
// messages themselves are sent again, and hide what the path loses.
func (d *delivery) probe(ctx context.Context) (stop func()) {
	d.before = map[direction]probeCount{}
	for between := range d.counts {
		d.before[between] = d.heartbeats(between)
	}
	every := min(max(d.o.Duration/wantedProbes, fastestProbe), time.Second)
	every = max(every, time.Duration(len(d.counts))*time.Second/mostProbes)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, a := range d.agents {
		wg.Go(func() {
			ticker := time.NewTicker(every)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				for _, l := range a.allLinks() {
					l.inbox.post(func() { l.beat(l.conn) })
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// heartbeats are counted where they arrive.
func (d *delivery) heartbeats(between direction) (c probeCount) {
	for _, a := range d.agents {
		if a.ID() != between.to {
			continue
		}
		if l := a.existing(between.from); l != nil {
			c.sent, c.lost = l.probe.total()
		}
	}
	return c
}

// probed is what came of the probes of one direction while messages were sent.
func (d *delivery) probed(between direction) probeCount {
	before, ok := d.before[between]
	if !ok {
		return probeCount{}
	}
	now := d.heartbeats(between)
	return probeCount{max(0, now.sent-before.sent), max(0, now.lost-before.lost)}
}
