package mesh

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestBackToThePrimary: the links do not notice.
func TestBackToThePrimary(t *testing.T) {
	backup := newSignalServer(t)
	m := newTestMesh(t)
	for i := range 2 {
		m.add(fmt.Sprintf("a%d", i+1), func(o *AgentOptions) {
			o.SignalingURLs = append(o.SignalingURLs, backup.url())
			o.Timing.Return = 100 * time.Millisecond
		})
	}
	m.connectAll()
	before := creations(m)
	m.signal.refuseNew(http.StatusServiceUnavailable)
	m.signal.drop()
	m.eventually("on the backup", onSignaling(m, backup.url()))
	m.signal.refuseNew(0)
	m.eventually("on the primary", onSignaling(m, m.signal.url()))
	for _, a := range m.agents {
		if s := a.Signaling(); !s.Primary || s.Failovers < 2 {
			t.Errorf("%s: %+v, want the primary after two changes", a.ID(), s)
		}
		if backup.has(a.ID()) {
			m.eventually("gone from the backup", func() error {
				if backup.has(a.ID()) {
					return errors.New(a.ID() + " is there")
				}
				return nil
			})
		}
	}
	if after := creations(m); after != before {
		t.Errorf("connections were replaced:\n%s\n%s", before, after)
	}
}

// TestBackToAPrimaryThatTakesOver: with a shared registry the old socket ends
// before the new registration is heard of. That is no loss.
func TestBackToAPrimaryThatTakesOver(t *testing.T) {
	backup := newSignalServer(t)
	m := newTestMesh(t)
	a := m.add("a1", func(o *AgentOptions) {
		o.SignalingURLs = append(o.SignalingURLs, backup.url())
		o.Timing.Return = 100 * time.Millisecond
	})
	m.signal.refuseNew(http.StatusServiceUnavailable)
	m.signal.drop()
	m.eventually("on the backup", onSignaling(m, backup.url()))
	m.signal.mu.Lock()
	m.signal.joins = func() {
		backup.drop()
		_ = poll(t.Context(), func() bool { return !a.Signaling().Registered })
	}
	m.signal.mu.Unlock()
	m.signal.refuseNew(0)
	m.eventually("on the primary", onSignaling(m, m.signal.url()))
	if n := m.events.count("signaling_connection_lost"); n != 1 {
		t.Errorf("signaling was lost %d times, want once: the change back loses nothing", n)
	}
}

func onSignaling(m *testMesh, url string) func() error {
	return func() error {
		for _, a := range m.agents {
			if s := a.Signaling(); !s.Registered || s.Server != url {
				return fmt.Errorf("%s: %+v", a.ID(), s)
			}
		}
		return nil
	}
}

// TestSplitRegistryIsNoticed: one agent fails over to a server that does not
// share its registry with the first.
func TestSplitRegistryIsNoticed(t *testing.T) {
	backup := newSignalServer(t)
	m := newTestMesh(t)
	m.add("a1", func(o *AgentOptions) {
		o.SignalingURLs = append(o.SignalingURLs, backup.url())
		o.Timing.Return = 100 * time.Millisecond
	})
	m.add("a2", nil)
	m.connectAll()
	m.signal.refuseNew(http.StatusServiceUnavailable)
	m.signal.drop()
	m.eventually("a1 says that a2 is missing", func() error {
		for _, e := range m.events.named("signaling_connection_failed") {
			if e.Metadata["server"] == backup.url() && strings.Contains(e.Metadata["error"].(string), "split: a2 unknown") {
				return nil
			}
		}
		return errors.New("no such event")
	})
	if s := m.agents[0].Signaling(); len(s.Missing) != 1 || s.Missing[0] != "a2" {
		t.Errorf("missing %v, want a2", s.Missing)
	}
	m.connectAll() // the link goes on
}
