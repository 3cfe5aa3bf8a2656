package probes_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/probes"
)

// class is one way for a TURN service to be broken: what it is called, and how
// to have it.
type class struct {
	number int
	name   string
	server string
	want   string
	probe  func(t *testing.T) []probes.Report // breaks a server and asks it
}

// one runs a single probe.
func one(p probes.TURN) func(*testing.T) []probes.Report {
	return func(t *testing.T) []probes.Report { return []probes.Report{p.Run(t.Context())} }
}

// on starts a server and probes it with valid credentials, which change edits.
func on(begin start, change func(*probes.TURN)) func(*testing.T) []probes.Report {
	return func(t *testing.T) []probes.Report {
		p := probes.TURN{Target: begin(t), Credentials: goodLogin()}
		if change != nil {
			change(&p)
		}
		return one(p)(t)
	}
}

// as probes with other credentials.
func as(c probes.Credentials) func(*probes.TURN) {
	return func(p *probes.TURN) { p.Credentials = c }
}

// publicly names a server by a public address that stands for it.
func publicly(p *probes.TURN) {
	p.Server = netip.MustParseAddrPort(p.Target.Address())
	p.Target.Host = "8.8.8.8"
}

func classes(t *testing.T) []class {
	rest := []string{"-E", "127.0.0.1", "--use-auth-secret", "--static-auth-secret", restSecret, "--allow-loopback-peers"}
	return []class{
		{1, "STUN answers, Allocate fails", "coturn", probes.CodeAllocateFailed, on(onCoturn(userFlags("--no-udp-relay")...), nil)},
		{2, "relaying is off", "coturn", probes.CodeTURNDisabled, on(onCoturn(userFlags("--stun-only")...), nil)},
		{3, "relay range closed to what was not asked for", "coturn, nft", probes.CodeInboundClosed, nil},
		{4, "relay range closed", "coturn, nft", probes.CodeReturnBlocked, nil},
		{5, "nothing leaves the relay", "coturn, nft", probes.CodeEgressBlocked, nil},
		{6, "wrong external address", "coturn", probes.CodeAddressMismatch, on(onCoturn(userFlags("-X", "203.0.113.9")...), nil)},
		{7, "private relay address", "coturn", probes.CodeAddressPrivate, on(onCoturn(userFlags("-X", "10.1.2.3")...), publicly)},
		{8, "gateway in place of clients", "scripted", probes.CodeMappedGateway, on(gatewayed, publicly)},
		{9, "wrong secret", "coturn", probes.CodeAuthRejected, on(onCoturn(rest...), as(login(restLogin(t, time.Hour).Username, "x")))},
		{9, "wrong password", "pion", probes.CodeAuthRejected, on(onPion(nil), as(login(user, "wrong")))},
		{10, "expired credentials", "coturn", probes.CodeAuthExpired, on(onCoturn(rest...), as(restLogin(t, -time.Minute)))},
		{11, "clock ahead", "scripted", probes.CodeClockSkew, on(clockAhead(2*time.Hour), as(restLogin(t, time.Hour)))},
		{13, "credentials of another realm", "coturn", probes.CodeRealm, on(ofRealm("other.test"), func(p *probes.TURN) { p.Credentials.Realm = "other.test" })},
		{14, "balancer without affinity", "coturn x2", probes.CodeNonceLoop, on(unbalanced, nil)},
		{14, "nonce stale again and again", "scripted", probes.CodeNonceLoop, on(staleForEver, nil)},
		{15, "answers from elsewhere", "scripted", probes.CodeAsymmetric, on(fromElsewhere, nil)},
		{16, "UDP blocked", "coturn", probes.CodeUDPBlocked, udpBlocked},
		{17, "certificate expired", "coturn", probes.CodeCertExpired, certified(-60*24*time.Hour, -time.Hour, 2)},
		{18, "chain incomplete", "coturn", probes.CodeCertChain, certified(-time.Hour, 300*24*time.Hour, 1)},
		{19, "no TLS listener", "coturn", probes.CodeTLSNoListener, unreadableKey},
		{20, "TLS of another service", "HTTPS", probes.CodeTLSNotTURN, webServer},
		{21, "relay ports used up", "coturn", probes.CodeNoCapacity, on(holding(onCoturn(userFlags(onePort(t)...)...)), nil)},
		{22, "quota", "coturn", probes.CodeQuotaReached, on(holding(onCoturn(userFlags("--user-quota", "1")...)), nil)},
		{23, "stale allocations on our ports", "scripted", probes.CodeTupleInUse, on(mismatched, nil)},
		{24, "peers denied", "coturn", probes.CodePeerDenied, on(onCoturn("-E", "127.0.0.1", "--lt-cred-mech", "-u", user+":"+password), nil)},
		{25, "no IPv6 relay", "coturn", probes.CodeFamilyRelay, on(onCoturn(userFlags()...), func(p *probes.TURN) { p.RelayFamily = probes.IPv6 })},
		{25, "IPv6 peer of an IPv4 relay", "coturn", probes.CodeFamilyPeer, on(onCoturn(userFlags()...), func(p *probes.TURN) {
			p.RelayFamily, p.Peer = probes.IPv4, netip.MustParseAddrPort("[::1]:9")
		})},
		{26, "redirect", "coturn x2", probes.CodeTURNRedirect, on(redirecting, nil)},
		{27, "open relay", "coturn", probes.CodeTURNOpen, on(onCoturn("-E", "127.0.0.1", "--no-auth", "--allow-loopback-peers"), nil)},
		{28, "loss", "coturn, proxy", probes.CodeRelayLoss, on(lossy, func(p *probes.TURN) { p.Count, p.Rate = 40, 400 })},
	}
}

