package mesh

import (
	"math/bits"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// probe measures a link with the heartbeats of both sides: round trip, jitter,
// and loss of each direction. Nothing retransmits heartbeats.
type probe struct {
	mu       sync.Mutex
	epoch    time.Time // see clock
	sent     int64     // heartbeats
	first    int64     // of the peer's that we count from
	got      int64     // of these
	highest  int64     // of the peer's that arrived
	at       int64     // as that heartbeat had it
	arrived  time.Time
	window   uint64 // bit i: heartbeat highest-i arrived
	rtt      time.Duration
	rttAt    time.Time
	transit  time.Duration // of the latest heartbeat, by clocks that differ
	jitter   time.Duration // RFC 3550 section 6.4.1
	measured bool          // jitter
	lossTx   float64       // as the peer last said
	known    bool          // lossTx
}

// clock is the time of day as nanoseconds since 1970, but for ever by the clock
// that was right at the first call: one that is set while we run must look
// neither like a round trip nor like jitter.
func (p *probe) clock(now time.Time) int64 {
	if p.epoch.IsZero() {
		p.epoch = now
	}
	return p.epoch.UnixNano() + int64(now.Sub(p.epoch))
}

// next is the heartbeat to send now.
func (p *probe) next(now time.Time) wire.Ext {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent++
	x := wire.Ext{Type: wire.ExtHeartbeat, Seq: p.sent, At: p.clock(now)}
	if p.highest > 0 {
		x.Echo = &wire.ExtEcho{Seq: p.highest, At: p.at, Held: int64(max(0, now.Sub(p.arrived))), Loss: p.loss()}
	}
	return x
}

// loss is the share of the peer's recent heartbeats that did not arrive.
func (p *probe) loss() float64 {
	n := min(p.highest, 64)
	if n == 0 {
		return 0
	}
	return 1 - float64(min(int64(bits.OnesCount64(p.window)), n))/float64(n)
}

// total counts the peer's heartbeats so far and those that did not arrive.
func (p *probe) total() (sent, lost int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.highest == 0 {
		return 0, 0
	}
	sent = p.highest - p.first + 1
	return sent, max(0, sent-p.got)
}

// take notes a heartbeat of the peer.
func (p *probe) take(x wire.Ext, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch ahead := x.Seq - p.highest; {
	case ahead > 0:
		if p.got++; p.highest == 0 { // what came before we listened was not lost
			p.first = x.Seq
			p.window = ^uint64(0)
		} else if ahead < 64 {
			p.window = p.window<<ahead | 1
		} else {
			p.window = 1
		}
		p.highest, p.at, p.arrived = x.Seq, x.At, now
	case ahead < -64*2: // the peer has started over
		p.highest, p.at, p.arrived, p.window = x.Seq, x.At, now, ^uint64(0)
		p.first, p.got = x.Seq, 1
	case ahead > -64:
		if p.window&(1<<-ahead) == 0 {
			p.got++
		}
		p.window |= 1 << -ahead
	}
	p.spread(time.Duration(p.clock(now) - x.At))
	if x.Echo == nil || x.Echo.Seq > p.sent {
		return
	}
	p.lossTx, p.known = x.Echo.Loss, true
	if rtt := time.Duration(p.clock(now) - x.Echo.At - x.Echo.Held); rtt >= 0 {
		p.rtt, p.rttAt = rtt, now
	}
}

func (p *probe) spread(transit time.Duration) {
	if p.transit != 0 {
		p.jitter += ((transit - p.transit).Abs() - p.jitter) / 16
		p.measured = true
	}
	p.transit = transit
}

// describe adds what was measured.
func (p *probe) describe(d *wire.Link, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.rttAt.IsZero() {
		rtt, age := millis(p.rtt), max(0, millis(now.Sub(p.rttAt)))
		if d.RTTAgeMillis == nil || age < *d.RTTAgeMillis {
			d.RTTMillis, d.RTTAgeMillis = &rtt, &age
		}
	}
	if p.measured {
		jitter := millis(p.jitter)
		d.JitterMillis = &jitter
	}
	if p.known {
		tx := p.lossTx
		d.LossTx = &tx
	}
	if p.highest > 0 {
		rx := p.loss()
		d.LossRx = &rx
	}
}
