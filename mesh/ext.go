package mesh

import (
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

const (
	// ackDelay collects acknowledgements, and maxAcks of them fit one packet.
	ackDelay = 20 * time.Millisecond
	maxAcks  = 32
	// recognition is how long our own agents have to open the ext channel.
	recognition = 2 * time.Second
)

// identify has the peer count as a plain agent when it has not shown in time
// that it is one of ours.
func (l *link) identify(now time.Time) {
	c := l.conn
	if l.kind.Load() != kindUnknown || !l.up || now.Sub(c.upSince) < recognition {
		return
	}
	if l.kind.CompareAndSwap(kindUnknown, kindPlain) {
		l.out.plain()
	}
}

// beat sends a heartbeat, if the peer is or may be one of ours.
func (l *link) beat(c *connection) {
	if c == nil {
		return
	}
	ext := c.ext.Load()
	if !ext.open() {
		return
	}
	x := l.probe.next(time.Now())
	x.Stream = l.out.position()
	_ = ext.send(x.Encode()) // lost like any other
}

// receiveExt handles one frame of the ext channel. Peers that do not tell
// channels apart send messages on it.
func (l *link) receiveExt(c *connection, data []byte, now time.Time) {
	x, err := wire.DecodeExt(data)
	if err != nil {
		l.deliver(c, data, now)
		return
	}
	if l.kind.Swap(kindOurs) != kindOurs {
		l.beat(c)
	}
	switch x.Type {
	case wire.ExtHeartbeat:
		l.probe.take(x, now)
		if x.Stream != nil {
			l.in.advance(*x.Stream, l.hand)
		}
	case wire.ExtAck:
		l.out.ack(x.IDs, now)
	}
}

// acknowledge sends what has gathered.
func (l *link) acknowledge() {
	ids := l.in.acks()
	c := l.sending()
	if c == nil || len(ids) == 0 {
		return // the peer sends the messages again
	}
	for len(ids) > 0 {
		n := min(len(ids), maxAcks)
		x := wire.Ext{Type: wire.ExtAck, IDs: ids[:n]}
		if c.ext.Load() == nil || c.ext.Load().send(x.Encode()) != nil {
			return
		}
		ids = ids[n:]
	}
}

// resend gives messages again that were not acknowledged in time, and those
// that had to wait.
func (l *link) resend() {
	if c := l.conn; l.up {
		l.out.repeat(c, time.Now())
	}
}
