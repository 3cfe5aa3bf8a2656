package probes_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"github.com/pion/turn/v5"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// moments are those in the life of a probe at which its caller may lose
// patience.
var moments = []struct {
	name    string
	is      func(*stun.Message) bool
	swallow bool
}{
	{"Binding", func(m *stun.Message) bool { return m.Type.Method == stun.MethodBinding }, true},
	{"anonymous Allocate", func(m *stun.Message) bool { return isAllocate(m) && !isSigned(m) }, false},
	{"anonymous Allocate is lost", func(m *stun.Message) bool { return isAllocate(m) && !isSigned(m) }, true},
	{"Allocate", func(m *stun.Message) bool { return isAllocate(m) && isSigned(m) }, false},
	{"Allocate is lost", func(m *stun.Message) bool { return isAllocate(m) && isSigned(m) }, true},
	{"ChannelBind is lost", func(m *stun.Message) bool { return m.Type.Method == stun.MethodChannelBind }, true},
}

// TestInterruptedRunLeavesNoAllocation cancels at each moment. A schedule of
// hours proves that nothing else ends the probe.
func TestInterruptedRunLeavesNoAllocation(t *testing.T) {
	patient := probes.Schedule{First: time.Hour, Sends: 2, GiveUp: 3 * time.Hour}
	for _, moment := range moments {
		t.Run(moment.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			target, server := pion(t, func(m *stun.Message, _ func([]byte)) bool {
				if !moment.is(m) {
					return false
				}
				cancel()
				return moment.swallow
			}, nil)
			r := probes.TURN{Target: target, Credentials: goodLogin(), Schedule: patient}.Run(ctx)
			wantReport(t, r, probes.CodeTURNInterrupted)
			if n := server.AllocationCount(); n != 0 {
				t.Errorf("%d allocations are left", n)
			}
			if summary := r.Findings[0].Summary; !strings.Contains(summary, "127.0.0.1:") || !strings.Contains(summary, "after") {
				t.Errorf("summary %q does not say where and after how long", summary)
			}
		})
	}
}

// TestInterruptedRunDoesNotBlameTheRelay cancels when data has come out of the
// relay and before any comes back: the far end has sent thrice by then.
func TestInterruptedRunDoesNotBlameTheRelay(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var came atomic.Int32
	target, server := pion(t, nil, func(c *turn.ServerConfig) {
		relay(c, &filteredRelay{
			in: func(net.IP) bool {
				if came.Add(1) == 3 {
					cancel()
				}
				return true
			},
			out: func(net.IP) bool { return false },
		})
	})
	r := probes.TURN{Target: target, Credentials: goodLogin()}.Run(ctx)
	wantReport(t, r, probes.CodeTURNInterrupted)
	if n := server.AllocationCount(); n != 0 {
		t.Errorf("%d allocations are left", n)
	}
}

// TestInterruptedRunReleasesOnCoturn lets a user with a quota of one show
// whether an interrupted probe left something.
func TestInterruptedRunReleasesOnCoturn(t *testing.T) {
	for _, moment := range moments[3:] {
		t.Run(moment.name, func(t *testing.T) {
			t.Parallel()
			target := coturn(t, userFlags("--user-quota", "1")...)
			ctx, cancel := context.WithCancel(t.Context())
			front := forward(t, target, func(m *stun.Message) bool {
				if !moment.is(m) {
					return false
				}
				cancel()
				return moment.swallow
			})
			r := probes.TURN{Target: front, Credentials: goodLogin()}.Run(ctx)
			wantReport(t, r, probes.CodeTURNInterrupted)
			var err error
			free := poll(t, 10*time.Second, func() bool { // coturn frees the quota a second after the release
				_, err = probes.TURN{Target: target, Credentials: goodLogin()}.Check(t.Context())
				return err == nil
			})
			if !free {
				t.Errorf("the allocation is still there: %v", err)
			}
		})
	}
}

// forward passes datagrams between clients and a server, as a middlebox with
// one port per client does. tap sees the clients' requests and may swallow
// them.
func forward(t *testing.T, target wire.ServerURI, tap func(*stun.Message) (swallow bool)) wire.ServerURI {
	t.Helper()
	front, server := listen(t), netip.MustParseAddrPort(target.Address())
	go func() {
		upstreams := map[netip.AddrPort]*net.UDPConn{}
		buffer := make([]byte, 4096)
		for {
			n, from, err := front.ReadFromUDPAddrPort(buffer)
			if err != nil {
				for _, up := range upstreams {
					_ = up.Close()
				}
				return
			}
			up := upstreams[from]
			if up == nil {
				if up, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server)); err != nil {
					return
				}
				upstreams[from] = up
				go func() {
					b := make([]byte, 4096)
					for {
						n, err := up.Read(b)
						if err != nil {
							return
						}
						_, _ = front.WriteToUDPAddrPort(b[:n], from)
					}
				}()
			}
			if m := stun.New(); stun.Decode(buffer[:n], m) != nil || !tap(m) {
				_, _ = up.Write(buffer[:n])
			}
		}
	}()
	return uri(addrPort(front.LocalAddr()))
}

