package probes_test

import (
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/pion/turn/v5"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// start brings up a server in some state.
type start func(t *testing.T) wire.ServerURI

func onPion(change func(*turn.ServerConfig)) start {
	return func(t *testing.T) wire.ServerURI {
		target, server := pion(t, nil, change)
		t.Cleanup(func() { // runs before the server is closed
			if n := server.AllocationCount(); n != 0 {
				t.Errorf("%d allocations are left", n)
			}
		})
		return target
	}
}

func onCoturn(flags ...string) start {
	return func(t *testing.T) wire.ServerURI { return coturn(t, flags...) }
}

func always(target func(testing.TB) netip.AddrPort) start {
	return func(t *testing.T) wire.ServerURI { return uri(target(t)) }
}

// TestRunNamesWhatIsWrong puts real servers into each state and expects its
// name.
func TestRunNamesWhatIsWrong(t *testing.T) {
	silent := always(func(t testing.TB) netip.AddrPort { return addrPort(listen(t).LocalAddr()) })
	closed := always(closedPort)
	restFlags := []string{"-E", "127.0.0.1", "--use-auth-secret", "--static-auth-secret", restSecret, "--allow-loopback-peers"}
	rest := func(c *turn.ServerConfig) { c.AuthHandler = restHandler }
	tests := []struct {
		name        string
		credentials probes.Credentials
		pion        start // nil: it cannot be put into this state
		coturn      start
		want        string
	}{
		{"healthy", goodLogin(), onPion(nil), onCoturn(userFlags()...), probes.CodeTURNOK},
		{"valid REST credentials", restLogin(t, time.Hour), onPion(rest), onCoturn(restFlags...), probes.CodeTURNOK},
		{"expired REST credentials", restLogin(t, -time.Minute), onPion(rest), onCoturn(restFlags...), probes.CodeAuthExpired},
		{"REST credentials of another secret", login(restLogin(t, time.Hour).Username, "x"), onPion(rest), onCoturn(restFlags...), probes.CodeAuthRejected},
		{"wrong password", login(user, "wrong"), onPion(nil), onCoturn(userFlags()...), probes.CodeAuthRejected},
		{"unknown user", login("nobody", password), onPion(nil), onCoturn(userFlags()...), probes.CodeAuthRejected},
		{"no credentials", probes.Credentials{}, onPion(nil), onCoturn(userFlags()...), probes.CodeAuthMissing},
		{"user name too long", login(string(make([]byte, 514)), password), onPion(nil), onCoturn(userFlags()...), probes.CodeAuthUnusable},
		{"open relay", goodLogin(), nil, onCoturn("-E", "127.0.0.1", "--no-auth", "--allow-loopback-peers"), probes.CodeTURNOpen},
		{"silent", goodLogin(), silent, nil, probes.CodeTURNSilent},
		{"closed port", goodLogin(), closed, nil, probes.CodeTURNClosed},
		{"relaying switched off", goodLogin(), onPion(func(c *turn.ServerConfig) { c.AuthHandler = nil }),
			onCoturn(userFlags("--no-udp-relay")...), probes.CodeAllocateFailed},
		{"STUN only", goodLogin(), nil, onCoturn(userFlags("--stun-only")...), probes.CodeTURNDisabled},
		{"quota reached", goodLogin(), onPion(func(c *turn.ServerConfig) { c.QuotaHandler = noQuota }),
			holding(onCoturn(userFlags("--user-quota", "1")...)), probes.CodeQuotaReached},
		{"no relay port", goodLogin(), onPion(func(c *turn.ServerConfig) { relay(c, &brokenRelay{}) }),
			holding(onCoturn(userFlags(onePort(t)...)...)), probes.CodeNoCapacity},
		{"redirect", goodLogin(), nil, onCoturn(userFlags("--alternate-server", "127.0.0.1:9")...), probes.CodeTURNRedirect},
		{"peers denied", goodLogin(), onPion(func(c *turn.ServerConfig) {
			c.PacketConnConfigs[0].PermissionHandler = func(net.Addr, net.IP) bool { return false }
		}), onCoturn("-E", "127.0.0.1", "--lt-cred-mech", "-u", user+":"+password), probes.CodePeerDenied},
		{"wrong external address", goodLogin(), onPion(func(c *turn.ServerConfig) { relay(c, wrongRelay()) }),
			onCoturn(userFlags("-X", "203.0.113.9")...), probes.CodeAddressMismatch},
	}
	for _, test := range tests {
		for name, start := range map[string]start{"pion": test.pion, "coturn": test.coturn} {
			if start == nil {
				continue
			}
			t.Run(test.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				target := start(t)
				r := probes.TURN{Target: target, Credentials: test.credentials}.Run(t.Context())
				wantReport(t, r, test.want)
			})
		}
	}
}

