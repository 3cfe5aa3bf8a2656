package lab

import (
	"slices"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/witnessclient"
)

func benchLab(b *testing.B, o Options) *Lab {
	l, err := Start(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	if err := l.Steady(b.Context(), 200*time.Millisecond); err != nil {
		b.Fatal(err)
	}
	return l
}

func median(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2]) / float64(time.Millisecond)
}

// BenchmarkPartition ends a partition of 28 s, at a tenth of its time, and
// waits for the first message on every direction.
func BenchmarkPartition(b *testing.B) {
	l := benchLab(b, Options{Agents: 3, Agent: scaled})
	var all []time.Duration
	for b.Loop() {
		all = append(all, partition(b, l, 2800*time.Millisecond))
	}
	b.ReportMetric(median(all), "ms/first-message")
}

// BenchmarkOneWayLoss cuts one direction of a link with production's timing
// and waits until the side that hears everything has noticed.
func BenchmarkOneWayLoss(b *testing.B) {
	found := make(chan time.Time, 64)
	l := benchLab(b, Options{Agents: 2, Agent: func(o *mesh.AgentOptions) {
		tell := o.Emit
		o.Timing = mesh.DefaultTiming()
		o.Emit = func(e witnessclient.Event) {
			tell(e)
			if e.AgentID == "agent-1" && e.Name == "connection_state_changed" && e.Metadata["state"] == wire.StateDisconnected {
				found <- e.Timestamp
			}
		}
	}})
	var all []time.Duration
	cut := Fault{"network-cut", "agent-1>agent-2"}
	for b.Loop() {
		if err := l.Inject(b.Context(), cut); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		select {
		case at := <-found:
			all = append(all, at.Sub(began))
		case <-time.After(time.Minute):
			b.Fatal("not found in a minute")
		}
		if err := l.Heal(b.Context(), cut); err != nil {
			b.Fatal(err)
		}
		if err := l.Steady(b.Context(), time.Second); err != nil {
			b.Fatal(err)
		}
		for len(found) > 0 {
			<-found
		}
	}
	b.ReportMetric(median(all), "ms/found")
}
