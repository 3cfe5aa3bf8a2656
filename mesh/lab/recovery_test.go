package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/witnessclient"
)

// recorder keeps the agents' events with their times.
type recorder struct {
	mu     sync.Mutex
	events []witnessclient.Event
}

// on has a lab's agents tell the recorder too.
func (r *recorder) on(edit func(*mesh.AgentOptions)) func(*mesh.AgentOptions) {
	return func(o *mesh.AgentOptions) {
		tell := o.Emit
		o.Emit = func(e witnessclient.Event) {
			tell(e)
			r.add(e)
		}
		if edit != nil {
			edit(o)
		}
	}
}

func (r *recorder) add(e witnessclient.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// after are the events of one name since a time, of which match holds.
func (r *recorder) after(since time.Time, name string, match func(witnessclient.Event) bool) []witnessclient.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []witnessclient.Event
	for _, e := range r.events {
		if e.Name == name && !e.Timestamp.Before(since) && (match == nil || match(e)) {
			found = append(found, e)
		}
	}
	return found
}

// detected waits for an event and gives the time until it.
func (r *recorder) detected(t *testing.T, since time.Time, name string, match func(witnessclient.Event) bool) time.Duration {
	t.Helper()
	var first time.Time
	eventually(t, name, func() error {
		found := r.after(since, name, match)
		if len(found) == 0 {
			return errors.New("no such event")
		}
		first = found[0].Timestamp
		return nil
	})
	return first.Sub(since)
}

// says matches events with this in their metadata.
func says(key, part string) func(witnessclient.Event) bool {
	return func(e witnessclient.Event) bool { return strings.Contains(fmt.Sprint(e.Metadata[key]), part) }
}

// report prints the measured times of a fault case.
func report(t *testing.T, fault string, detected, recovered time.Duration) {
	t.Logf("%s: detected after %s, recovered after %s", fault, detected.Round(time.Millisecond), recovered.Round(time.Millisecond))
}

// allocates is a TURN check by one allocation.
func allocates(username string, password secret.Secret) mesh.TURNCheck {
	return func(ctx context.Context, server wire.ServerURI) (time.Duration, error) {
		a, err := useUpQuota(ctx, server.Address(), credentials{username, password})
		switch {
		case err != nil:
			return 0, err
		case a == nil:
			return 0, errors.New("486")
		}
		return time.Millisecond, a.Close()
	}
}

// created are the connections that the links have.
func created(l *Lab) string {
	var all strings.Builder
	for _, link := range l.Links() {
		fmt.Fprintln(&all, link.ID, link.CreatedAt)
	}
	return all.String()
}

