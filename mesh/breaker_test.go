package mesh

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// startPool runs a pool of turn:a and turn:b on the virtual clock of a test.
func startPool(t *testing.T, o AgentOptions) *pool {
	if o.TURNServers == nil {
		o.TURNServers = parseList(t, "turn:a,turn:b")
	}
	p := newPool(o, func(string, string, metadata) {}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return p
}

// wait lets virtual time pass.
func wait(t *testing.T, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
	synctest.Wait()
}

func chosen(t *testing.T, p *pool) string {
	t.Helper()
	server, ok := p.choose(exclusions{})
	if !ok {
		t.Fatal("choose finds none")
	}
	return server
}

func TestFirstFailureIsCheckedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var at []float64
		startPool(t, AgentOptions{TURNServers: parseList(t, "turn:a"), Check: func(context.Context, wire.ServerURI) (time.Duration, error) {
			at = append(at, time.Since(begin).Seconds())
			if n := len(at); n == 2 {
				return 0, errDown
			}
			return time.Millisecond, nil
		}})
		wait(t, 65*time.Second)
		if diff := cmp.Diff([]float64{0, 30, 31.5, 61.5}, at); diff != "" {
			t.Errorf("checked at (-want +got):\n%s", diff)
		}
	})
}

// TestCase10FlappingServerIsHeldBack: ten seconds on, ten seconds off, and
// nobody moves back and forth.
func TestCase10FlappingServerIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var first, last time.Time // failures
		var stable atomic.Bool
		p := startPool(t, AgentOptions{
			Timing: Timing{TURNHealth: time.Second, TURNAgain: time.Second},
			Check: func(_ context.Context, u wire.ServerURI) (time.Duration, error) {
				if u.String() != "turn:a" || stable.Load() || int(time.Since(begin).Seconds())/10%2 == 0 {
					return time.Millisecond, nil
				}
				if last = time.Now(); first.IsZero() {
					first = last
				}
				return 0, errDown
			},
		})
		for chosen(t, p) == "turn:a" && time.Since(begin) < time.Hour {
			wait(t, 100*time.Millisecond)
		}
		left := time.Now()
		wait(t, 5*time.Second)
		for range 300 {
			wait(t, time.Second)
			if now := chosen(t, p); now != "turn:b" {
				t.Fatalf("choose = %s %s after a began to come and go", now, time.Since(first))
			}
		}
		stable.Store(true)
		for p.health()[0].State != TURNHealthy && time.Since(left) < time.Hour {
			wait(t, 100*time.Millisecond)
		}
		held := time.Since(last).Round(time.Second)
		if held != time.Minute {
			t.Errorf("a is %s %s after the last failure, want a hold of a minute", p.health()[0].State, held)
		}
		t.Logf("case 10, turn-flapping 10 s on, 10 s off, virtual clock: detected %.3f s, recovered %.3f s (expected at the first failed check, then a hold of 60 s after the last, and no change of server)",
			left.Sub(first).Seconds(), held.Seconds())
	})
}

func TestHeldBackServerIsBetterThanNone(t *testing.T) {
	p := newPool(AgentOptions{TURNServers: parseList(t, "turn:a,turn:b")}, func(string, string, metadata) {}, func() {})
	for range breakerOpens {
		p.failed(p.servers[0], errDown)
		p.failed(p.servers[1], errDown)
	}
	p.succeeded(p.servers[1], time.Now(), time.Millisecond)
	if p.servers[1].healthy() {
		t.Error("b is healthy at once")
	}
	if got := chosen(t, p); got != "turn:b" {
		t.Errorf("choose = %s, want b: it answers", got)
	}
}

