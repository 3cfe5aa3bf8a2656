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
