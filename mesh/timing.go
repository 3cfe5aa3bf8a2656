package mesh

import "time"

// Timing holds every interval of an agent. Zero fields mean DefaultTiming's.
type Timing struct {
	Disconnected time.Duration // silence until a link counts as disconnected, beside what its round trip explains
	Failed       time.Duration // ICE: further silence until it counts as failed
	Keepalive    time.Duration // ICE: one binding request per interval
	Heartbeat    time.Duration // between our own agents
	RTOMax       time.Duration // SCTP: longest retransmission wait, which is what an outage costs beyond itself
	Connect      time.Duration // one connection attempt with one TURN server
	Fallback     time.Duration // how long a direct path is waited for before a relay is used
	OfferSilence time.Duration // how long the larger id waits for the smaller id's offer
	Quality      time.Duration // between two connection_quality_update events of a link

	TURNHealth time.Duration // between two checks of a TURN server
	TURNAgain  time.Duration // until the check after a first failed one
	TURNHold   time.Duration // how long a TURN server stays out that was marked unhealthy

	Register time.Duration // one connect-and-register attempt at a signaling server
	Ping     time.Duration // between two WebSocket pings; proxies cut idle sockets after about 60 s
	Spread   time.Duration // after a lost socket the next attempt comes within this, at random: the others lost theirs too
	Return   time.Duration // between two looks whether a better signaling server is back
	Backoff  time.Duration // first wait after a whole list of servers failed; doubles up to 30 times this

	PartitionCheck time.Duration // between two looks at the silence of a link
	Partition      time.Duration // silence that is a partition
	HealingUnit    time.Duration // the second of the healing schedule: attempts at 0, 2, 6 ... 1022 of it
	HealingAttempt time.Duration // one attempt of it
}

// DefaultTiming is for production: WAN round trips, ICE times as browsers have them.
func DefaultTiming() Timing {
	return Timing{
		Disconnected: 5 * time.Second,
		Failed:       25 * time.Second,
		Keepalive:    2 * time.Second,
		Heartbeat:    time.Second,
		RTOMax:       time.Second, // above any usable round trip: shorter ones send again what is on its way, until maxRetransmits is used up
		Connect:      5 * time.Second,
		Fallback:     5 * time.Second,
		OfferSilence: 2 * time.Second,
		Quality:      2 * time.Second,

		TURNHealth: 30 * time.Second,
		TURNAgain:  1500 * time.Millisecond,
		TURNHold:   time.Minute,

		Register: 5 * time.Second,
		Ping:     20 * time.Second,
		Spread:   250 * time.Millisecond,
		Return:   30 * time.Second,
		Backoff:  time.Second,

		PartitionCheck: 5 * time.Second,
		Partition:      30 * time.Second,
		HealingUnit:    time.Second,
		HealingAttempt: 10 * time.Second,
	}
}

// LabTiming is for a mesh on loopback: a dead relay is noticed in less than
// half a second.
func LabTiming() Timing {
	t := DefaultTiming()
	t.Disconnected = 300 * time.Millisecond
	t.Failed = 1500 * time.Millisecond
	t.Keepalive = 100 * time.Millisecond
	t.Heartbeat = 200 * time.Millisecond
	t.RTOMax = 300 * time.Millisecond
	t.Connect = time.Second
	t.Fallback = 500 * time.Millisecond
	t.OfferSilence = time.Second
	t.TURNHealth = time.Second
	t.TURNAgain = 300 * time.Millisecond
	t.TURNHold = 2 * time.Second
	t.Register = 2 * time.Second
	t.Ping = time.Second
	t.Spread = 100 * time.Millisecond
	t.Return = 2 * time.Second
	t.Backoff = 100 * time.Millisecond
	return t
}

// ScalePartition is t with another measure for partitions: 0.1 makes the
// silence of 30 s one of 3 s and every second of the schedule a tenth.
func (t Timing) ScalePartition(factor float64) Timing {
	t = t.orDefault()
	for _, d := range []*time.Duration{&t.PartitionCheck, &t.Partition, &t.HealingUnit, &t.HealingAttempt} {
		*d = max(time.Millisecond, time.Duration(float64(*d)*factor))
	}
	return t
}

// orDefault replaces every zero field by the default.
func (t Timing) orDefault() Timing {
	d := DefaultTiming()
	for _, f := range []struct{ field, def *time.Duration }{
		{&t.Disconnected, &d.Disconnected}, {&t.Failed, &d.Failed}, {&t.Keepalive, &d.Keepalive},
		{&t.Heartbeat, &d.Heartbeat}, {&t.RTOMax, &d.RTOMax}, {&t.Connect, &d.Connect},
		{&t.Fallback, &d.Fallback}, {&t.OfferSilence, &d.OfferSilence}, {&t.Quality, &d.Quality},
		{&t.TURNHealth, &d.TURNHealth}, {&t.TURNAgain, &d.TURNAgain}, {&t.TURNHold, &d.TURNHold},
		{&t.Register, &d.Register}, {&t.Ping, &d.Ping}, {&t.Spread, &d.Spread}, {&t.Return, &d.Return}, {&t.Backoff, &d.Backoff},
		{&t.PartitionCheck, &d.PartitionCheck}, {&t.Partition, &d.Partition},
		{&t.HealingUnit, &d.HealingUnit}, {&t.HealingAttempt, &d.HealingAttempt},
	} {
		if *f.field <= 0 {
			*f.field = *f.def
		}
	}
	return t
}
