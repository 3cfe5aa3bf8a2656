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
	parent  context.Context // of the whole run; the time of a probe's parts is shorter
	begun   time.Time       // of the whole probe
	started time.Time       // of the first Allocate

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
	if refusalCode(err) == CodeTURNRefused { // the server is there: its answer to Binding will come, if ever
		_, _ = r.peer.address(ctx)
	}
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

// prove passes data through the allocation: to the echo peer that was given,
// to our own second socket, or to a second allocation, whichever is possible
// and allowed first.
func (r *relayRun) prove(ctx context.Context) Finding {
	if f, bad := r.privateRelay(); bad {
		return f
	}
	var given *passage
	if r.Peer.IsValid() {
		p := r.within(ctx, r.given)
		if f, decided := r.decideGiven(ctx, p); decided {
			return f
		}
		given = &p
	}
	f := r.proveHere(ctx)
	if given == nil {
		return f
	}
	facts := append(f.Facts, r.passageFacts(given)...)
	f.Facts = facts
	switch { // what the fallbacks show is not what was asked for
	case f.Verdict == Fail, interrupted(ctx):
		return f
	case given.displaced() && f.Verdict == Pass: // the announced address works as well
		return f
	case given.displaced():
		return newFinding(CodeAddressMismatch, given.mismatch(), facts...)
	case given.denied():
		return refusalFinding(given.err, facts)
	}
	return newFinding(CodePeerUnreachable, r.Peer.String(), facts...)
}

func (r *relayRun) proveHere(ctx context.Context) Finding {
	outside := r.within(ctx, r.reflexive)
	if f, decided := r.decide(ctx, &outside); decided {
		return f
	}
	inside := r.within(ctx, r.hairpin)
	return r.conclude(ctx, &outside, &inside)
}

// within gives one way half of the remaining time, and no more than one
// schedule, so that the others keep some.
func (r *relayRun) within(ctx context.Context, way func(context.Context) passage) passage {
	limit := r.client.socket.schedule.GiveUp
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errSilence)
	defer cancel()
	return way(ctx)
}

// reflexive uses our own second socket, which sends first, so that an address
// translation on this side lets the relay's packets in.
func (r *relayRun) reflexive(ctx context.Context) passage {
	p := passage{via: "reflexive", relayed: r.client.relayed}
	if p.peer, p.err = r.peerAddress(ctx); p.err != nil {
		return p
	}
	near, far := r.client.end(reflexiveChannel, p.peer), r.peer.end(p.relayed)
	p.pass(ctx, near, far, r.client.socket.schedule.First)
	if p.proven() && !p.inbound && far.cross != nil {
		p.second = r.secondAlike(ctx, p.peer.Addr())
	}
	if p.proven() && r.Count > 0 {
		r.measure(near, far)
	}
	return p
}

// secondAlike tells whether the relay sees our third socket at the address
// that the channel permits: only then should its packets have come through.
func (r *relayRun) secondAlike(ctx context.Context, permitted netip.Addr) bool {
	if r.client.mapped.Addr() == r.client.socket.local().Addr() {
		return true
	}
	x, err := r.peer.second.binding(ctx)
	return err == nil && x.reply.mapped.Addr() == permitted
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
	defer func() { second.socket.close() }()
	defer func() { r.release(r.parent, second) }()
	if p.err != nil {
		return p
	}
	p.peer = second.relayed
	near, far := r.client.end(hairpinChannel, p.peer), second.end(hairpinChannel, p.relayed)
	p.pass(ctx, near, far, r.client.socket.schedule.First)
	if p.proven() && r.Count > 0 {
		r.measure(near, far)
	}
	return p
}