// wantReport checks that a report has one finding of the wanted code, and that
// its parts agree.
func wantReport(t *testing.T, r probes.Report, code string) {
	t.Helper()
	m, known := probes.Explain(code)
	followed := code == probes.CodeTURNRedirect && len(r.Findings) > 1 // the other server has findings of its own
	if !known || len(r.Findings) != 1 && !followed || r.Findings[0].Code != code {
		t.Fatalf("got %+v, want one finding %s", r, code)
	}
	if r.Verdict != m.Verdict || r.Findings[0].Verdict != m.Verdict {
		t.Errorf("verdict %s of finding %s, want %s", r.Verdict, r.Findings[0].Verdict, m.Verdict)
	}
	problem, isProblem := r.Problem()
	if healthy := m.Verdict == probes.Pass || m.Verdict == probes.Warn; r.Healthy() != healthy {
		t.Errorf("Healthy() = %v with verdict %s", r.Healthy(), m.Verdict)
	}
	if isProblem == (m.Verdict == probes.Pass) || isProblem && problem.Code != code {
		t.Errorf("Problem() = %+v, %v", problem, isProblem)
	}
}

func TestRunReportsWhatItMeasured(t *testing.T) {
	target, _ := pion(t, nil, nil)
	r := probes.TURN{Target: target, Credentials: goodLogin()}.Run(t.Context())
	wantReport(t, r, probes.CodeTURNOK)
	if r.Probe != "turn" || r.Target != target.String() || r.Took <= 0 || r.Started.IsZero() {
		t.Errorf("report head %+v", r)
	}
	f := r.Findings[0]
	for _, name := range []string{"rtt_ms", "echo_ms", "round_trips"} {
		if v, err := strconv.ParseFloat(f.Fact(name), 64); err != nil || v <= 0 {
			t.Errorf("fact %s = %q, want a positive number", name, f.Fact(name))
		}
	}
	for name, want := range map[string]string{"address": target.Address(), "realm": realm, "reflexive": "data both ways"} {
		if got := f.Fact(name); got != want {
			t.Errorf("fact %s = %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"relayed", "mapped", "reflexive_peer"} {
		if a, err := netip.ParseAddrPort(f.Fact(name)); err != nil || !a.Addr().IsLoopback() {
			t.Errorf("fact %s = %q, want a loopback address", name, f.Fact(name))
		}
	}
}

// TestRunProvesTheRelayByTheBestWay closes directions of the relay.
func TestRunProvesTheRelayByTheBestWay(t *testing.T) {
	toHost := func(ip net.IP) bool { return ip.Equal(loopback) }
	never := func(net.IP) bool { return false }
	denied := func(c *turn.ServerConfig) {
		relay(c, &filteredRelay{in: never, out: never})
		c.PacketConnConfigs[0].PermissionHandler = func(_ net.Addr, peer net.IP) bool { return !toHost(peer) }
	}
	filtered := func(in, out func(net.IP) bool) func(*turn.ServerConfig) {
		return func(c *turn.ServerConfig) { relay(c, &filteredRelay{in: in, out: out}) }
	}
	quota := func(change func(*turn.ServerConfig)) func(*turn.ServerConfig) {
		return func(c *turn.ServerConfig) {
			change(c)
			first := true
			c.QuotaHandler = func(string, string, net.Addr) bool { was := first; first = false; return was }
		}
	}
	tests := []struct {
		name               string
		change             func(*turn.ServerConfig)
		want               string
		reflexive, hairpin string
	}{
		{"our host denied, hairpin works", denied, probes.CodeHairpinOnly, "denied by the server", "data both ways"},
		{"our host denied, hairpin not possible", quota(denied), probes.CodeRelayUnproven, "denied by the server", "not possible: turn.cap.486"},
		{"nothing comes back", filtered(toHost, never), probes.CodeReturnBlocked, "data out, none back", ""},
		{"nothing passes, hairpin works", filtered(toHost, toHost), probes.CodeHairpinOnly, "no data", "data both ways"},
		{"nothing passes, hairpin not possible", quota(filtered(toHost, toHost)), probes.CodeRelayUnproven, "no data", "not possible: turn.cap.486"},
		{"nothing gets out to us", filtered(never, toHost), probes.CodeEgressBlocked, "data back, none out", ""},
		{"what passes is altered", func(c *turn.ServerConfig) { relay(c, &filteredRelay{in: never, out: never, alter: true}) }, probes.CodeRelayUnproven, "no data", "no data"},
		{"nothing passes at all", filtered(func(net.IP) bool { return true }, func(net.IP) bool { return true }), probes.CodeRelayUnproven, "no data", "no data"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			target := onPion(test.change)(t)
			r := probes.TURN{Target: target, Credentials: goodLogin(), Timeout: time.Second}.Run(t.Context())
			wantReport(t, r, test.want)
			if got := r.Findings[0].Fact("reflexive"); got != test.reflexive {
				t.Errorf("reflexive: %q, want %q", got, test.reflexive)
			}
			if got := r.Findings[0].Fact("hairpin"); got != test.hairpin {
				t.Errorf("hairpin: %q, want %q", got, test.hairpin)
			}
		})
	}
}

func TestRunRefusesWhatIsNoTURNServer(t *testing.T) {
	target := wire.ServerURI{Scheme: "stun", Host: "127.0.0.1"}
	wantReport(t, probes.TURN{Target: target, Credentials: goodLogin()}.Run(t.Context()), probes.CodeTURNUnsupported)
}

func TestRunNamesAWrongName(t *testing.T) {
	target := wire.ServerURI{Scheme: "turn", Host: "no..such..name"}
	r := probes.TURN{Target: target, Credentials: goodLogin()}.Run(t.Context())
	wantReport(t, r, probes.CodeDNSFailed)
}
