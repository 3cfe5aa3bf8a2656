package mesh

import "time"

// Timing holds every interval of an agent. Zero fields mean DefaultTiming's.
type Timing struct {
	Disconnected time.Duration // ICE: silence until a link counts as disconnected
	Failed       time.Duration // ICE: further silence until it counts as failed
	Keepalive    time.Duration // ICE: one binding request per interval
	RTOMax       time.Duration // SCTP: longest retransmission wait, which is what an outage costs beyond itself
	Connect      time.Duration // one connection attempt with one TURN server
	OfferSilence time.Duration // how long the larger id waits for the smaller id's offer
	TURNHealth   time.Duration // between two checks of a TURN server
	Quality      time.Duration // between two connection_quality_update events of a link
	Register     time.Duration // one connect-and-register attempt at a signaling server
	Ping         time.Duration // between two WebSocket pings; proxies cut idle sockets after about 60 s
	Backoff      time.Duration // first wait after a whole list of servers failed; doubles up to 30 times this
}

// DefaultTiming is for production: WAN round trips, ICE times as browsers have them.
func DefaultTiming() Timing {
	return Timing{
		Disconnected: 5 * time.Second,
		Failed:       25 * time.Second,
		Keepalive:    2 * time.Second,
		RTOMax:       300 * time.Millisecond,
		Connect:      5 * time.Second,
		OfferSilence: 2 * time.Second,
		TURNHealth:   30 * time.Second,
		Quality:      2 * time.Second,
		Register:     5 * time.Second,
		Ping:         20 * time.Second,
		Backoff:      time.Second,
	}
}

// LabTiming is for a mesh on loopback: a dead relay is noticed in half a second.
func LabTiming() Timing {
	return Timing{
		Disconnected: 500 * time.Millisecond,
		Failed:       1500 * time.Millisecond,
		Keepalive:    100 * time.Millisecond,
		RTOMax:       300 * time.Millisecond,
		Connect:      time.Second,
		OfferSilence: time.Second,
		TURNHealth:   time.Second,
		Quality:      2 * time.Second,
		Register:     2 * time.Second,
		Ping:         time.Second,
		Backoff:      100 * time.Millisecond,
	}
}

// orDefault replaces every zero field by the default.
func (t Timing) orDefault() Timing {
	d := DefaultTiming()
	for _, f := range []struct{ field, def *time.Duration }{
		{&t.Disconnected, &d.Disconnected}, {&t.Failed, &d.Failed}, {&t.Keepalive, &d.Keepalive},
		{&t.RTOMax, &d.RTOMax}, {&t.Connect, &d.Connect}, {&t.OfferSilence, &d.OfferSilence},
		{&t.TURNHealth, &d.TURNHealth}, {&t.Quality, &d.Quality}, {&t.Register, &d.Register},
		{&t.Ping, &d.Ping}, {&t.Backoff, &d.Backoff},
	} {
		if *f.field <= 0 {
			*f.field = *f.def
		}
	}
	return t
}
