package probes

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// Servers that limit unauthenticated requests do so at ten a second and client
// address, and punish with silence, which would look like a dead server.
const (
	paceRequests = 8
	paceWindow   = time.Second
)

// Pace keeps the unauthenticated requests of many probes to one server's
// address below the rate that servers punish. Probes beyond it use the
// challenge that an earlier one was given, or wait. The zero value is ready.
type Pace struct {
	mu      sync.Mutex
	servers map[netip.Addr]*turnstile
}

type turnstile struct {
	sent       []time.Time // within the last window
	challenges map[netip.AddrPort]challenge
	news       chan struct{} // closed when a challenge has come
}

// challenge is what a server told in a 401.
type challenge struct{ realm, nonce string }

// enter waits until an unauthenticated request may be sent, which is the zero
// challenge, or returns one that makes it needless to a client who has
// credentials.
func (p *Pace) enter(ctx context.Context, server netip.AddrPort, signing bool) (challenge, error) {
	for p != nil {
		known, wait, news := p.try(server, time.Now(), signing)
		if wait == 0 {
			return known, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return challenge{}, context.Cause(ctx)
		case <-timer.C:
		case <-news:
			timer.Stop()
		}
	}
	return challenge{}, nil
}

func (p *Pace) try(server netip.AddrPort, now time.Time, signing bool) (known challenge, wait time.Duration, news <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.at(server.Addr())
	for len(t.sent) > 0 && now.Sub(t.sent[0]) >= paceWindow {
		t.sent = t.sent[1:]
	}
	if len(t.sent) < paceRequests {
		t.sent = append(t.sent, now)
		return challenge{}, 0, nil
	}
	if c, found := t.challenges[server]; found && signing {
		return c, 0, nil
	}
	return challenge{}, paceWindow - now.Sub(t.sent[0]), t.news
}

func (p *Pace) at(server netip.Addr) *turnstile {
	t := p.servers[server]
	if t == nil {
		t = &turnstile{challenges: map[netip.AddrPort]challenge{}, news: make(chan struct{})}
		if p.servers == nil {
			p.servers = map[netip.Addr]*turnstile{}
		}
		p.servers[server] = t
	}
	return t
}

// learn keeps a server's challenge for the others.
func (p *Pace) learn(server netip.AddrPort, c challenge) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.at(server.Addr())
	t.challenges[server] = c
	close(t.news)
	t.news = make(chan struct{})
}
