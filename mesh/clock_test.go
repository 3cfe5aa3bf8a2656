package mesh

import (
	"context"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// jumped is the same moment as now after the machine's clock was set forward:
// another time of day, and no time in between.
func jumped(t *testing.T, now time.Time, by time.Duration) time.Time {
	t.Helper()
	later := now
	wall := (*uint64)(unsafe.Pointer(&later)) // seconds above 30 bits of nanoseconds
	*wall += uint64(by/time.Second) << 30
	if later.Sub(now) != 0 || later.UnixNano()-now.UnixNano() != int64(by) {
		t.Skip("this Go keeps its times in another way")
	}
	return later
}

// TestClockThatIsSetIsNoRoundTrip: nor is it jitter.
func TestClockThatIsSetIsNoRoundTrip(t *testing.T) {
	var a, b probe
	now := time.Now()
	beat := func() { // both ways, 10 ms each
		x := a.next(now)
		now = now.Add(10 * time.Millisecond)
		b.take(x, now)
		y := b.next(now)
		now = now.Add(10 * time.Millisecond)
		a.take(y, now)
	}
	beat()
	x := a.next(now)
	now = jumped(t, now.Add(10*time.Millisecond), time.Hour)
	b.take(x, now)
	y := b.next(now)
	now = now.Add(10 * time.Millisecond)
	a.take(y, now)
	if a.rtt != 20*time.Millisecond {
		t.Errorf("round trip %s over the jump, want 20ms", a.rtt)
	}
	beat()
	for name, p := range map[string]*probe{"a": &a, "b": &b} {
		var l wire.Link
		p.describe(&l, now)
		if name == "a" && *l.RTTMillis != 20 {
			t.Errorf("a: round trip %v ms, want 20", *l.RTTMillis)
		}
		if *l.JitterMillis > 1 {
			t.Errorf("%s: jitter %v ms of a path without any", name, *l.JitterMillis)
		}
	}
}

// TestCredentialsAgeWhileTheMachineSleeps: they expire at a time of day, so
// their renewal must not be kept by a clock that stands still meanwhile.
func TestCredentialsAgeWhileTheMachineSleeps(t *testing.T) {
	expires := time.Now().Add(time.Hour)
	source := func(context.Context) (string, secret.Secret, time.Time, error) {
		return "user", secret.New("password"), expires, nil
	}
	p := newPool(AgentOptions{Credentials: source}, nil, nil)
	if err := p.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(p.renew.String(), "m=") {
		t.Errorf("the renewal is at %s, by a clock that sleeps with the machine", p.renew)
	}
	if left := time.Until(p.renew); left < 29*time.Minute || left > 31*time.Minute {
		t.Errorf("renewal in %s", left)
	}
}
