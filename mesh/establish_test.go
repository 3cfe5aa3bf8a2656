package mesh

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// TestRelayWithoutADirectPath: the peer has no address that would lead to a
// direct path, so after the wait a relay is used, and that is said.
func TestRelayWithoutADirectPath(t *testing.T) {
	relay := newRelay(t, true)
	m := newTestMesh(t)
	for i, id := range []string{"a1", "a2"} {
		m.add(id, func(o *AgentOptions) {
			o.TURNServers, o.Check, o.RelayOnly = uris(relay), allocate, i == 1
			o.Timing.Connect = 10 * time.Second
		})
	}
	m.connectAll()
	for _, name := range []string{"turn_fallback_initiated", "turn_fallback_successful"} {
		m.eventually(name, func() error {
			for _, e := range m.events.named(name) {
				if e.AgentID == "a1" && e.Metadata["turn_server"] == relay.uri.String() {
					return nil
				}
			}
			return errors.New("no such event")
		})
	}
	if n := m.events.count("p2p_connection_established"); n > 0 {
		t.Errorf("%d p2p_connection_established events", n)
	}
}

func TestDirectPathNeedsNoRelay(t *testing.T) {
	relay := newRelay(t, true)
	m := newTestMesh(t)
	for _, id := range []string{"a1", "a2"} {
		m.add(id, func(o *AgentOptions) {
			o.TURNServers, o.Check = uris(relay), allocate
			o.Timing.Fallback = 20 * time.Second
		})
	}
	m.connectAll()
	m.eventually("both say so", func() error {
		if m.events.count("p2p_connection_established") < 2 || m.events.count("turn_fallback_unnecessary") < 2 {
			return errors.New("not yet")
		}
		return nil
	})
	if n := m.events.count("turn_fallback_initiated"); n > 0 {
		t.Errorf("%d turn_fallback_initiated events", n)
	}
}

// TestConnectWhenSignalingRefuses: waiting is no use then.
func TestConnectWhenSignalingRefuses(t *testing.T) {
	m := newTestMesh(t)
	m.signal.intercept(func(wire.Signal, func(wire.Signal)) bool { return true }) // nobody hears anybody
	a := m.add("a1", func(o *AgentOptions) { o.Passive = true })
	m.add("a2", func(o *AgentOptions) { o.Passive = true })
	m.eventually("peer seen", func() error {
		if !a.registered("a2") {
			return errors.New("not yet")
		}
		return nil
	})
	result := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { result <- a.Connect(ctx, "a2") }()
	m.signal.refuseNew(http.StatusForbidden)
	m.signal.drop()
	select {
	case err := <-result:
		if err == nil || !strings.Contains(err.Error(), "signaling refuses") {
			t.Errorf("Connect = %v, want it to say that signaling refuses", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("Connect waits for ever")
	}
}

// TestRecoveryOfARelayedLinkIsQuick: it does not wait for a direct path again.
func TestRecoveryOfARelayedLinkIsQuick(t *testing.T) {
	first, second := newRelay(t, true), newRelay(t, true)
	m := newTestMesh(t)
	for i, id := range []string{"a1", "a2"} {
		m.add(id, func(o *AgentOptions) {
			o.TURNServers, o.Check, o.RelayOnly = uris(first, second), allocate, i == 1
			o.Timing.Fallback, o.Timing.Connect, o.Timing.Failed = 3*time.Second, 10*time.Second, 10*time.Second
		})
	}
	m.connectAll()
	used := first
	if text(m.agents[1].Links()[0].TURNServer) == second.uri.String() {
		used = second
	}
	killed := time.Now()
	used.kill()
	m.eventually("up again", func() error {
		for _, a := range m.agents {
			if l := a.Links()[0]; l.State != wire.StateConnected || !l.CreatedAt.After(killed) {
				return errors.New(l.ID + " is " + l.State)
			}
		}
		return nil
	})
	t.Logf("after %s", time.Since(killed))
}
