package mesh

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// traffic sends numbered messages over every pair and notes their arrivals.
type traffic struct {
	every  time.Duration
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	arrivals map[direction][]time.Time
}

func newTraffic(every time.Duration) *traffic {
	return &traffic{every: every, arrivals: map[direction][]time.Time{}}
}

// receiver is the OnMessage of one agent.
func (f *traffic) receiver(to string) func(string, wire.Message, time.Time) {
	return func(from string, _ wire.Message, at time.Time) {
		f.mu.Lock()
		defer f.mu.Unlock()
		d := direction{from, to}
		f.arrivals[d] = append(f.arrivals[d], at)
	}
}

func (f *traffic) start(t testing.TB, agents []*Agent) {
	ctx, cancel := context.WithCancel(t.Context())
	f.cancel = cancel
	t.Cleanup(f.stop)
	for _, from := range agents {
		f.wg.Go(func() {
			ticker := time.NewTicker(f.every)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
				for _, to := range agents {
					if to != from {
						_, _ = from.Send(to.ID(), nil) // refusals show as a gap
					}
				}
			}
		})
	}
}

func (f *traffic) stop() {
	f.cancel()
	f.wg.Wait()
}

// since counts the directions on which something arrived after a time.
func (f *traffic) since(at time.Time) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, times := range f.arrivals {
		if times[len(times)-1].After(at) {
			n++
		}
	}
	return n
}
