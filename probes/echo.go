package probes

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/netip"
	"sync"
	"time"
)

const ( // channel numbers, RFC 8656 section 12
	reflexiveChannel = 0x4000
	hairpinChannel   = 0x4001
)

// end is one side of a relay.
type end struct {
	inbox <-chan datagram
	send  func(payload []byte)                               // towards the other side; loss is noticed there
	bind  func(ctx context.Context, sent func()) (err error) // nil where no channel is needed to send
}

// passage is what became of the data between two ends. Each end sends a random
// payload of its own, so that one flight proves both directions; the far end
// answers each payload it gets as well, so that an early loss costs no timer.
type passage struct {
	via     string         // what played the far end
	peer    netip.AddrPort // the far end as the relay addresses it
	relayed netip.AddrPort // the relay as it announced itself
	tried   bool           // the far end was there; else err says why not
	out     bool           // the far end has the near end's payload
	back    bool           // and the near end the far one's
	seen    netip.AddrPort // source that the far end saw; not valid when a channel hid it
	err     error          // why no data could pass
	started time.Time
	ended   time.Time // both payloads had arrived, or it was given up
}

func (p *passage) proven() bool { return p.out && p.back }

// denied tells that the server's policy is against this far end.
func (p *passage) denied() bool { return refusalCode(p.err) == CodePeerDenied }

// mismatched tells that the data came from another address than the announced
// one. Where a channel hides the source it cannot be told.
func (p *passage) mismatched() bool { return p.seen.IsValid() && p.seen != p.relayed }

// pass sends data both ways until it has arrived or ctx ends.
func (p *passage) pass(ctx context.Context, near, far end, retry time.Duration) {
	p.tried = true
	p.started = time.Now()
	out, back := payload(), payload()
	sendBoth := func() { near.send(out); far.send(back) }
	ctx, cancel := context.WithCancel(ctx)
	bound := make(chan error, 2)
	var binding sync.WaitGroup
	bind := func(e end, sent func()) { binding.Go(func() { bound <- e.bind(ctx, sent) }) }
	if far.bind == nil {
		bind(near, sendBoth)
	} else {
		bind(near, func() { near.send(out) })
		bind(far, func() { far.send(back) })
	}
	resend := time.NewTimer(retry)
	defer resend.Stop()
	for !p.proven() && !p.mismatched() && p.err == nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case p.err = <-bound:
			sendBoth()
		case <-resend.C:
			sendBoth()
			retry *= 2
			resend.Reset(retry)
		case d := <-far.inbox:
			if bytes.Equal(d.payload, out) {
				p.out, p.seen = true, d.from
				far.send(back)
			}
		case d := <-near.inbox:
			p.back = p.back || bytes.Equal(d.payload, back)
		}
	}
	p.ended = time.Now()
	cancel()
	binding.Wait()
	close(bound)
	for err := range bound {
		if p.err == nil && !p.proven() && !p.mismatched() {
			p.err = err
		}
	}
}

// outcome says in a few words how it went.
func (p *passage) outcome() string {
	switch {
	case p.proven():
		return "data both ways"
	case p.out:
		return "data out, none back"
	case p.back:
		return "data back, none out"
	case p.denied():
		return "denied by the server"
	case p.err != nil && refusalCode(p.err) != "":
		return "not possible: " + refusalCode(p.err)
	case p.err != nil:
		return "not possible: " + p.err.Error()
	}
	return "no data"
}

// payload is random, and starts like neither STUN nor ChannelData.
func payload() []byte {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails
	copy(b, "meshctl ")
	return b
}

func (c *client) end(channel uint16, peer netip.AddrPort) end {
	return end{
		inbox: c.socket.data,
		send:  func(b []byte) { _ = c.socket.write(channelData(channel, b)) },
		bind:  func(ctx context.Context, sent func()) error { return c.bind(ctx, channel, peer, sent) },
	}
}

func (p *peer) end(relayed netip.AddrPort) end {
	return end{
		inbox: p.socket.data,
		send:  func(b []byte) { _ = p.socket.writeTo(b, relayed) },
	}
}
