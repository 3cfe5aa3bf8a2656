package probes

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/stun/v3"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// TURN asks a TURN server (RFC 8656) what its users ask: for an allocation,
// and to relay data both ways through it. The scheme and transport of Target
// say over what: UDP, TCP, TLS or DTLS.
type TURN struct {
	Target      wire.ServerURI
	Server      netip.AddrPort // asked in place of the address that Target resolves to; not valid = that
	Credentials Credentials
	Peer        netip.AddrPort // of an EchoPeer, which must be reachable; not valid = sockets of this host
	RelayFamily Family         // of the relayed address; "" = that of Peer, or else of the server
	Roots       *x509.CertPool // certificate authorities for TLS and DTLS; nil = the system's
	Skew        time.Duration  // how far the server's clock is ahead, if known, as from an HTTP Date
	Pace        *Pace          // shared by all probes of one run; nil = no limit
	Count       int            // packets of the quality phase; 0 = none
	Rate        float64        // packets a second; 0 = 50
	Timeout     time.Duration  // of the whole probe but the quality phase and the release; 0 = three schedules
	Schedule    Schedule       // zero = QuickSchedule
	Limits      Limits         // of loss and of the certificate's life; zero = DefaultLimits

	redirected bool // by another server, which ends here
}

// Family is a family of addresses.
type Family string

// The families of addresses.
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

// Run proves the relay and reports turn.ok, or names what was wrong. Whatever
// happens, also when ctx ends, it gives back what it allocated and waits for
// the server's confirmation, up to a second more.
func (p TURN) Run(ctx context.Context) Report {
	started := time.Now()
	findings, quality := p.findings(ctx)
	r := newReport("turn", p.Target, started, findings)
	r.Quality = quality
	return r
}

// Check asks for an allocation and gives it back, without passing data: for a
// frequent check by an agent. The latency is one round trip to the server. The
// error is a *Refusal, and wraps the cause of ctx when that has ended. Since no
// Binding runs beside, a server without relaying is turn.silent here.
func (p TURN) Check(ctx context.Context) (latency time.Duration, err error) {
	started := time.Now()
	bounded, cancel := p.whole(ctx)
	defer cancel()
	c, err := p.connect(bounded)
	if err != nil {
		return 0, p.named(err)
	}
	if err := p.trusted(c.socket); err != nil {
		c.socket.close()
		return 0, p.named(err)
	}
	c, err = p.allocate(bounded, c)
	defer c.socket.close()
	if errRelease := c.release(ctx); err == nil && errRelease != nil {
		err = withCode(errRelease, CodeReleaseSilent)
	}
	if err != nil {
		return 0, p.named(err)
	}
	if c.rtt == 0 { // every request had to be repeated
		return time.Since(started), nil
	}
	return c.rtt, nil
}

// trusted refuses a server whose certificate its users would refuse.
func (p TURN) trusted(s *socket) error {
	for _, problem := range s.judged(p.Target, p.Roots, p.Limits) {
		if problem.Verdict == Fail {
			return &Refusal{
				Code: problem.Code, Step: "handshake", Server: s.server.String(),
				Reason: problem.Summary, After: s.secured.took,
			}
		}
	}
	return nil
}

// named makes any error a *Refusal that names the target.
func (p TURN) named(err error) *Refusal {
	var r *Refusal
	if !errors.As(err, &r) {
		r = &Refusal{Code: CodeLocalFault, Step: "open a socket", Err: err}
	}
	r.Target = p.Target.String()
	return r
}

// connect finds the server and opens a socket to it.
func (p TURN) connect(ctx context.Context) (*client, error) {
	if !p.Target.IsTURN() {
		return nil, &Refusal{Code: CodeTURNUnsupported, Reason: p.Target.Scheme + ": is not the scheme of a TURN server"}
	}
	server := p.Server
	if !server.IsValid() {
		var err error
		if server, err = resolve(ctx, p.Target, "turn"); err != nil {
			return nil, err
		}
	}
	return p.dial(ctx, server)
}

