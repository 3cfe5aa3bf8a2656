package mesh

import "time"

// vigil watches whether a path is alive. It counts ticks of our own clock, not
// the time between them: a process that got no processor for a second has not
// listened for a second.
type vigil struct {
	heard     uint64        // channel messages so far
	bytes     uint64        // on the selected pair so far
	responses uint64        // to our connectivity checks so far
	quiet     int           // ticks since anything arrived
	flat      int           // ticks since a response arrived
	lag       time.Duration // how late our ticks come, at worst lately
	late      int           // ticks in a row that came late
	latest    time.Duration // round trip
	srtt      time.Duration // smoothed, RFC 6298 section 2
	rttvar    time.Duration
	asked     time.Time // when pion was
	last      time.Time // tick
}

const (
	// mostLag is what a process that stood still for hours counts for: a path
	// that died meanwhile is noticed soon after.
	mostLag = 5 * time.Second
	// alwaysLate is the number of late ticks in a row after which being late is
	// what the machine is like, and says nothing about a tick any more.
	alwaysLate = 8
)

// observe notes one tick. It tells whether the tick came in time; one that did
// not is no evidence.
func (v *vigil) observe(now time.Time, every time.Duration) bool {
	late := time.Duration(0)
	if !v.last.IsZero() {
		late = now.Sub(v.last) - every
	}
	v.last = now
	v.lag = max(v.lag-v.lag/32, min(late, mostLag))
	if late < every/2 {
		v.late = 0
		return true
	}
	v.late++
	return v.late > alwaysLate
}

// askEvery bounds how often pion is asked while messages tell already that the
// path lives.
const askEvery = 90 * time.Millisecond

// look asks the connection what has arrived.
func (v *vigil) look(c *connection, counts bool) {
	if counts {
		v.quiet, v.flat = v.quiet+1, v.flat+1
	}
	if heard := c.heard.Load(); heard != v.heard {
		v.heard, v.quiet = heard, 0
		if v.last.Sub(v.asked) < askEvery {
			return
		}
	}
	stats, ok := c.selectedStats()
	if !ok {
		return
	}
	v.asked = v.last
	if stats.BytesReceived != v.bytes {
		v.bytes, v.quiet = stats.BytesReceived, 0
	}
	if stats.ResponsesReceived != v.responses {
		v.responses, v.quiet, v.flat = stats.ResponsesReceived, 0, 0
		v.roundTrip(time.Duration(stats.CurrentRoundTripTime * float64(time.Second)))
	}
}

func (v *vigil) roundTrip(rtt time.Duration) {
	v.latest = rtt
	if v.srtt == 0 {
		v.srtt, v.rttvar = rtt, rtt/2
		return
	}
	v.rttvar += ((v.srtt - rtt).Abs() - v.rttvar) / 4
	v.srtt += (rtt - v.srtt) / 8
}

// slack is the silence that the path's round trip, its jitter and our own
// delays explain.
func (v *vigil) slack() time.Duration { return v.srtt + 4*v.rttvar + 2*v.lag }

// silent tells whether nothing has arrived for as long as a live path never
// stays silent.
func (v *vigil) silent(every, limit time.Duration) bool {
	return time.Duration(v.quiet)*every > limit+v.slack()
}

// deaf tells whether nothing has answered us for too long. pion stays connected
// for as long as it receives anything.
func (v *vigil) deaf(every, limit time.Duration) bool {
	return time.Duration(v.flat)*every > limit+v.slack()
}

// direction says what does not pass when the path is deaf, as far as that can
// be told: the peer does not hear us when it was heard later than the answer to
// a further check should have been. When both ways fail at once, the last that
// is heard comes within a keepalive (pion's can take two) of the last answer.
func (v *vigil) direction(every, keepalive time.Duration) string {
	if time.Duration(v.flat-v.quiet)*every > 2*keepalive+v.slack() {
		return "the peer does not hear us"
	}
	return "nothing received, and no check of ours answered"
}

// answered tells whether a response arrived within a few keepalives, so that
// latest is the round trip of now.
func (v *vigil) answered() bool { return v.latest > 0 && v.flat <= 6 }

// lately tells whether something arrived within a few ticks.
func (v *vigil) lately() bool { return v.quiet <= 4 }
