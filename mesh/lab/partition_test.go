package lab

import (
	"fmt"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// scaled is production's timing at a tenth, for partitions.
func scaled(o *mesh.AgentOptions) {
	t := mesh.DefaultTiming().ScalePartition(0.1)
	t.Disconnected, t.Failed, t.Keepalive = 500*time.Millisecond, 2500*time.Millisecond, 200*time.Millisecond
	t.Heartbeat, t.Connect, t.Backoff = 100*time.Millisecond, time.Second, 100*time.Millisecond
	t.OfferSilence = 200 * time.Millisecond
	o.Timing = t
}

// allDown: nothing passes between agents.
func (l *Lab) allDown() error {
	for _, link := range l.Links() {
		if link.State == wire.StateConnected {
			return fmt.Errorf("%s is connected", link.ID)
		}
	}
	return nil
}

// partition cuts all agents off from each other for d and gives the time from
// the end of the cut until messages pass on all directions.
func partition(t testing.TB, l *Lab, d time.Duration) (healing time.Duration) {
	t.Helper()
	cut := Fault{"network-cut", "*<>*"}
	if err := l.Inject(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
	if err := l.Heal(t.Context(), cut); err != nil {
		t.Fatal(err)
	}
	return l.back(t, time.Now())
}

// TestCases17And18Partitions: at a tenth of their time, and one that is longer
// than what counts as one.
func TestCases17And18Partitions(t *testing.T) {
	var r recorder
	l := startLab(t, Options{Agents: 3, Agent: r.on(scaled)})
	l.mustBeSteady(t, 200*time.Millisecond)
	down := says("state", wire.StateDisconnected)
	for _, test := range []struct {
		number int
		lasts  time.Duration
		expect string
	}{
		{17, time.Second, "0.5 to 0.6 s, then at most 1.8 s"},
		{18, 2800 * time.Millisecond, "0.5 s, then at most 1 s"},
	} {
		began := time.Now()
		healing := partition(t, l, test.lasts)
		report(t, test.number, fmt.Sprintf("partition of %s at a tenth", 10*test.lasts), r.byAll(t, l, began, "connection_state_changed", down), healing, test.expect)
	}
	t.Run("longer than what counts as one", func(t *testing.T) {
		began := time.Now()
		healing := partition(t, l, 4500*time.Millisecond)
		detected := r.byAll(t, l, began, "mesh_partition_detected")
		r.detected(t, began, "mesh_healing_attempt")
		r.byAll(t, l, began, "mesh_partition_healed")
		report(t, 18, "partition of 45s at a tenth", detected, healing, "3 to 3.5 s: silence of 30 s, looked for every 5; then at most 1 s")
	})
	if wrong := r.after(time.Time{}, "connection_state_changed", says("reason", "does not hear us")); len(wrong) > 0 {
		t.Errorf("%d links were taken for deaf one way, %+v", len(wrong), wrong[0])
	}
	intact(t, l)
}

// TestCase19PartitionThatDoesNotEnd: the whole schedule with 3 ms for a second.
func TestCase19PartitionThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	var r recorder
	l := startLab(t, Options{Agents: 2, Agent: r.on(func(o *mesh.AgentOptions) {
		scaled(o)
		o.Timing.HealingUnit, o.Timing.HealingAttempt = 3*time.Millisecond, 30*time.Millisecond
	})})
	l.mustBeSteady(t, 200*time.Millisecond)
	began := time.Now()
	inject(t, l, "network-cut", "*<>*")
	final := r.byAll(t, l, began, "mesh_healing_failed_final")
	for _, id := range l.Agents {
		attempts := r.after(began, "mesh_healing_attempt", of(id))
		if len(attempts) < 10 || attempts[9].Metadata["attempt"] != 10 {
			t.Errorf("%s: %d attempts before the end", id, len(attempts))
		}
	}
	eventually(t, "the slow retry", func() error {
		if n := len(r.after(began, "mesh_healing_attempt", of("agent-1"))); n < 11 {
			return fmt.Errorf("%d attempts", n)
		}
		return nil
	})
	for _, id := range l.Agents {
		if n := len(r.after(began, "mesh_healing_failed_final", of(id))); n != 1 {
			t.Errorf("%s: %d calls for a human, want one", id, n)
		}
	}
	l.mustHaveAudited(t, began, "mesh_partition_detected", "mesh_healing_attempt", "mesh_healing_failed_final")
	healed := time.Now()
	heal(t, l, "network-cut", "*<>*")
	for _, a := range l.fleet.agents() {
		if n := a.Heal(); n > 1 {
			t.Errorf("%d links are to be healed, of one", n)
		}
	}
	l.mustBeSteady(t, 100*time.Millisecond)
	report(t, 19, fmt.Sprintf("partition without end: given up after %s", seconds(final)),
		r.byAll(t, l, began, "mesh_partition_detected"), l.back(t, healed),
		"3 to 3.5 s; given up 1032 of 3 ms later; at once when an operator asks")
	l.mustHaveAudited(t, healed, "mesh_healing_manual_triggered", "mesh_partition_healed")
	intact(t, l)
}

// mustHaveAudited: the witness has these events.
func (l *Lab) mustHaveAudited(t *testing.T, since time.Time, names ...string) {
	t.Helper()
	missing := map[string]bool{}
	for _, name := range names {
		missing[name] = true
	}
	for _, e := range l.eventsSince(t, since.Add(-time.Millisecond)) { // which is what times are rounded to
		delete(missing, e.Name)
	}
	for name := range missing {
		t.Errorf("the witness has no %s", name)
	}
}

// TestCase20OneWayLoss: agent-1 hears everything and nobody hears it. Both ends
// find out by themselves, and say which way nothing passes.
func TestCase20OneWayLoss(t *testing.T) {
	var r recorder
	l := startLab(t, Options{Agents: 2, Agent: r.on(func(o *mesh.AgentOptions) {
		if o.ID == "agent-1" { // whose offer would tell agent-2
			o.Timing.Disconnected = time.Second
		}
		o.Timing.OfferSilence = patience // and agent-2's would tell agent-1
	})})
	l.mustBeSteady(t, 200*time.Millisecond)
	began := time.Now()
	inject(t, l, "network-cut", "agent-1>agent-2")
	down := says("state", wire.StateDisconnected)
	unheard := r.detected(t, began, "connection_state_changed", of("agent-1"), down, says("reason", "the peer does not hear us"))
	hears := r.detected(t, began, "connection_state_changed", of("agent-2"), down, says("reason", "nothing received"))
	eventually(t, "both ends down", l.allDown)
	if ways, _ := l.fleet.Paths("agent-1", "agent-2"); ways.Down != "the peer does not hear us" || ways.DownMillis <= 0 || ways.State == wire.StateConnected {
		t.Errorf("agent-1 says it is %s, down for %v ms: %s", ways.State, ways.DownMillis, ways.Down)
	}
	healed := time.Now()
	heal(t, l, "network-cut", "agent-1>agent-2")
	l.mustBeSteady(t, 100*time.Millisecond)
	back := l.back(t, healed)
	report(t, 20, "one-way loss, at the end that hears nothing", hears, back, "0.3 s of silence; with default timing 5 to 6 s")
	report(t, 20, "one-way loss, at the end that nobody hears", unheard, back, "1 s without an answer; with default timing 6 to 8 s")
	intact(t, l)
}
