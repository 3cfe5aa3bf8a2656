package mesh

import (
	"testing"
	"time"
)

func TestDetourLooksForMostOfFive(t *testing.T) {
	var d detour
	for i, look := range []struct {
		rtt  time.Duration
		slow bool
	}{
		{600, false}, {100, false}, {600, false}, {600, true}, // three of four
		{500, true}, {100, false}, // the limit itself is not over it; two of five
		{600, true}, {600, true}, {100, false},
	} {
		if got := d.slow(look.rtt * time.Millisecond); got != look.slow {
			t.Errorf("look %d: slow %t, want %t", i, got, look.slow)
		}
	}
}

func TestDetourComparesAfterFiveLooks(t *testing.T) {
	d := detour{direct: []time.Duration{time.Hour}}
	for round := range 2 {
		for i := range detourLooks {
			direct, relay, known := d.compare(time.Duration(10*i), time.Duration(i))
			if known != (i == detourLooks-1) || known && (direct != 20 || relay != 2) {
				t.Errorf("round %d, look %d: %s and %s, known %t", round, i, direct, relay, known)
			}
		}
	}
}

// TestDetourNeedsAnswers: a relay that answers nothing has no round trip, which
// is less than any.
func TestDetourNeedsAnswers(t *testing.T) {
	m := newTestMesh(t)
	a := m.add("a1", nil)
	m.add("a2", nil)
	m.connectAll()
	on(t, a, "a2", func(l *link) {
		direct, relay := l.conn, &connection{pc: l.conn.pc}
		defer func() { l.spare = nil }()
		l.spare = relay
		for range 3 * detourLooks {
			direct.vigil.latest, direct.vigil.flat = time.Second, 0
			relay.vigil.latest, relay.vigil.flat = 0, 0
			l.seekFaster()
			relay.vigil.latest, relay.vigil.flat = time.Millisecond, 1<<20
			l.seekFaster()
		}
		if l.conn != direct || l.spare != relay {
			t.Errorf("moved: %t, given up: %t", l.conn != direct, l.spare == nil)
		}
	})
}
