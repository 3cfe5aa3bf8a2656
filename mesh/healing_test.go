package mesh

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestCase19HealingSchedule runs 35 minutes of a partition on a virtual clock.
func TestCase19HealingSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type at struct {
			Seconds float64
			Name    string
			Next    any
		}
		var got []at
		begin := time.Now()
		h := newHealing(DefaultTiming(), func(name string, m metadata) {
			got = append(got, at{time.Since(begin).Seconds(), name, m["next_retry_ms"]})
		})
		defer h.stop()
		h.detect(time.Now(), 30*time.Second)
		h.detect(time.Now(), 35*time.Second) // the next look
		end := time.NewTimer(2100 * time.Second)
		for running := true; running; {
			select {
			case <-h.timer.C:
				h.step(time.Now())
			case <-end.C:
				running = false
			}
		}
		const attempt, minutes17 = "mesh_healing_attempt", 17 * 60 * 1000.0
		want := []at{
			{0, "mesh_partition_detected", nil},
			{0, attempt, 2000.0}, {2, attempt, 4000.0}, {6, attempt, 8000.0}, {14, attempt, 16000.0},
			{30, attempt, 32000.0}, {62, attempt, 64000.0}, {126, attempt, 128000.0},
			{254, attempt, 256000.0}, {510, attempt, 512000.0}, {1022, attempt, minutes17},
			{1032, "mesh_healing_failed_final", nil}, // once
			{2042, attempt, minutes17},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		for _, e := range got {
			if e.Name == "mesh_healing_failed_final" {
				t.Logf("case 19, partition that does not end, virtual clock: detected %.0f s, given up after %.0f s (expected 0 s and 1032 s: ten attempts, then one every 17 min)", got[0].Seconds, e.Seconds)
			}
		}
		h.healed()
		h.healed()
		if last := got[len(got)-1]; last.Name != "mesh_partition_healed" || len(got) != len(want)+1 {
			t.Errorf("%d events, the last %v; want mesh_partition_healed once", len(got), last)
		}
	})
}

// TestHealingEndsAtAnyPoint: what was due does not come any more, and the next
// partition begins from the start.
func TestHealingEndsAtAnyPoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		h := newHealing(DefaultTiming(), func(name string, _ metadata) {
			if name == "mesh_healing_attempt" {
				attempts++
			}
		})
		defer h.stop()
		run := func(d time.Duration) {
			for end := time.NewTimer(d); ; {
				select {
				case <-h.timer.C:
					h.step(time.Now())
				case <-end.C:
					return
				}
			}
		}
		h.detect(time.Now(), 0)
		run(7 * time.Second)
		h.healed()
		run(time.Hour)
		if attempts != 3 {
			t.Errorf("%d attempts, want 3 and none after healing", attempts)
		}
		h.detect(time.Now(), 0)
		run(time.Second)
		h.now()
		run(time.Millisecond)
		if attempts != 5 {
			t.Errorf("%d attempts, want one at once and one that was asked for", attempts)
		}
	})
}

// TestRoomForNewLinks: only links without hope make room.
func TestRoomForNewLinks(t *testing.T) {
	m := newTestMesh(t)
	a := m.add("a1", func(o *AgentOptions) { o.Passive = true })
	for i := range maxLinks {
		if a.link(fmt.Sprintf("peer-%d", i)) == nil {
			t.Fatalf("no link %d", i)
		}
	}
	if a.link("one-more") != nil {
		t.Error("more links than there may be")
	}
	on(t, a, "peer-7", func(l *link) {
		for range hopelessAfter {
			l.backOff()
		}
	})
	if a.link("one-more") == nil || a.existing("peer-7") != nil || a.existing("peer-8") == nil {
		t.Error("the link without hope did not make room")
	}
}
