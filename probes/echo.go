package probes

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

const ( // channel numbers, RFC 8656 section 12
	reflexiveChannel = 0x4000
	hairpinChannel   = 0x4001
	givenChannel     = 0x4002
)

// settling is how long the rest of what was sent may follow its first part.
const settling = 1250 * time.Millisecond

// end is one side of a relay.
type end struct {
	inbox  <-chan datagram
	send   func(payload []byte)                               // towards the other side; loss is noticed there
	bind   func(ctx context.Context, sent func()) (err error) // nil where no channel is needed to send
	cross  func(payload []byte)                               // as send, from a port that the relay has never sent to; nil where there is none
	detour func(payload []byte, to netip.AddrPort)            // to where data came from, if that is not the relay's address
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
	crosses int            // packets that the far end sent unasked, from another port
	inbound bool           // one of these has come
	detour  bool           // what was sent to the source of the data has come
	seen    netip.AddrPort // source that the far end saw; not valid when a channel hid it
	reached bool           // the far end answers without the relay
	second  bool           // and so does its other port
	err     error          // why no data could pass
	started time.Time
	ended   time.Time // data had passed both ways, or it was given up
}

func (p *passage) proven() bool { return p.out && p.back }

// denied tells that the server's policy is against this far end.
func (p *passage) denied() bool { return refusalCode(p.err) == CodePeerDenied }

// mismatched tells that the data came from another address than the announced
// one, where nothing can be sent to. Where a channel hides the source it cannot
// be told.
func (p *passage) mismatched() bool { return p.displaced() && !p.back }

// displaced tells that the data came from another address than the announced
// one, whether that works as well or not.
func (p *passage) displaced() bool { return p.seen.IsValid() && p.seen != p.relayed }

// done tells that nothing more is awaited.
func (p *passage) done(far end) bool {
	return p.err != nil || p.proven() && (p.inbound || far.cross == nil)
}

// note sets the time at which data had passed both ways.
func (p *passage) note() {
	if p.proven() && p.ended.IsZero() {
		p.ended = time.Now()
	}
}

// flight is what the two ends send, each payload random.
type flight struct {
	near, far                end
	out, back, cross, detour []byte
	passage                  *passage
}

func (f *flight) nearSends() { f.near.send(f.out) }

func (f *flight) farSends() {
	f.far.send(f.back)
	if f.far.cross != nil {
		f.passage.crosses++
		f.far.cross(f.cross)
	}
}

// arrivesFar takes what the relay brought to the far end.
func (f *flight) arrivesFar(d datagram) {
	p := f.passage
	if !bytes.Equal(d.payload, f.out) {
		return
	}
	p.out, p.seen = true, d.from
	f.farSends()
	if p.mismatched() && f.far.detour != nil {
		f.far.detour(f.detour, p.seen)
	}
}

func (f *flight) arrivesNear(d datagram) {
	p := f.passage
	p.back = p.back || bytes.Equal(d.payload, f.back)
	p.inbound = p.inbound || bytes.Equal(d.payload, f.cross)
	p.detour = p.detour || bytes.Equal(d.payload, f.detour)
}

// pass sends data both ways until all of it has arrived, the rest does not
// follow the first part, or ctx ends.
func (p *passage) pass(ctx context.Context, near, far end, retry time.Duration) {
	p.tried = true
	p.started = time.Now()
	f := &flight{near, far, payload(), payload(), payload(), payload(), p}
	ctx, cancel := context.WithCancel(ctx)
	bound := make(chan error, 2)
	sent := make(chan func(), 8) // the binding goroutines send nothing themselves: the passage is not theirs
	var binding sync.WaitGroup
	bind := func(e end, then func()) {
		binding.Go(func() { bound <- e.bind(ctx, func() { deliver(sent, then) }) })
	}
	both := func() { f.nearSends(); f.farSends() }
	if far.bind == nil {
		bind(near, both)
	} else {
		bind(near, f.nearSends)
		bind(far, f.farSends)
	}
	p.follow(ctx, f, bound, sent, retry)
	if p.ended.IsZero() {
		p.ended = time.Now()
	}
	cancel()
	binding.Wait()
	close(bound)
	for err := range bound {
		if p.err == nil && !p.proven() && !p.mismatched() {
			p.err = err
		}
	}
}

func (p *passage) follow(ctx context.Context, f *flight, bound <-chan error, sent <-chan func(), retry time.Duration) {
	resend := time.NewTimer(retry)
	defer resend.Stop()
	var settled *patience
	for !p.done(f.far) && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-settled.fired():
			if settled.over() {
				return
			}
		case send := <-sent:
			send()
		case p.err = <-bound:
			f.nearSends()
			f.farSends()
		case <-resend.C:
			f.nearSends()
			f.farSends()
			retry = p.nextRetry(retry)
			resend.Reset(retry)
		case d := <-f.far.inbox:
			f.arrivesFar(d)
		case d := <-f.near.inbox:
			f.arrivesNear(d)
		}
		p.note()
		if settled == nil && (p.out || p.back || p.inbound) {
			settled = startPatience(settling)
			defer settled.Stop()
		}
		if p.proven() && retry > settling/12 {
			retry = settling / 12
			resend.Reset(retry)
		}
	}
}

// nextRetry doubles the pause. Where only the unasked packets are missing, they
// go out in quick succession: what is lost by chance must not look like closed.
func (p *passage) nextRetry(last time.Duration) time.Duration {
	if p.proven() {
		return settling / 12
	}
	return 2 * last
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

// unsolicited says what became of the packets that nobody had asked for.
func (p *passage) unsolicited() string {
	if p.inbound {
		return "arrived"
	}
	return p.crossed()
}

func (p *passage) crossed() string { return fmt.Sprintf("0 of %d arrived", p.crosses) }

func (p *passage) mismatch() string {
	detail := fmt.Sprintf("announced %s, seen %s", p.relayed, p.seen)
	if p.detour {
		detail += ", where data can be sent to"
	}
	return detail
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
	e := end{
		inbox:  p.socket.data,
		send:   func(b []byte) { _ = p.socket.writeTo(b, relayed) },
		detour: func(b []byte, to netip.AddrPort) { _ = p.socket.writeTo(b, to) },
	}
	if p.second != nil {
		e.cross = func(b []byte) { _ = p.second.writeTo(b, relayed) }
	}
	return e
}
