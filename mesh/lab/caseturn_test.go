package lab

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/witnessclient"
)

// allocates is a TURN check by one allocation.
func allocates(username string, password secret.Secret) mesh.TURNCheck {
	return func(ctx context.Context, server wire.ServerURI) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
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

// useFirst has all links on the first TURN server, and no move under way: every
// link that is there was made after the latest question.
func (l *Lab) useFirst(t *testing.T) {
	t.Helper()
	var asked time.Time
	eventually(t, "all links on turn-1", func() error {
		if time.Since(asked) > 5*time.Second {
			asked = time.Now()
			l.fleet.SetTURNServers(l.fleet.TURNServers())
			l.fleet.ReconnectTURN()
		}
		for _, link := range l.Links() {
			if link.CreatedAt == nil || link.CreatedAt.Before(asked) {
				return fmt.Errorf("%s to %s has not moved", link.Local, link.Peer)
			}
		}
		return l.allOn(l.TURN[0].URI)
	})
	l.mustBeSteady(t, time.Second)
}

func TestCases1And2And10TURNServerIsLost(t *testing.T) {
	var r recorder
	l := startLab(t, Options{Agents: 3, Check: allocates, Agent: r.on(nil)})
	l.mustBeSteady(t, 200*time.Millisecond)
	for _, test := range []struct {
		number        int
		fault, expect string
	}{
		{1, faultKilled, "0.3 s of silence, then the next server; with default timing 5 to 7 s, then at once"},
		{2, faultSilent, "the same"},
		{10, "turn-flapping", "the same, and nobody goes back"},
	} {
		t.Run(test.fault, func(t *testing.T) {
			l.useFirst(t)
			broken := time.Now()
			inject(t, l, test.fault, "turn-1")
			detected := r.detected(t, broken, "turn_fallback_initiated", says("turn_server", l.TURN[0].URI.String()))
			eventually(t, "all links on turn-2", func() error { return l.allOn(l.TURN[1].URI) })
			report(t, test.number, test.fault, detected, l.back(t, broken), test.expect)
			l.mustBeSteady(t, 4*flapEvery)
			if err := l.allOn(l.TURN[1].URI); err != nil {
				t.Errorf("a link went back to the broken server: %v", err)
			}
			heal(t, l, test.fault, "turn-1")
		})
	}
	intact(t, l)
}

// Nobody who is there is cut off, and who comes new is served by another
// server, also without knowing beforehand.
func TestCases3And4And8TURNServerRefusesNewcomers(t *testing.T) {
	t.Parallel()
	var r recorder
	o := patientLab(&r)
	o.Agent = r.on(func(a *mesh.AgentOptions) {
		patient(a)
		a.Timing.TURNHold = 100 * time.Millisecond
	})
	l := startLab(t, o)
	l.useFirst(t)
	before := created(l, "agent-3")
	for _, test := range []struct {
		number      int
		fault, code string
	}{{3, faultDrains, "403"}, {4, faultSecret, "401"}, {8, faultQuota, "486"}, {8, faultPorts, "508"}} {
		t.Run(test.fault, func(t *testing.T) {
			broken := time.Now()
			inject(t, l, test.fault, "turn-1")
			detected := r.detected(t, broken, "turn_server_marked_unhealthy", says("turn_server", l.TURN[0].URI.String()), says("error", test.code))
			inject(t, l, "agent-gone", "agent-3")
			came := time.Now()
			heal(t, l, "agent-gone", "agent-3")
			l.mustBeSteady(t, 200*time.Millisecond)
			served := r.detected(t, came, "turn_connection_detected", of("agent-3"), says("turn_server", l.TURN[1].URI.String()))
			report(t, test.number, test.fault+" ("+test.code+")", detected, served,
				"three checks: 1.6 s, with default timing 33 s; who comes new is served by the next server at once")
			l.mustBeOnTwoServers(t)
			healed := time.Now()
			heal(t, l, test.fault, "turn-1")
			r.byAll(t, l, healed, "turn_server_health_check_success", says("turn_server", l.TURN[0].URI.String()))
		})
	}
	if after := created(l, "agent-3"); after != before {
		t.Errorf("links were touched:\n%s\n%s", before, after)
	}
}

// mustBeOnTwoServers: agent-3 on the second TURN server, the others on the first.
func (l *Lab) mustBeOnTwoServers(t *testing.T) {
	t.Helper()
	for _, link := range l.Links() {
		want := l.TURN[0].URI
		if link.Local == "agent-3" || link.Peer == "agent-3" {
			want = l.TURN[1].URI
		}
		if relay, known := link.Relay(); !known || relay != want.String() {
			t.Errorf("%s to %s is on %s, want %s", link.Local, link.Peer, relay, want)
		}
	}
}

// agent-1 and agent-2 have a direct path, and agent-3 is behind relays.
func direct(o *mesh.AgentOptions) {
	patient(o)
	if o.RelayOnly = o.ID == "agent-3"; o.RelayOnly {
		o.Timing = mesh.LabTiming()
	}
}

// The direct path goes on, messages for others wait, and a human is called.
func TestCase9AllTURNServersAreLost(t *testing.T) {
	t.Parallel()
	var r recorder
	l := startLab(t, Options{Agents: 3, Check: allocates, Agent: r.on(direct)})
	l.mustBeSteady(t, 200*time.Millisecond)
	before := created(l, "agent-3")
	broken := time.Now()
	for _, server := range []string{"turn-1", "turn-2"} {
		inject(t, l, faultKilled, server)
	}
	critical := func(e witnessclient.Event) bool { return e.Severity == "critical" }
	detected := r.byAll(t, l, broken, "all_turn_servers_unhealthy", critical)
	eventually(t, "the relayed links are down", func() error { return l.downOf("agent-3") })
	passed := l.counted("agent-1", "agent-2").Received
	eventually(t, "messages on the direct path", func() error {
		if more := l.counted("agent-1", "agent-2").Received - passed; more < 10 {
			return fmt.Errorf("%d messages", more)
		}
		return nil
	})
	waiting := l.counted("agent-1", "agent-3")
	if waiting.Sent-waiting.Received < 10 {
		t.Errorf("messages without a path: %+v, want them to wait", waiting)
	}
	for _, id := range l.Agents {
		if calls := r.after(broken, "all_turn_servers_unhealthy", of(id)); len(calls) != 1 {
			t.Errorf("%s called %d times, want once", id, len(calls))
		}
	}
	healed := time.Now()
	for _, server := range []string{"turn-1", "turn-2"} {
		heal(t, l, faultKilled, server)
	}
	l.mustBeSteady(t, 100*time.Millisecond)
	report(t, 9, "all TURN servers killed", detected, l.back(t, healed),
		"three checks that end after 1 s: 3.6 to 4.6 s, with default timing and a refused port 33 s; then the next try")
	eventually(t, "what waited arrives", func() error {
		if now := l.counted("agent-1", "agent-3"); now.Received < waiting.Sent {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
	if after := created(l, "agent-3"); after != before {
		t.Errorf("the direct link was touched:\n%s\n%s", before, after)
	}
	intact(t, l)
}

// downOf tells which link an agent does not find down.
func (l *Lab) downOf(agent string) error {
	for _, link := range l.Links() {
		if link.Local == agent && link.State == wire.StateConnected {
			return fmt.Errorf("%s is connected", link.ID)
		}
	}
	return nil
}
