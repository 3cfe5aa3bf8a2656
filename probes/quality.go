package probes

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	defaultRate = 50
	maxRate     = 1000            // packets a second: a probe is no load test
	maxSeries   = 4 * time.Minute // a channel is bound for ten, a peer permitted for five (RFC 8656)
	lateness    = time.Second     // after the last send, for what is still on its way
)

// series sends numbered packets at an even pace through the relay and takes
// them back.
type series struct {
	near, far end // far echoes; without an inbox somebody else does
	session   uint64
	sent      []time.Time
	seen      []bool
	quality   Quality
	times     *hdrhistogram.Histogram // microseconds
	previous  time.Duration
}

// pace of the quality phase: how many packets, how far apart.
func (p TURN) pacing() (count int, every time.Duration) {
	rate := p.Rate
	if rate <= 0 || math.IsNaN(rate) {
		rate = defaultRate
	}
	every = time.Duration(float64(time.Second) / min(rate, maxRate))
	return min(p.Count, int(maxSeries/every)), max(every, 1)
}

// measure runs the quality phase. It has a time of its own.
func (r *relayRun) measure(near, far end) {
	count, every := r.pacing()
	if count <= 0 {
		return
	}
	s := &series{
		near: near, far: far, session: session(), seen: make([]bool, count),
		times: hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3),
	}
	ctx, cancel := context.WithTimeoutCause(r.parent, time.Duration(count)*every+2*lateness, errSilence)
	defer cancel()
	s.run(ctx, every)
	r.quality = s.result()
}

func (s *series) run(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	tick := ticker.C
	var late <-chan time.Time
	s.send()
	for s.quality.Received < len(s.seen) {
		select {
		case <-ctx.Done():
			return
		case <-late:
			return
		case <-tick:
			if s.send(); len(s.sent) == len(s.seen) {
				tick, late = nil, time.After(lateness)
			}
		case d := <-s.far.inbox:
			if m, ok := parseEcho(d.payload); ok && m.session == s.session && m.kind == askEcho {
				m.kind |= isReply
				s.far.send(m.encode())
			}
		case d := <-s.near.inbox:
			s.receive(d)
		}
	}
}

func (s *series) send() {
	if len(s.sent) == len(s.seen) {
		return
	}
	s.sent = append(s.sent, time.Now())
	s.near.send(echoMessage{kind: askEcho, session: s.session, number: uint32(len(s.sent) - 1)}.encode())
}

func (s *series) receive(d datagram) {
	m, ok := parseEcho(d.payload)
	if !ok || m.session != s.session || m.kind != askEcho|isReply || int(m.number) >= len(s.sent) {
		return
	}
	if s.seen[m.number] {
		s.quality.Duplicates++
		return
	}
	s.seen[m.number] = true
	took := time.Since(s.sent[m.number])
	_ = s.times.RecordValue(max(took.Microseconds(), 1)) // longer than a minute: not recorded
	if s.quality.Received > 0 {
		difference := math.Abs(float64(took-s.previous)) / float64(time.Millisecond)
		s.quality.Jitter += (difference - s.quality.Jitter) / 16 // RFC 3550 section 6.4.1
	}
	s.previous = took
	s.quality.Received++
}

func (s *series) result() *Quality {
	q := s.quality
	q.Sent = len(s.sent)
	q.Loss = 1 - float64(q.Received)/float64(q.Sent)
	at := func(percent float64) float64 { return float64(s.times.ValueAtPercentile(percent)) / 1000 }
	q.P50, q.P95, q.P99, q.Max = at(50), at(95), at(99), float64(s.times.Max())/1000
	return &q
}

// finding judges the loss.
func (q *Quality) finding(ctx context.Context, limits Limits) (Finding, bool) {
	if q == nil || 100*q.Loss < limits.LossWarn || interrupted(ctx) {
		return Finding{}, false
	}
	f := newFinding(CodeRelayLoss, q.detail())
	if 100*q.Loss < limits.LossFail {
		f.Verdict = Warn
	}
	return f, true
}

func (q *Quality) detail() string {
	return fmt.Sprintf("%d of %d packets, %.1f %%; round trip p99 %.1f ms", q.Sent-q.Received, q.Sent, 100*q.Loss, q.P99)
}