// intact: what was sent arrived once, in order and whole.
func intact(t *testing.T, l *Lab) {
	t.Helper()
	eventually(t, "everything sent arrives", func() error {
		if c := l.Delivery(); c.Lost+c.Duplicated+c.Reordered+c.Corrupt > 0 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
}

// patientLab has links that a busy machine does not break, so that a test can
// tell that nothing touched them.
func patientLab(r *recorder) Options {
	return Options{Agents: 3, Check: allocates, Agent: r.on(func(o *mesh.AgentOptions) {
		o.Timing.Disconnected, o.Timing.Failed = 15*time.Second, 30*time.Second
	})}
}

// TestTURNServerIsLost: cases 1 and 2.
func TestTURNServerIsLost(t *testing.T) {
	var r recorder
	l := startLab(t, Options{Agents: 3, Check: allocates, Agent: r.on(nil)})
	l.mustBeSteady(t, 200*time.Millisecond)
	for _, fault := range []string{"turn-killed", "turn-silent", "turn-flapping"} {
		t.Run(fault, func(t *testing.T) {
			eventually(t, "all links on turn-1", func() error {
				l.fleet.SetTURNServers(l.fleet.TURNServers())
				l.fleet.ReconnectTURN()
				return l.allOn(l.TURN[0].URI)
			})
			l.mustBeSteady(t, 200*time.Millisecond)
			broken := time.Now()
			inject(t, l, fault, "turn-1")
			detected := r.detected(t, broken, "turn_fallback_initiated", says("turn_server", l.TURN[0].URI.String()))
			eventually(t, "all links on turn-2", func() error { return l.allOn(l.TURN[1].URI) })
			report(t, fault, detected, time.Since(broken))
			l.mustBeSteady(t, 2*flapEvery)
			if err := l.allOn(l.TURN[1].URI); err != nil {
				t.Errorf("a link went back to the broken server: %v", err)
			}
			heal(t, l, fault, "turn-1")
		})
	}
	intact(t, l)
}

// TestTURNServerRefusesNewcomers: cases 3, 4 and 8. Nobody who is there is cut
// off, and nobody new comes.
func TestTURNServerRefusesNewcomers(t *testing.T) {
	t.Parallel()
	var r recorder
	l := startLab(t, patientLab(&r))
	l.mustBeSteady(t, 200*time.Millisecond)
	before := created(l)
	for _, fault := range []string{faultRefuses, faultSecret, faultQuota, faultPorts} {
		t.Run(fault, func(t *testing.T) {
			broken := time.Now()
			inject(t, l, fault, "turn-1")
			detected := r.detected(t, broken, "turn_server_marked_unhealthy", says("turn_server", l.TURN[0].URI.String()))
			l.mustBeSteady(t, 200*time.Millisecond)
			healed := time.Now()
			heal(t, l, fault, "turn-1")
			back := r.detected(t, healed, "turn_server_health_check_success", says("turn_server", l.TURN[0].URI.String()))
			report(t, fault, detected, back)
		})
	}
	if after := created(l); after != before {
		t.Errorf("links were touched:\n%s\n%s", before, after)
	}
}

// TestAllTURNServersAreLost: case 9. Messages wait, and a human is called.
func TestAllTURNServersAreLost(t *testing.T) {
	t.Parallel()
	var r recorder
	l := startLab(t, Options{Agents: 2, Check: allocates, Agent: r.on(nil)})
	l.mustBeSteady(t, 200*time.Millisecond)
	broken := time.Now()
	for _, server := range []string{"turn-1", "turn-2"} {
		inject(t, l, "turn-killed", server)
	}
	detected := r.detected(t, broken, "all_turn_servers_unhealthy", func(e witnessclient.Event) bool { return e.Severity == "critical" })
	healed := time.Now()
	for _, server := range []string{"turn-1", "turn-2"} {
		heal(t, l, "turn-killed", server)
	}
	l.mustBeSteady(t, 100*time.Millisecond)
	report(t, "all TURN servers killed", detected, time.Since(healed))
	intact(t, l)
}

// TestSignalingIsLost: cases 11, 12 and 14. Links never notice.
func TestSignalingIsLost(t *testing.T) {
	t.Parallel()
	var r recorder
	l := startLab(t, patientLab(&r))
	l.mustBeSteady(t, 200*time.Millisecond)
	before := created(l)
	for _, test := range []struct{ fault, next string }{
		{"signaling-down", l.Signaling[1].URL}, {faultHangs, l.Signaling[1].URL},
	} {
		t.Run(test.fault, func(t *testing.T) {
			broken := time.Now()
			inject(t, l, test.fault, "signaling-1")
			detected := r.detected(t, broken, "signaling_connection_lost", nil)
			eventually(t, "all registered with signaling-2", func() error { return r.registered(l, broken, test.next) })
			report(t, test.fault, detected, time.Since(broken))
			healed := time.Now()
			heal(t, l, test.fault, "signaling-1")
			eventually(t, "all back at signaling-1", func() error { return r.registered(l, healed, l.Signaling[0].URL) })
		})
	}
	t.Run("signaling-evicts", func(t *testing.T) { // case 15
		broken := time.Now()
		inject(t, l, "signaling-evicts", "signaling-1")
		eventually(t, "all registered again", func() error {
			if n := len(l.registered()); n != len(l.Agents) {
				return fmt.Errorf("%d agents", n)
			}
			return nil
		})
		report(t, "signaling-evicts", 0, time.Since(broken))
		heal(t, l, "signaling-evicts", "signaling-1")
	})
	t.Run("all down", func(t *testing.T) {
		broken := time.Now()
		for _, s := range l.Signaling {
			inject(t, l, "signaling-down", s.Name)
		}
		detected := r.detected(t, broken, "signaling_connection_lost", nil)
		l.mustBeSteady(t, 500*time.Millisecond)
		healed := time.Now()
		for _, s := range l.Signaling {
			heal(t, l, "signaling-down", s.Name)
		}
		eventually(t, "all registered", func() error {
			if n := len(l.registered()); n != len(l.Agents) {
				return fmt.Errorf("%d agents", n)
			}
			return nil
		})
		report(t, "all signaling down", detected, time.Since(healed))
		if offers := r.after(broken, "webrtc_offer_created", nil); len(offers) > 0 {
			t.Errorf("%d offers were made", len(offers))
		}
	})
	if after := created(l); after != before {
		t.Errorf("links were touched:\n%s\n%s", before, after)
	}
	intact(t, l)
}

// registered tells which agent is not with a signaling server since a time.
func (r *recorder) registered(l *Lab, since time.Time, server string) error {
	for _, id := range l.Agents {
		found := r.after(since, "signaling_connected", func(e witnessclient.Event) bool { return e.AgentID == id })
		if len(found) == 0 || found[len(found)-1].Metadata["server"] != server {
			return fmt.Errorf("%s is not: %v", id, found)
		}
	}
	return nil
}

// TestSignalingRefuses: case 13, no retry and no other server.
func TestSignalingRefusesAnAgent(t *testing.T) {
	var r recorder
	l := startLab(t, Options{Agents: 2, Agent: r.on(nil)})
	inject(t, l, "agent-gone", "agent-2")
	inject(t, l, fault401, "signaling-1")
	broken := time.Now()
	err := l.Heal(t.Context(), Fault{"agent-gone", "agent-2"})
	if err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("the agent starts: %v, want 401", err)
	}
	if n := len(r.after(broken, "signaling_connection_failed", nil)); n != 1 {
		t.Errorf("%d attempts, want one", n)
	}
	report(t, fault401, time.Since(broken), 0)
}
