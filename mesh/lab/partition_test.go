package lab

import (
	"fmt"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/witnessclient"
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
	healed := time.Now()
	if err := l.Steady(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	var last time.Time
	for _, o := range l.Outages(healed) {
		if o.FirstAfter.After(last) {
			last = o.FirstAfter
		}
	}
	return max(0, last.Sub(healed))
}

// TestPartitions: cases 17 and 18 at a tenth of their time, and what is to be
// found out by waiting for the schedule: case 19.
func TestPartitions(t *testing.T) {
	var r recorder
	l := startLab(t, Options{Agents: 3, Agent: r.on(scaled)})
	l.mustBeSteady(t, 200*time.Millisecond)
	for _, d := range []time.Duration{time.Second, 2800 * time.Millisecond} {
		began := time.Now()
		healing := partition(t, l, d)
		detected := r.detected(t, began, "connection_state_changed", says("state", wire.StateDisconnected))
		report(t, fmt.Sprintf("partition of %s", d), detected, healing)
	}
	t.Run("longer than what counts as one", func(t *testing.T) {
		began := time.Now()
		healing := partition(t, l, 4500*time.Millisecond)
		detected := r.detected(t, began, "mesh_partition_detected", nil)
		r.detected(t, began, "mesh_healing_attempt", nil)
		r.detected(t, began, "mesh_partition_healed", nil)
		report(t, "partition of 4.5 s", detected, healing)
	})
	intact(t, l)
}

// TestPartitionThatDoesNotEnd: case 19, the whole schedule with milliseconds
// for seconds.
func TestPartitionThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	var r recorder
	l := startLab(t, Options{Agents: 2, Agent: r.on(func(o *mesh.AgentOptions) {
		scaled(o)
		o.Timing.HealingUnit, o.Timing.HealingAttempt = 3*time.Millisecond, 30*time.Millisecond
	})})
	l.mustBeSteady(t, 200*time.Millisecond)
	began := time.Now()
	inject(t, l, "network-cut", "*<>*")
	from := func(id string) func(witnessclient.Event) bool {
		return func(e witnessclient.Event) bool { return e.AgentID == id }
	}
	for _, id := range l.Agents {
		final := r.detected(t, began, "mesh_healing_failed_final", from(id))
		attempts := r.after(began, "mesh_healing_attempt", from(id))
		if len(attempts) < 10 || attempts[9].Metadata["attempt"] != 10 {
			t.Errorf("%s: %d attempts before the end", id, len(attempts))
		}
		report(t, "partition without end, "+id, r.detected(t, began, "mesh_partition_detected", from(id)), final)
	}
	eventually(t, "the slow retry", func() error {
		if n := len(r.after(began, "mesh_healing_attempt", from("agent-1"))); n < 11 {
			return fmt.Errorf("%d attempts", n)
		}
		return nil
	})
	for _, id := range l.Agents {
		if n := len(r.after(began, "mesh_healing_failed_final", from(id))); n != 1 {
			t.Errorf("%s: %d calls for a human, want one", id, n)
		}
	}
	heal(t, l, "network-cut", "*<>*")
	for _, a := range l.fleet.agents() {
		if n := a.Heal(); n > 1 {
			t.Errorf("%d links are to be healed, of one", n)
		}
	}
	l.mustBeSteady(t, 100*time.Millisecond)
	intact(t, l)
}

// TestOneWayLoss: case 20. agent-1 hears everything and nobody hears it.
func TestOneWayLoss(t *testing.T) {
	var r recorder
	l := startLab(t, Options{Agents: 2, Agent: r.on(nil)})
	l.mustBeSteady(t, 200*time.Millisecond)
	began := time.Now()
	inject(t, l, "network-cut", "agent-1>agent-2")
	down := says("state", wire.StateDisconnected)
	for _, id := range l.Agents {
		detected := r.detected(t, began, "connection_state_changed", func(e witnessclient.Event) bool { return e.AgentID == id && down(e) })
		report(t, "one-way loss, at "+id, detected, 0)
	}
	eventually(t, "both ends down", l.allDown)
	healed := time.Now()
	heal(t, l, "network-cut", "agent-1>agent-2")
	l.mustBeSteady(t, 100*time.Millisecond)
	report(t, "one-way loss", 0, time.Since(healed))
	intact(t, l)
}
