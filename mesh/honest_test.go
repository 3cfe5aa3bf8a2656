package mesh

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/lab/network"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// cutPair is two agents on a network that can be cut, connected.
func cutPair(t *testing.T, edit func(*AgentOptions)) (*testMesh, *network.Network) {
	bad := network.New(1)
	t.Cleanup(func() { _ = bad.Close() })
	m := newTestMesh(t)
	for _, id := range []string{"a", "b"} {
		sockets, err := bad.Net(id)
		if err != nil {
			t.Fatal(err)
		}
		m.add(id, func(o *AgentOptions) {
			o.Net = sockets
			if edit != nil {
				edit(o)
			}
		})
	}
	m.connectAll()
	return m, bad
}

func cut(t *testing.T, n *network.Network, from, to string) {
	t.Helper()
	if err := n.Add(network.Rule{From: from, To: to, Impairment: network.Impairment{Cut: true}}); err != nil {
		t.Fatal(err)
	}
}

// TestPathsOfASilentLink: pion takes a path that is dead for connected for as
// long as Timing.Failed. Nobody else may.
func TestPathsOfASilentLink(t *testing.T) {
	m, bad := cutPair(t, func(o *AgentOptions) { o.Timing.Failed, o.Timing.Connect = time.Hour, time.Hour })
	cut(t, bad, "a", "b")
	m.eventually("a notices that b does not hear it", func() error {
		if l := m.agents[0].Links()[0]; l.State != wire.StateDisconnected {
			return errors.New(l.State)
		}
		return nil
	})
	report, ok := m.agents[0].Paths("b")
	if !ok || report.State != wire.StateDisconnected {
		t.Errorf("Paths says %q, %t; Links says disconnected", report.State, ok)
	}
}

// TestQualityHasNoOldRoundTrip: a value that no answer stands behind any more
// is left out of the events, and so is one that there never was.
func TestQualityHasNoOldRoundTrip(t *testing.T) {
	m, bad := cutPair(t, func(o *AgentOptions) {
		o.Timing.Disconnected, o.Timing.Quality, o.Timing.Failed = time.Hour, 50*time.Millisecond, time.Hour
	})
	without := map[string]int{} // events in a row, by agent
	look := func() (with int) {
		clear(without)
		for _, e := range m.events.named("connection_quality_update") {
			rtt, has := e.Metadata["roundTripTime"].(float64)
			without[e.AgentID]++
			if has {
				without[e.AgentID] = 0
				with++
			}
			if has && rtt <= 0 {
				t.Errorf("a round trip of %v s", rtt)
			}
		}
		return with
	}
	m.eventually("round trips", func() error {
		if look() == 0 {
			return errors.New("none yet")
		}
		return nil
	})
	cut(t, bad, "*", "*")
	m.eventually("no round trips any more", func() error {
		if look(); without["a"] < 5 || without["b"] < 5 {
			return fmt.Errorf("%v events without", without)
		}
		return nil
	})
}

// TestHealTriesOnce: what an operator asks for is one attempt at once, for every
// link that is down, however it came to be.
func TestHealTriesOnce(t *testing.T) {
	m, bad := cutPair(t, func(o *AgentOptions) {
		o.Timing = o.Timing.ScalePartition(0.01)
		o.Timing.HealingUnit = time.Hour // the second attempt is two hours away
		o.Timing.Connect, o.Timing.Fallback = 100*time.Millisecond, 100*time.Millisecond
		o.Timing.OfferSilence = time.Hour
	})
	a := m.agents[0]
	cut(t, bad, "*", "*")
	m.eventually("the first attempt is over", func() error {
		if n := m.events.count("mesh_healing_attempt"); n < 2 {
			return fmt.Errorf("%d attempts", n)
		}
		idle := false
		on(t, a, "b", func(l *link) { idle = l.attempt == nil && l.then == nil })
		if !idle {
			return errors.New("an attempt is under way")
		}
		return nil
	})
	offers, attempts := m.events.count("webrtc_offer_created"), m.events.count("mesh_healing_attempt")
	if n := a.Heal(); n != 1 {
		t.Errorf("Heal concerns %d links, want 1", n)
	}
	m.eventually("an attempt", func() error {
		if n := m.events.count("mesh_healing_attempt"); n == attempts {
			return errors.New("none")
		}
		return nil
	})
	on(t, a, "b", func(l *link) {})
	if n := m.events.count("webrtc_offer_created") - offers; n != 1 {
		t.Errorf("%d offers, want 1", n)
	}
	on(t, a, "b", func(l *link) { l.setQuiet(""); l.healing.healed() }) // down, and no partition yet
	if n := a.Heal("b"); n != 1 || a.Heal("somebody") != 0 {
		t.Errorf("Heal concerns %d links that are down, want 1", n)
	}
}
