package probes

import (
	"context"
	"errors"
	"time"

	"github.com/coder/websocket"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// probeSDP is the body of an offer that nobody answers. (RFC 8866 section 5)
const probeSDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"

// cross finds out whether two servers share a registry: an offer from an agent
// of one to an agent of the other must arrive. With separate registries a
// failover splits the mesh while everything looks well.
func (p Signaling) cross(ctx context.Context, me *member) Finding {
	bounded, cancel := QuickSchedule().bounded(ctx, p.Timeout)
	defer cancel()
	facts := []Fact{{"from", p.URL}, {"to", p.Other}}
	other, err := p.join(bounded, p.Other, p.ID+"-far")
	if err != nil {
		return newFinding(CodeRegistryUnproven, "the other server: "+err.Error(), facts...)
	}
	defer other.leave()
	offer := wire.Signal{
		Type: wire.TypeOffer, From: me.id, To: other.id,
		Offer: &wire.SessionDescription{Type: "offer", SDP: probeSDP},
	}
	if err := me.conn.Write(bounded, websocket.MessageText, offer.Encode()); err != nil {
		return newFinding(CodeRegistryUnproven, innermost(err), facts...)
	}
	return p.arrival(bounded, me, other, facts)
}

// arrival waits for the offer at the far server, or for its refusal at ours.
func (p Signaling) arrival(ctx context.Context, me, other *member, facts []Fact) Finding {
	arrived, refused := make(chan error, 1), make(chan error, 1)
	step := signalingStep{name: "offer", server: other.server, started: time.Now()}
	go func() {
		_, err := other.await(ctx, step, func(s wire.Signal) bool { return s.Type == wire.TypeOffer && s.From == me.id })
		arrived <- err
	}()
	go func() {
		_, err := me.await(ctx, step, func(wire.Signal) bool { return false })
		refused <- err
	}()
	var errArrived, errRefused error
	select {
	case errArrived = <-arrived:
		me.leave()
		errRefused = <-refused
	case errRefused = <-refused:
		other.leave()
		errArrived = <-arrived
	}
	var refusal *Refusal
	switch {
	case errArrived == nil:
		return newFinding(CodeRegistryShared, "", append(facts, Fact{"offer_ms", millis(time.Since(step.started))})...)
	case errors.As(errRefused, &refusal) && refusal.Code == CodeSignalingError:
		return newFinding(CodeRegistrySeparate, refusal.Reason, facts...)
	case interrupted(ctx):
		return newFinding(CodeProbeInterrupted, "", facts...)
	}
	return newFinding(CodeRegistryUnproven, "the offer neither arrived nor was refused", facts...)
}