// decideGiven tells whether the echo peer that was given is enough for a
// verdict. It is not when it cannot be reached, or may not.
func (r *relayRun) decideGiven(ctx context.Context, p passage) (Finding, bool) {
	facts := r.facts(&p)
	switch {
	case p.displaced():
		return Finding{}, false // its answers go to the source that it sees, and say nothing of the announced address
	case p.proven() && p.inbound:
		return newFinding(CodeTURNOK, "", facts...), true
	case interrupted(ctx):
		return r.stopped(ctx, &p), true
	case p.proven() && p.second:
		return newFinding(CodeInboundClosed, p.crossed(), facts...), true
	case p.proven():
		return newFinding(CodeRelayUnproven, "data that was asked for passes; the peer's second port was not heard", facts...), true
	case p.err != nil && !p.denied():
		return refusalFinding(p.err, facts), true
	case p.denied() || !p.reached:
		return Finding{}, false
	case !p.out:
		return newFinding(CodeEgressBlocked, fmt.Sprintf("the peer %s answers this host, and has nothing from the relay", p.peer), facts...), true
	}
	return newFinding(CodeReturnBlocked, "", facts...), true
}

// decide tells whether the passage to our own sockets is enough for a verdict.
func (r *relayRun) decide(ctx context.Context, p *passage) (Finding, bool) {
	facts := r.facts(p)
	switch {
	case p.proven() && p.inbound:
		return newFinding(CodeTURNOK, "", facts...), true
	case interrupted(ctx):
		return r.stopped(ctx, p), true
	case p.proven() && p.second:
		return newFinding(CodeInboundClosed, p.crossed(), facts...), true
	case p.proven():
		return newFinding(CodeRelayUnproven, "data that was asked for passes; this host's third socket has another public address, or none that is known", facts...), true
	case p.mismatched():
		return newFinding(CodeAddressMismatch, p.mismatch(), facts...), true
	case p.tried && p.err != nil && !p.denied():
		return refusalFinding(p.err, facts), true
	case p.out:
		return newFinding(CodeReturnBlocked, "", facts...), true
	case p.back:
		return newFinding(CodeEgressBlocked, fmt.Sprintf("%s, which has just sent to the relay, gets nothing from it", p.peer), facts...), true
	}
	return Finding{}, false
}

// conclude judges the passage between two allocations, after the one to our
// own sockets gave no verdict.
func (r *relayRun) conclude(ctx context.Context, outside, inside *passage) Finding {
	facts := r.facts(outside, inside)
	switch {
	case inside.proven():
		return newFinding(CodeHairpinOnly, outside.outcome(), facts...)
	case interrupted(ctx):
		return r.stopped(ctx, outside, inside)
	case outside.denied() && inside.denied():
		return refusalFinding(inside.err, facts)
	}
	return newFinding(CodeRelayUnproven, "", facts...)
}

func (r *relayRun) stopped(ctx context.Context, passages ...*passage) Finding {
	return newFinding(CodeTURNInterrupted,
		fmt.Sprintf("no data through %s after %s: %v", r.client.relayed, short(time.Since(r.started)), context.Cause(ctx)),
		r.facts(passages...)...)
}

// facts adds to those of the server how each passage went.
func (r *relayRun) facts(passages ...*passage) []Fact {
	return append(r.client.facts(), r.passageFacts(passages...)...)
}

func (r *relayRun) passageFacts(passages ...*passage) []Fact {
	var facts []Fact
	for _, p := range passages {
		if p.peer.IsValid() {
			facts = append(facts, Fact{p.via + "_peer", p.peer.String()})
		}
		facts = append(facts, Fact{p.via, p.outcome()})
		if p.crosses > 0 {
			facts = append(facts, Fact{p.via + "_unsolicited", p.unsolicited()})
		}
		if p.seen.IsValid() && p.seen != p.relayed {
			facts = append(facts, Fact{"relay_source", p.seen.String()})
		}
		if p.proven() {
			facts = append(facts, Fact{"echo_ms", millis(p.ended.Sub(p.started))}, Fact{"proven_ms", millis(p.ended.Sub(r.begun))})
			if rtt := r.client.rtt; rtt > 0 {
				trips := float64(p.ended.Sub(r.started)) / float64(rtt)
				facts = append(facts, Fact{"round_trips", strconv.FormatFloat(trips, 'f', 2, 64)})
			}
		}
	}
	return facts
}
