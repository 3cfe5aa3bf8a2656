package mesh

import "time"

// estate is what a link that has ended leaves: the messages it had taken in
// charge, and what is known of those that came. A peer that signaling had lost
// for a while, and its connection with it, finds both again.
type estate struct {
	out *outbox
	in  *intake
	at  time.Time // the end of the link
}

// leaveEstate keeps what a link leaves for as long as a peer may be silent
// until it counts as lost. The caller holds a.mu.
func (a *Agent) leaveEstate(l *link) {
	for peer, e := range a.estates {
		if time.Since(e.at) > a.o.Timing.Partition {
			delete(a.estates, peer)
		}
	}
	if l.kind.Load() != kindPlain && len(a.estates) < maxLinks {
		a.estates[l.peer] = estate{l.out, l.in, time.Now()}
	}
}

// inherit gives what the last link to a peer left, or something new. The caller
// holds a.mu.
func (a *Agent) inherit(peer string) (*outbox, *intake) {
	e, left := a.estates[peer]
	delete(a.estates, peer)
	if left && time.Since(e.at) <= a.o.Timing.Partition {
		return e.out, e.in
	}
	return &outbox{stream: newStream(a.o.ID)}, &intake{}
}
