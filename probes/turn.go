package probes

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// TURN asks a TURN server over UDP (RFC 8656) what its users ask: for an
// allocation, and to relay data both ways through it.
type TURN struct {
	Target      wire.ServerURI
	Credentials Credentials
	Timeout     time.Duration // of the whole probe but the release; 0 = as long as the schedule
	Schedule    Schedule      // zero = QuickSchedule
}

// Run proves the relay and reports turn.ok, or names what was wrong. Whatever
// happens, also when ctx ends, it gives back what it allocated and waits for
// the server's confirmation, up to a second more.
func (p TURN) Run(ctx context.Context) Report {
	started := time.Now()
	return newReport("turn", p.Target, started, p.findings(ctx))
}

// Check asks for an allocation and gives it back, without passing data: for a
// frequent check by an agent. The latency is one round trip to the server. The
// error is a *Refusal, and wraps the cause of ctx when that has ended. Since no
// Binding runs beside, a server without relaying is turn.silent here.
func (p TURN) Check(ctx context.Context) (latency time.Duration, err error) {
	started := time.Now()
	bounded, cancel := p.Schedule.orQuick().bounded(ctx, p.Timeout)
	defer cancel()
	c, err := p.connect(bounded)
	if err != nil {
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
	switch {
	case !p.Target.IsTURN():
		return nil, &Refusal{Code: CodeTURNUnsupported, Reason: p.Target.Scheme + ": is not the scheme of a TURN server"}
	case p.Target.Secure() || p.Target.EffectiveTransport() != "udp":
		return nil, &Refusal{Code: CodeTURNUnsupported, Reason: unsupported(p.Target)}
	}
	server, err := resolve(ctx, p.Target, "turn")
	if err != nil {
		return nil, err
	}
	return p.dial(server)
}

func (p TURN) dial(server netip.AddrPort) (*client, error) {
	s, err := connectSocket("turn", server, p.Schedule.orQuick())
	if err != nil {
		return nil, err
	}
	return &client{socket: s, credentials: p.Credentials}, nil
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
	again, errDial := p.dial(c.socket.server)
	if errDial != nil {
		return c, err
	}
	c.socket.close() // only now, so that the new port is another one
	again.movedPort = true
	return again, again.allocate(ctx)
}

func (p TURN) findings(ctx context.Context) []Finding {
	bounded, cancel := p.Schedule.orQuick().bounded(ctx, p.Timeout)
	defer cancel()
	c, err := p.connect(bounded)
	if err != nil {
		return []Finding{refusalFinding(p.named(err), nil)}
	}
	far := startPeer(bounded, c.socket.local().Addr(), c.socket.server, p.Schedule.orQuick())
	defer far.close()
	started := time.Now()
	c, err = p.allocate(bounded, c)
	defer c.socket.close()
	run := relayRun{TURN: p, client: c, peer: far, started: started}
	var found Finding
	if err != nil {
		found = run.unallocated(err)
	} else {
		found = run.prove(bounded)
	}
	run.release(ctx, c)
	all := []Finding{found}
	for _, err := range run.unreleased {
		all = append(all, refusalFinding(err, nil))
	}
	return all
}
