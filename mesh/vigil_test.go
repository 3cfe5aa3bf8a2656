package mesh

import (
	"testing"
	"time"
)

// silence lets ticks pass without a sign of life and gives the time until the
// path counts as silent; 0: never within the limit.
func (v *vigil) silence(now time.Time, interval, every, limit, within time.Duration) time.Duration {
	for began := now; now.Sub(began) < within; {
		now = now.Add(interval)
		if v.observe(now, every) {
			v.quiet++
		}
		if v.silent(every, limit) {
			return now.Sub(began)
		}
	}
	return 0
}

// TestStallDoesNotBlindForLong: a process that stood still for hours (a machine
// that was suspended, or stopped in a debugger) finds out soon that the path is
// dead.
func TestStallDoesNotBlindForLong(t *testing.T) {
	const every, limit = time.Second, 5 * time.Second
	for _, stall := range []time.Duration{0, 10 * time.Second, time.Minute, 10 * time.Hour} {
		now := time.Now()
		var v vigil
		v.observe(now, every)
		now = now.Add(every + stall)
		if counted := v.observe(now, every); counted != (stall == 0) {
			t.Errorf("stall of %s: the tick after it counts: %t", stall, counted)
		}
		if took := v.silence(now, every, every, limit, time.Hour); took == 0 || took > 20*time.Second {
			t.Errorf("stall of %s: silence is noticed after %s", stall, took)
		}
	}
}

// TestMachineThatIsAlwaysLate notices silence later, and not never.
func TestMachineThatIsAlwaysLate(t *testing.T) {
	const every, limit = time.Second, 5 * time.Second
	var v vigil
	now := time.Now()
	v.observe(now, every)
	if took := v.silence(now, 2*every, every, limit, time.Hour); took == 0 || took > time.Minute {
		t.Errorf("silence is noticed after %s", took)
	}
}

// TestDirectionIsOnlyNamedWhenKnown: a path that ends both ways at once must
// not look like one that ends one way.
func TestDirectionIsOnlyNamedWhenKnown(t *testing.T) {
	const every, keepalive = time.Second, 2 * time.Second // of production
	for _, test := range []struct {
		flat, quiet int
		srtt        time.Duration
		want        string
	}{
		{7, 0, 0, "the peer does not hear us"},
		{7, 2, 0, "the peer does not hear us"},
		{7, 3, 0, "nothing received, and no check of ours answered"},
		{7, 5, 0, "nothing received, and no check of ours answered"}, // heard until a keepalive after the last answer
		{7, 7, 0, "nothing received, and no check of ours answered"},
		{7, 2, time.Second, "nothing received, and no check of ours answered"},
	} {
		v := vigil{flat: test.flat, quiet: test.quiet, srtt: test.srtt}
		if got := v.direction(every, keepalive); got != test.want {
			t.Errorf("flat for %d and quiet for %d: %s", test.flat, test.quiet, got)
		}
	}
}
