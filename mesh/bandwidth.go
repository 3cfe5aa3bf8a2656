package mesh

import (
	"errors"
	"sync"
	"time"
)

// Bandwidth bounds what an agent sends to each of its peers.
type Bandwidth struct {
	// Adapt lowers the rate where the path loses packets and raises it again
	// where it does not. Data channels know no forward error correction: what
	// is lost is sent again, which a path that is full cannot take.
	Adapt bool
	Most  float64 // bits per second; 0: no bound, and 10 Mbit/s with Adapt
}

const (
	adaptMost  = 10e6 // bits per second
	adaptLeast = 64e3
	// The loss-based part of Google congestion control: below the first limit
	// the rate rises, above the second it falls, between them it stays.
	lossLow, lossHigh = 0.02, 0.10
	riseBy            = 1.08
	burst             = 250 * time.Millisecond // of the rate can be sent at once
)

// ErrPaced says that a message was not taken, because the link may not send
// more now.
var ErrPaced = errors.New("over the bitrate that the link may send")

// SetBandwidth bounds all links from now on; the zero Bandwidth frees them.
func (a *Agent) SetBandwidth(b Bandwidth) {
	a.bandwidth.Store(&b)
	for _, l := range a.allLinks() {
		l.pacer.set(b)
	}
}

// Bitrate is what may be sent to a peer now, in bits per second; 0: as much as
// the channel takes.
func (a *Agent) Bitrate(peer string) float64 {
	if l := a.existing(peer); l != nil {
		return l.pacer.limit()
	}
	return 0
}

// pacer is the token bucket of one link.
type pacer struct {
	mu     sync.Mutex
	by     Bandwidth
	rate   float64 // bits per second; 0: free
	tokens float64 // bits
	at     time.Time
}

func (p *pacer) set(b Bandwidth) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.Adapt && b.Most <= 0 {
		b.Most = adaptMost
	}
	p.by, p.rate = b, b.Most
	p.tokens = p.rate * burst.Seconds()
}

func (p *pacer) limit() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate
}

// take tells whether a message may be sent now. One that is longer than a
// whole burst may when nothing was sent for a while.
func (p *pacer) take(bytes int, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate <= 0 {
		return true
	}
	most := p.rate * burst.Seconds()
	if !p.at.IsZero() {
		p.tokens = min(most, p.tokens+p.rate*now.Sub(p.at).Seconds())
	}
	p.at = now
	if bits := 8 * float64(bytes); p.tokens >= min(bits, most) {
		p.tokens -= bits
		return true
	}
	return false
}

// adapt follows the loss of what we send, as the peer measured it.
func (p *pacer) adapt(loss float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.by.Adapt:
	case loss > lossHigh:
		p.rate = max(p.rate*(1-loss/2), min(adaptLeast, p.by.Most))
	case loss < lossLow:
		p.rate = min(p.rate*riseBy, p.by.Most)
	}
}
