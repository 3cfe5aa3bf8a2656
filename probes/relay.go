package probes

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// relayRun is one probe in progress, with an allocation.
type relayRun struct {
	TURN
	client  *client
	peer    *peer
	started time.Time

	quality    *Quality
	unreleased []error // of allocations whose release was not confirmed
}

func (r *relayRun) release(ctx context.Context, c *client) {
	if err := c.release(ctx); err != nil {
		r.unreleased = append(r.unreleased, withCode(err, CodeReleaseSilent))
	}
}

// unallocated names why there is no allocation.
func (r *relayRun) unallocated(ctx context.Context, err error) []Finding {
	err = r.client.socket.inside(err)
	elsewhere, answered := r.peer.answered()
	switch code := refusalCode(err); {
	case code == CodeTURNSilent && answered:
		err = withCode(err, CodeTURNDisabled)
	case code == CodeTURNSilent && elsewhere.IsValid():
		err = withFacts(withCode(err, CodeAsymmetric), Fact{"answers_from", elsewhere.String()})
	case code == CodeTURNRefused && answered:
		err = withCode(err, CodeAllocateFailed)
	case code == CodeTURNRedirect:
		return r.redirect(ctx, err)
	}
	return []Finding{refusalFinding(err, r.client.facts())}
}

// redirect probes the server that this one names, once: what that one says is
// as good as what its users get, if they can follow.
func (r *relayRun) redirect(ctx context.Context, err error) []Finding {
	found := refusalFinding(err, r.client.facts())
	to, errAddress := netip.ParseAddrPort(found.Fact("alternate"))
	switch {
	case errAddress != nil:
		return []Finding{found}
	case r.redirected || to == r.client.socket.server:
		found.Summary += ", again"
		return []Finding{found}
	}
	next := r.TURN
	next.Server, next.redirected = to, true
	findings, quality := next.findings(ctx)
	r.quality = quality
	return append([]Finding{found}, findings...)
}

// prove passes data between the allocation and our own second socket; where
// that is not possible or not allowed, between two allocations.
func (r *relayRun) prove(ctx context.Context) Finding {
	outside := r.reflexive(ctx)
	if f, decided := r.decide(ctx, outside); decided {
		return f
	}
	inside := r.hairpin(ctx)
	return r.conclude(ctx, outside, inside)
}

// reflexive takes half of the remaining time, so that the other way keeps the
// other half.
func (r *relayRun) reflexive(ctx context.Context) passage {
	deadline, _ := ctx.Deadline()
	ctx, cancel := context.WithTimeoutCause(ctx, time.Until(deadline)/2, errSilence)
	defer cancel()
	p := passage{via: "reflexive", relayed: r.client.relayed}
	if p.peer, p.err = r.peerAddress(ctx); p.err != nil {
		return p
	}
	p.pass(ctx, r.client.end(reflexiveChannel, p.peer), r.peer.end(p.relayed), r.client.socket.schedule.First)
	return p
}

// peerAddress is where the server sees our second socket. Without address
// translation on the way to it, that is its own address.
func (r *relayRun) peerAddress(ctx context.Context) (netip.AddrPort, error) {
	here := r.client.socket.local().Addr()
	if r.peer.socket != nil && r.client.mapped.Addr() == here {
		return netip.AddrPortFrom(here, r.peer.socket.local().Port()), nil
	}
	return r.peer.address(ctx)
}

// hairpin makes a second allocation on the same server the far end.
func (r *relayRun) hairpin(ctx context.Context) passage {
	p := passage{via: "hairpin", relayed: r.client.relayed}
	second, err := r.dial(ctx, r.client.socket.server)
	if err != nil {
		p.err = err
		return p
	}
	second, p.err = r.allocate(ctx, second)
	defer second.socket.close()
	defer r.release(ctx, second)
	if p.err != nil {
		return p
	}
	p.peer = second.relayed
	p.pass(ctx, r.client.end(hairpinChannel, p.peer), second.end(hairpinChannel, p.relayed), r.client.socket.schedule.First)
	return p
}

// decide tells whether the passage to our own socket is enough for a verdict.
func (r *relayRun) decide(ctx context.Context, p passage) (Finding, bool) {
	switch {
	case p.mismatched():
		return newFinding(CodeAddressMismatch, fmt.Sprintf("announced %s, seen %s", p.relayed, p.seen),
			r.facts(p)...), true
	case p.proven():
		return newFinding(CodeTURNOK, "", r.facts(p)...), true
	case interrupted(ctx):
		return r.stopped(ctx, p), true
	case p.tried && p.err != nil && !p.denied():
		return refusalFinding(p.err, r.facts(p)), true
	case p.out:
		return newFinding(CodeReturnBlocked, "", r.facts(p)...), true
	}
	return Finding{}, false
}

// conclude judges the passage between two allocations, after the one to our
// own socket gave no verdict.
func (r *relayRun) conclude(ctx context.Context, outside, inside passage) Finding {
	facts := r.facts(outside, inside)
	silentOutside := outside.tried && !outside.denied() && !outside.back
	switch {
	case inside.proven() && silentOutside:
		return newFinding(CodeHairpinOnly, "", facts...)
	case inside.proven():
		return newFinding(CodeTURNOK, "", facts...)
	case interrupted(ctx):
		return r.stopped(ctx, outside, inside)
	case outside.denied() && inside.denied():
		return refusalFinding(inside.err, facts)
	}
	return newFinding(CodeRelayUnproven, "", facts...)
}

func (r *relayRun) stopped(ctx context.Context, passages ...passage) Finding {
	return newFinding(CodeTURNInterrupted,
		fmt.Sprintf("no data through %s after %s: %v", r.client.relayed, short(time.Since(r.started)), context.Cause(ctx)),
		r.facts(passages...)...)
}

// facts adds to those of the server how each passage went.
func (r *relayRun) facts(passages ...passage) []Fact {
	facts := r.client.facts()
	for _, p := range passages {
		if p.peer.IsValid() {
			facts = append(facts, Fact{p.via + "_peer", p.peer.String()})
		}
		facts = append(facts, Fact{p.via, p.outcome()})
		if p.proven() {
			facts = append(facts, Fact{"echo_ms", millis(p.ended.Sub(p.started))})
			if rtt := r.client.rtt; rtt > 0 {
				trips := float64(p.ended.Sub(r.started)) / float64(rtt)
				facts = append(facts, Fact{"round_trips", strconv.FormatFloat(trips, 'f', 2, 64)})
			}
		}
	}
	return facts
}