func (p TURN) dial(ctx context.Context, server netip.AddrPort) (*client, error) {
	d := dialer{
		service: "turn", transport: TransportOf(p.Target), host: p.Target.Host,
		server: server, schedule: p.Schedule.orQuick(),
	}
	s, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	count, every := p.pacing()
	return &client{
		socket: s, credentials: p.Credentials, family: p.family(server), pace: p.Pace, skew: p.Skew,
		life: time.Duration(count) * every,
	}, nil
}

// family is that of the relayed address. A server asked without one gives
// IPv4, or the family of its own listener.
func (p TURN) family(server netip.AddrPort) Family {
	switch {
	case p.RelayFamily != "":
		return p.RelayFamily
	case p.Peer.IsValid() && p.Peer.Addr().Unmap().Is6(), !p.Peer.IsValid() && server.Addr().Is6():
		return IPv6
	}
	return ""
}

// allocate returns the client that has the allocation: another one when the
// first port was taken. A 437 means that the server still holds an allocation
// for this pair of addresses and ports, made by whoever had our port before
// (RFC 8656 section 6.4 has a client try another one).
func (p TURN) allocate(ctx context.Context, c *client) (*client, error) {
	err := c.allocate(ctx)
	if stunCode(err) != int(stun.CodeAllocMismatch) {
		return c, err
	}
	again, errDial := p.dial(ctx, c.socket.server)
	if errDial != nil {
		return c, err
	}
	c.socket.close() // only now, so that the new port is another one
	again.movedPort = true
	return again, again.allocate(ctx)
}

// whole limits the whole probe. Each transaction has the time of one schedule;
// setup, allocation and relayed data together have that of three.
func (p TURN) whole(ctx context.Context) (context.Context, context.CancelFunc) {
	schedule := p.Schedule.orQuick()
	timeout := p.Timeout
	if timeout <= 0 {
		timeout = 3 * schedule.GiveUp
	}
	return schedule.bounded(ctx, timeout)
}

func (p TURN) findings(ctx context.Context) (all []Finding, quality *Quality) {
	begun := time.Now()
	bounded, cancel := p.whole(ctx)
	defer cancel()
	c, err := p.connect(bounded)
	if err != nil {
		return []Finding{refusalFinding(p.named(err), nil)}, nil
	}
	problems := c.socket.judged(p.Target, p.Roots, p.Limits)
	if untrusted := slices.ContainsFunc(problems, func(f Finding) bool { return f.Verdict == Fail }); untrusted {
		defer func() { c.socket.close() }()
		return append(p.anonymous(bounded, ctx, c), problems...), nil
	}
	far := startPeer(bounded, c.socket.local().Addr(), c.socket.server, p.Schedule.orQuick())
	defer far.close()
	started := time.Now()
	c, err = p.allocate(bounded, c)
	defer func() { c.socket.close() }()
	run := relayRun{TURN: p, client: c, peer: far, parent: ctx, begun: begun, started: started}
	if err != nil {
		all = run.unallocated(ctx, err)
	} else {
		all = []Finding{run.prove(bounded)}
	}
	run.release(ctx, c)
	for _, more := range []func() (Finding, bool){run.gateway, func() (Finding, bool) { return run.quality.finding(ctx, p.Limits.orDefault()) }} {
		if f, bad := more(); bad {
			all = append(all, f)
		}
	}
	all = append(all, problems...)
	for _, err := range run.unreleased {
		all = append(all, refusalFinding(err, nil))
	}
	return all, run.quality
}

// anonymous asks only whether this is a TURN server: to one whose certificate
// is not trusted no credentials go.
func (p TURN) anonymous(bounded, ctx context.Context, c *client) []Finding {
	c.credentials = Credentials{}
	err := c.socket.inside(c.allocate(bounded))
	_ = c.release(ctx)
	switch refusalCode(err) {
	case CodeTLSNotTURN, CodeTURNOpen, CodeTURNInterrupted:
		return []Finding{refusalFinding(err, c.facts())}
	}
	return nil
}