func TestChoiceStaysWhileNoOtherIsClearlyFaster(t *testing.T) {
	p := newPool(AgentOptions{TURNServers: parseList(t, "turn:a,turn:b")}, nil, nil)
	a, b := p.servers[0], p.servers[1]
	for _, test := range []struct {
		a, b time.Duration
		want string
	}{
		{100, 60, "turn:b"}, {60, 70, "turn:b"}, {60, 80, "turn:b"}, {50, 80, "turn:a"}, {70, 60, "turn:a"}, {70, 50, "turn:a"}, {80, 50, "turn:b"},
	} {
		a.latency, b.latency = test.a*time.Millisecond, test.b*time.Millisecond
		if got := chosen(t, p); got != test.want {
			t.Errorf("choose = %s at %s and %s, want %s", got, a.latency, b.latency, test.want)
		}
	}
}

func TestTwoStalledLinksCountAsAFailedCheck(t *testing.T) {
	p := newPool(AgentOptions{TURNServers: parseList(t, "turn:a,turn:b")}, nil, nil)
	p.suspect("turn:a", "peer-1")
	p.suspect("turn:a", "peer-1")
	if got := chosen(t, p); got != "turn:a" {
		t.Errorf("choose = %s after one link stalled, want a", got)
	}
	p.suspect("turn:a", "peer-2")
	if got := chosen(t, p); got != "turn:b" {
		t.Errorf("choose = %s after two links stalled, want b", got)
	}
}

func TestDrainedServerIsNotChosen(t *testing.T) {
	p := newPool(AgentOptions{TURNServers: parseList(t, "turn:a,turn:b")}, nil, nil)
	p.drain("turn:a", true)
	if got, planned := chosen(t, p), p.planned(); got != "turn:b" || planned != "turn:b" {
		t.Errorf("choose = %s, planned = %s, want b", got, planned)
	}
	p.drain("turn:a", false)
	if got, planned := chosen(t, p), p.planned(); got != "turn:a" || planned != "turn:a" {
		t.Errorf("choose = %s, planned = %s, want a again", got, planned)
	}
}

func TestCredentialsAreRenewedAtHalfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var mu sync.Mutex
		var at []float64
		var silent atomic.Bool
		source := func(context.Context) (string, secret.Secret, time.Time, error) {
			mu.Lock()
			at = append(at, time.Since(begin).Seconds())
			mu.Unlock()
			if silent.Load() {
				return "", secret.Secret{}, time.Time{}, errDown
			}
			return "user", secret.New("password"), time.Now().Add(10 * time.Minute), nil
		}
		p := startPool(t, AgentOptions{Credentials: source})
		wait(t, 11*time.Minute)
		mu.Lock()
		if diff := cmp.Diff([]float64{0, 300, 600}, at); diff != "" {
			t.Errorf("asked at (-want +got):\n%s", diff)
		}
		mu.Unlock()
		silent.Store(true)
		wait(t, 10*time.Minute)
		if user, password := p.credentials(); user != "user" || password.Empty() {
			t.Error("the old credentials are gone although there are no new ones")
		}
	})
}

func TestSpareSTUNServers(t *testing.T) {
	down := map[string]bool{}
	p := newPool(AgentOptions{
		TURNServers: parseList(t, "stun:s1,stun:s2,turn:a"), STUNSpare: parseList(t, "stun:spare"),
		STUNCheck: func(_ context.Context, u wire.ServerURI) error {
			if down[u.String()] {
				return errDown
			}
			return nil
		},
	}, func(string, string, metadata) {}, nil)
	for _, test := range []struct {
		down []string
		want string
	}{{nil, "stun:s1,stun:s2"}, {[]string{"stun:s1"}, "stun:s2"}, {[]string{"stun:s1", "stun:s2"}, "stun:spare"}, {nil, "stun:s1,stun:s2"}} {
		clear(down)
		for _, name := range test.down {
			down[name] = true
		}
		p.checkAll(t.Context())
		if diff := cmp.Diff(parseList(t, test.want), p.stunServers()); diff != "" {
			t.Errorf("with %v down (-want +got):\n%s", test.down, diff)
		}
	}
}
