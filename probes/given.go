package probes

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

// given proves the relay by an echo peer elsewhere. The peer is asked directly
// as well: only what is known to be there can show that a relay is broken.
func (r *relayRun) given(ctx context.Context) passage {
	p := passage{via: "peer", peer: r.Peer, relayed: r.client.relayed, started: time.Now()}
	local := netip.IPv4Unspecified()
	if r.Peer.Addr().Unmap().Is6() {
		local = netip.IPv6Unspecified()
	}
	direct, err := openSocket("stun", local, r.Peer, r.client.socket.schedule)
	if err != nil {
		p.err = err
		return p
	}
	defer direct.close()
	q := inquiry{passage: &p, near: r.client.end(givenChannel, r.Peer), direct: direct, session: session()}
	q.run(ctx, r.client.socket.schedule.First)
	if p.proven() && r.Count > 0 {
		r.measure(q.near, end{})
	}
	return p
}

// inquiry is the exchange with an echo peer, through the relay and beside it.
type inquiry struct {
	*passage
	near    end
	direct  *socket
	session uint64
}

func session() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}

func (q *inquiry) message(kind echoKind) []byte {
	return echoMessage{kind: kind, session: q.session}.encode()
}

func (q *inquiry) throughRelay() {
	q.near.send(q.message(askEcho))
	q.near.send(q.message(askCross))
	q.crosses++
}

func (q *inquiry) beside() {
	for _, kind := range []echoKind{askCount, askCross} {
		m := q.message(kind)
		if kind == askCross { // one that must not count as having come through the relay
			m = echoMessage{kind: kind, session: ^q.session}.encode()
		}
		_ = q.direct.writeTo(m, q.peer)
	}
}

// run asks until all is answered, or until the relay has had its time since
// the peer first answered.
func (q *inquiry) run(ctx context.Context, retry time.Duration) {
	q.tried, q.started = true, time.Now()
	ctx, cancel := context.WithCancel(ctx)
	bound, sent := make(chan error, 1), make(chan struct{}, 8)
	var binding sync.WaitGroup
	binding.Go(func() { bound <- q.near.bind(ctx, func() { deliver(sent, struct{}{}) }) })
	q.beside()
	resend := time.NewTimer(retry)
	defer resend.Stop()
	var settled *patience
	for over := false; !over && ctx.Err() == nil && q.err == nil; {
		select {
		case <-ctx.Done():
		case <-settled.fired():
			over = settled.over()
		case <-sent:
			q.throughRelay()
		case q.err = <-bound:
			q.throughRelay()
		case <-resend.C:
			q.throughRelay()
			q.beside()
			retry = q.nextRetry(retry)
			resend.Reset(retry)
		case d := <-q.direct.data:
			q.hearsDirect(d)
		case d := <-q.near.inbox:
			q.hearsRelay(d)
		}
		q.note()
		if settled == nil && (q.reached || q.out) {
			settled = startPatience(settling)
			defer settled.Stop()
		}
		if q.proven() && retry > settling/12 {
			retry = settling / 12
			resend.Reset(retry)
		}
		over = over || q.proven() && q.inbound
	}
	if q.ended.IsZero() {
		q.ended = time.Now()
	}
	cancel()
	binding.Wait()
}

func (q *inquiry) hearsRelay(d datagram) {
	m, ok := parseEcho(d.payload)
	if !ok || m.session != q.session {
		return
	}
	switch m.kind {
	case askEcho | isReply:
		q.out, q.back, q.seen = true, true, m.source
	case askCross | isReply:
		q.inbound = true
	}
}

func (q *inquiry) hearsDirect(d datagram) {
	m, ok := parseEcho(d.payload)
	switch {
	case !ok:
	case m.kind == askCount|isReply && m.session == q.session:
		q.reached = true
		if m.count > 0 {
			q.out, q.seen = true, m.source
		}
	case m.kind == askCross|isReply && m.session == ^q.session:
		q.second = true
	}
}