// TestClasses has each kind of failure and expects its name. It prints the
// table; informational, and not seeded, is 12: expired credentials do not end
// what they began.
func TestClasses(t *testing.T) {
	all := classes(t)
	rows := make([]result, len(all))
	var firewalled map[int]result
	t.Run("each", func(t *testing.T) {
		for i, c := range all {
			t.Run(fmt.Sprintf("%02d %s", c.number, c.name), func(t *testing.T) {
				if c.probe != nil {
					t.Parallel()
					rows[i] = outcome(c.probe(t))
					return
				}
				if firewalled == nil {
					firewalled = behindFirewall(t)
				}
				rows[i] = firewalled[c.number]
			})
		}
	})
	named, table := map[int]bool{}, ""
	for i, c := range all {
		if firewalled == nil && c.probe == nil {
			continue
		}
		if rows[i].code != c.want {
			t.Errorf("class %d, %s, is named %s, want %s: %s", c.number, c.name, rows[i].code, c.want, rows[i].summary)
			continue
		}
		named[c.number] = true
		table += fmt.Sprintf("%3d %-46s%-14s%-24s%s\n", c.number, c.name, c.server, c.want, rows[i].took.Round(time.Millisecond))
	}
	t.Logf("%d of 28 classes named right: class, server, code, time\n%s", len(named), table)
	if firewalled != nil && len(named) != 27 {
		t.Errorf("%d classes of 28 are named, want 27", len(named))
	}
}

// result is what a case came to.
type result struct {
	code, summary string
	took          time.Duration
}

// outcome is the decisive problem: the first report that has one.
func outcome(reports []probes.Report) result {
	for _, r := range reports {
		if problem, bad := r.Problem(); bad {
			return result{problem.Code, problem.Summary, r.Took}
		}
	}
	return result{code: "healthy", summary: fmt.Sprintf("%+v", reports)}
}

// TestHealthyHasNoClass is the other half: nothing is named where nothing is
// wrong.
func TestHealthyHasNoClass(t *testing.T) {
	id := goodIdentity(t)
	target := coturnEverywhere(t, id, userFlags()...)
	m := probes.Matrix{
		TURN:    probes.TURN{Credentials: goodLogin(), Roots: id.roots, Count: 20, Rate: 200},
		Targets: probes.Over(target, probes.UDP, probes.TCP, probes.TLS, probes.DTLS),
	}
	reports := m.Run(t.Context())
	for i, r := range reports {
		wantReport(t, r, probes.CodeTURNOK)
		if want := m.Targets[i].String(); r.Target != want {
			t.Errorf("report %d is of %s, want %s", i, r.Target, want)
		}
		if q := r.Quality; q == nil || q.Sent != 20 || q.Received != 20 || q.P50 <= 0 || q.P99 < q.P50 || q.Max < q.P99 {
			t.Errorf("quality %+v", q)
		}
	}
	if !slices.ContainsFunc(reports, func(r probes.Report) bool { return r.Findings[0].Fact("tls_version") != "" }) {
		t.Error("no TLS version in the facts")
	}
}

// TestSilentServerIsNamedInTime logs when: BenchmarkSilentServer has the bar.
func TestSilentServerIsNamedInTime(t *testing.T) {
	silent := uri(addrPort(listen(t).LocalAddr()))
	for _, target := range probes.Over(silent, probes.UDP, probes.DTLS) {
		t.Run(string(probes.TransportOf(target)), func(t *testing.T) {
			t.Parallel()
			r := probes.TURN{Target: target, Credentials: goodLogin()}.Run(t.Context())
			wantReport(t, r, probes.CodeTURNSilent)
			t.Logf("%s: %s", target, r.Took)
		})
	}
}
