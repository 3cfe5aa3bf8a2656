package probes

import (
	"context"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"
)

// peer is our own second socket, in the role of the agent at the far end of a
// relay. Its Binding request runs beside the client's Allocate; it shows where
// the server sees the socket, and whether STUN answers when TURN does not.
type peer struct {
	socket *socket // nil when it could not be opened
	second *socket // to which the relay never sends; nil as well
	cancel context.CancelFunc
	done   chan struct{} // closed when mapped or err is known
	mapped netip.AddrPort
	err    error
}

// startPeer opens the socket on the address from which the server is reached.
func startPeer(ctx context.Context, local netip.Addr, server netip.AddrPort, schedule Schedule) *peer {
	p := &peer{done: make(chan struct{})}
	ctx, p.cancel = context.WithCancel(ctx)
	p.socket, p.err = openSocket("stun", local, server, schedule)
	if p.err != nil {
		close(p.done)
		return p
	}
	p.second, _ = openSocket("stun", local, server, schedule) // without it, less is proven
	go func() {
		defer close(p.done)
		var x exchange
		x, p.err = p.socket.binding(ctx)
		p.mapped = x.reply.mapped
	}()
	return p
}

// address waits for the server-reflexive address of the peer.
func (p *peer) address(ctx context.Context) (netip.AddrPort, error) {
	select {
	case <-p.done:
		return p.mapped, p.err
	case <-ctx.Done():
		return netip.AddrPort{}, context.Cause(ctx)
	}
}

// answered tells whether the server has answered the Binding request by now,
// or else who did in its place.
func (p *peer) answered() (elsewhere netip.AddrPort, yes bool) {
	select {
	case <-p.done:
		yes = p.err == nil
	default:
	}
	if p.socket != nil {
		p.socket.mu.Lock()
		defer p.socket.mu.Unlock()
		elsewhere = p.socket.elsewhere
	}
	return elsewhere, yes
}

func (p *peer) close() {
	p.cancel()
	<-p.done
	for _, s := range []*socket{p.socket, p.second} {
		if s != nil {
			s.close()
		}
	}
}

// binding asks the server where it sees the socket (RFC 8489 section 2).
func (s *socket) binding(ctx context.Context) (exchange, error) {
	request, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	if err != nil {
		return exchange{}, err
	}
	t := transaction{socket: s, request: request}
	started := time.Now()
	x, err := t.run(ctx)
	switch {
	case err != nil:
		return exchange{}, err
	case x.reply.code != 0:
		return x, t.refused(x.reply, CodeSTUNRefused)
	case !x.reply.mapped.IsValid():
		return x, &Refusal{
			Code: CodeSTUNGarbled, Step: stun.MethodBinding.String(), Server: s.server.String(),
			Reason: "answered without a mapped address", After: time.Since(started),
		}
	}
	return x, nil
}