func TestRunReleasesWhatAnOpenRelayGrants(t *testing.T) {
	var released sync.WaitGroup
	released.Add(1)
	target := scripted(t, func(m *stun.Message, from netip.AddrPort) [][]byte {
		switch m.Type.Method {
		case stun.MethodAllocate:
			return [][]byte{response(m, stun.ClassSuccessResponse, relayedAddress(m))}
		case stun.MethodRefresh:
			if life, err := m.Get(stun.AttrLifetime); err == nil && string(life) == "\x00\x00\x00\x00" {
				released.Done()
			}
			return [][]byte{response(m, stun.ClassSuccessResponse)}
		}
		return nil
	})
	r := probes.TURN{Target: target}.Run(t.Context())
	wantReport(t, r, probes.CodeTURNOpen)
	released.Wait() // a probe that does not release hangs here
}

// TestInterruptedRunReleasesWhatItMayHold has a server that may have granted an
// allocation, and whose answer never came.
func TestInterruptedRunReleasesWhatItMayHold(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var released sync.WaitGroup
	released.Add(1)
	target := scripted(t, func(m *stun.Message, _ netip.AddrPort) [][]byte {
		switch m.Type.Method {
		case stun.MethodAllocate:
			cancel()
		case stun.MethodRefresh:
			released.Done()
		}
		return nil
	})
	wantReport(t, probes.TURN{Target: target}.Run(ctx), probes.CodeTURNInterrupted)
	released.Wait() // a probe that does not release hangs here
}

func TestRunSaysWhenTheReleaseIsNotConfirmed(t *testing.T) {
	target, _ := pion(t, func(m *stun.Message, _ func([]byte)) bool { return m.Type.Method == stun.MethodRefresh }, nil)
	r := probes.TURN{Target: target, Credentials: goodLogin()}.Run(t.Context())
	if len(r.Findings) != 2 || r.Findings[0].Code != probes.CodeTURNOK || r.Findings[1].Code != probes.CodeReleaseSilent {
		t.Fatalf("findings %+v, want %s and %s", r.Findings, probes.CodeTURNOK, probes.CodeReleaseSilent)
	}
	if problem, found := r.Problem(); r.Verdict != probes.Warn || !r.Healthy() || !found || problem.Code != probes.CodeReleaseSilent {
		t.Errorf("verdict %s, problem %+v", r.Verdict, problem)
	}
}

func TestCheck(t *testing.T) {
	for name, target := range map[string]wire.ServerURI{
		"pion": onPion(nil)(t), "coturn": coturn(t, userFlags()...),
	} {
		latency, err := probes.TURN{Target: target, Credentials: goodLogin()}.Check(t.Context())
		if err != nil || latency <= 0 {
			t.Errorf("%s: Check() = %v, %v, want a latency", name, latency, err)
		}
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	closed := uri(closedPort(t))
	silent := uri(addrPort(listen(t).LocalAddr()))
	healthy, server := pion(t, nil, nil)
	unreleased, _ := pion(t, func(m *stun.Message, _ func([]byte)) bool { return m.Type.Method == stun.MethodRefresh }, nil)
	tests := []struct {
		name   string
		target wire.ServerURI
		login  probes.Credentials
		want   string
		stun   int
		text   string
	}{
		{"closed port", closed, goodLogin(), probes.CodeTURNClosed, 0, "Allocate on " + closed.Address() + ": port closed after "},
		{"silent", silent, goodLogin(), probes.CodeTURNSilent, 0, "Allocate on " + silent.Address() + ": no answer after "},
		{"wrong password", healthy, login(user, "wrong"), probes.CodeAuthRejected, 401, "refused with 401"},
		{"no credentials", healthy, probes.Credentials{}, probes.CodeAuthMissing, 401, "refused with 401"},
		{"release not confirmed", unreleased, goodLogin(), probes.CodeReleaseSilent, 0, "Refresh on "},
		{"closed over tcp", overTCP(closed), goodLogin(), probes.CodeTURNClosed, 0, "connect on " + closed.Address() + ": port closed after "},
		{"wrong name", wire.ServerURI{Scheme: "turn", Host: "no..such..name"}, goodLogin(), probes.CodeDNSFailed, 0, "resolve no..such..name: no such name after "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := probes.TURN{Target: test.target, Credentials: test.login, Schedule: brief}.Check(t.Context())
			var refusal *probes.Refusal
			if !errors.As(err, &refusal) || refusal.Code != test.want || refusal.STUN != test.stun {
				t.Fatalf("Check() = %+v, want code %s and STUN code %d", err, test.want, test.stun)
			}
			if text := err.Error(); !strings.HasPrefix(text, "probe "+test.target.String()+": ") || !strings.Contains(text, test.text) {
				t.Errorf("error %q lacks the target or %q", text, test.text)
			}
		})
	}
	if n := server.AllocationCount(); n != 0 {
		t.Errorf("%d allocations are left", n)
	}
}

func TestCheckStopsWithItsContext(t *testing.T) {
	patient := probes.Schedule{First: time.Hour, Sends: 2, GiveUp: 3 * time.Hour}
	ctx, cancel := context.WithCancel(t.Context())
	target, server := pion(t, func(*stun.Message, func([]byte)) bool { cancel(); return true }, nil)
	_, err := probes.TURN{Target: target, Credentials: goodLogin(), Schedule: patient}.Check(ctx)
	var refusal *probes.Refusal
	if !errors.Is(err, context.Canceled) || !errors.As(err, &refusal) || refusal.Code != probes.CodeTURNInterrupted {
		t.Fatalf("Check() = %v, want %s", err, probes.CodeTURNInterrupted)
	}
	if !strings.Contains(err.Error(), "no answer after") || !strings.Contains(err.Error(), target.Address()) {
		t.Errorf("error %q does not say what, where and after how long", err)
	}
	if n := server.AllocationCount(); n != 0 {
		t.Errorf("%d allocations are left", n)
	}
}
