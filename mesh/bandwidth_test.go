package mesh

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/lab/network"
	"github.com/infrafabric/meshctl/mesh/wire"
)

func TestPacerFollowsTheLoss(t *testing.T) {
	var p pacer
	now := time.Now()
	if !p.take(1<<20, now) {
		t.Error("a link without a bound refuses")
	}
	p.set(Bandwidth{Most: 80_000}) // 10 000 bytes a second, 2500 at once
	sent := 0
	for i := range 1000 { // ten seconds
		if p.take(100, now.Add(time.Duration(i)*10*time.Millisecond)) {
			sent += 100
		}
	}
	if sent < 99_000 || sent > 103_000 {
		t.Errorf("%d bytes in 10 s, not about 100 000", sent)
	}
	p.adapt(0.5)
	if p.limit() != 80_000 {
		t.Errorf("it adapts without being told to: %v", p.limit())
	}
	p.set(Bandwidth{Adapt: true, Most: 1e6})
	for _, step := range []struct{ loss, want float64 }{{0.2, 900_000}, {0.05, 900_000}, {0.01, 972_000}, {0, 1e6}, {0, 1e6}} {
		if p.adapt(step.loss); math.Abs(p.limit()-step.want) > 1 {
			t.Errorf("after %v: %v, not %v", step.loss, p.limit(), step.want)
		}
	}
	for range 100 {
		p.adapt(0.9)
	}
	if p.limit() != adaptLeast {
		t.Errorf("at the bottom: %v", p.limit())
	}
	if !p.take(20_000, now.Add(time.Hour)) || p.take(20_000, now.Add(time.Hour)) {
		t.Error("a message longer than a burst passes when nothing was sent, once")
	}
}

// TestAdaptationUnderRealLoss sends as much as the agent takes over a path that
// loses a fifth of one direction for a while.
func TestAdaptationUnderRealLoss(t *testing.T) {
	bad := network.New(1)
	t.Cleanup(func() { _ = bad.Close() })
	m := newTestMesh(t)
	var arrived atomic.Int64
	for _, id := range []string{"a", "b"} {
		sockets, err := bad.Net(id)
		if err != nil {
			t.Fatal(err)
		}
		m.add(id, func(o *AgentOptions) {
			o.Net, o.Timing.Heartbeat, o.Timing.Quality = sockets, 20*time.Millisecond, 100*time.Millisecond
			o.OnMessage = func(string, wire.Message, time.Time) { arrived.Add(1) }
		})
	}
	m.connectAll()
	a, b := m.agents[0], m.agents[1]
	for _, agent := range m.agents {
		agent.SetBandwidth(Bandwidth{Adapt: true, Most: 1e6})
	}
	m.eventually("loss is measured", func() error {
		if l := a.Links()[0]; l.LossTx == nil || l.LossRx == nil {
			return errors.New("no value")
		}
		return nil
	})
	lossy := network.Rule{From: "a", To: "b", Impairment: network.Impairment{Loss: 0.2}}
	if err := bad.Add(lossy); err != nil {
		t.Fatal(err)
	}
	payload := map[string]string{"data": strings.Repeat("x", 500)}
	m.eventually("the rate falls", func() error {
		_, _ = a.Send("b", payload)
		if rate := a.Bitrate("b"); rate > 0.5e6 {
			return fmt.Errorf("%v bit/s, loss %v", rate, *a.Links()[0].LossTx)
		}
		return nil
	})
	var err error
	for i := 0; i < 100_000 && err == nil; i++ {
		_, err = a.Send("b", payload)
	}
	if !errors.Is(err, ErrPaced) || arrived.Load() == 0 {
		t.Errorf("sending without end: %v, %d arrived", err, arrived.Load())
	}
	if rate := b.Bitrate("a"); rate < 0.9e6 {
		t.Errorf("the direction that loses nothing was lowered to %v", rate)
	}
	if e := m.events.named("connection_quality_update"); len(e) == 0 || e[len(e)-1].Metadata["loss_tx"] == nil || e[len(e)-1].Metadata["bitrate_limit_bps"] == nil {
		t.Errorf("the events do not tell: %v", m.events.tail(1))
	}
	bad.Remove(lossy)
	m.eventually("the rate rises again", func() error {
		if rate := a.Bitrate("b"); rate < 1e6 {
			return fmt.Errorf("%v bit/s", rate)
		}
		return nil
	})
}
