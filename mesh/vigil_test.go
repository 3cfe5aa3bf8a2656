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
