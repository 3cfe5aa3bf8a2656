package mesh

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

const (
	maxWaiting  = 4096    // reliable messages of one link not acknowledged yet
	maxHeld     = 4 << 20 // their bytes
	resendCheck = 100 * time.Millisecond
	resendAfter = 500 * time.Millisecond // at least; the channel itself retransmits sooner
	resendMost  = 5 * time.Second
)

// ErrFull says that a peer has not acknowledged the messages sent before.
var ErrFull = errors.New("too many messages wait for acknowledgement")

// streamPrefix starts the conversation_id of reliable messages; with their
// sequence_num it says where each belongs.
const streamPrefix = "meshctl-stream-"

func newStream(agent string) string {
	var nonce [8]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return streamPrefix + agent + "-" + hex.EncodeToString(nonce[:])
}

// outbox keeps the reliable messages of a link until the peer has acknowledged
// them. They survive every connection of the link, and for a while the link.
type outbox struct {
	stream string // does not change

	mu      sync.Mutex
	pacer   *pacer      // nil: free
	last    int64       // sequence number given
	waiting []*outgoing // in order, not acknowledged
	bytes   int         // of them
	on      *connection // the one they are sent on
	given   int         // how many of them were
	srtt    time.Duration
	rttvar  time.Duration
}

type outgoing struct {
	seq   int64
	id    string
	data  []byte
	at    time.Time // sent last
	sent  int       // how often
	acked bool
}

// begin makes it the outbox of a new link, which has no connection yet.
func (o *outbox) begin(p *pacer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pacer, o.on, o.given = p, nil, 0
}

// add numbers a message, has it made and sends it as soon as c can take it.
func (o *outbox) add(c *connection, encode func(stream string, seq int64) (wire.Message, []byte, error)) (wire.Message, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) >= maxWaiting || o.bytes >= maxHeld {
		return wire.Message{}, ErrFull
	}
	m, data, err := encode(o.stream, o.last+1)
	if err != nil {
		return m, err
	}
	o.last++
	o.waiting = append(o.waiting, &outgoing{seq: o.last, id: m.ID, data: data})
	o.bytes += len(data)
	if c != nil && c == o.on {
		o.pump(time.Now())
	}
	return m, nil
}

// move sends everything that waits, in order, on a connection that works now:
// another one, or the same after a silence in which its channel may have given
// messages up.
func (o *outbox) move(c *connection) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.on, o.given = c, 0
	o.pump(time.Now())
}

// repeat gives those again whose acknowledgement is overdue.
func (o *outbox) repeat(c *connection, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.on != c {
		return
	}
	for _, w := range o.waiting[:o.given] {
		if now.Sub(w.at) < o.patience(w) {
			break // the later ones were sent later
		}
		if !o.give(w, now) {
			return
		}
	}
	o.pump(now)
}

// patience grows with every try.
func (o *outbox) patience(w *outgoing) time.Duration {
	return min(max(resendAfter, 2*(o.srtt+4*o.rttvar))<<min(w.sent-1, 4), resendMost)
}

// pump sends what was not sent on this connection yet, as far as it takes it.
func (o *outbox) pump(now time.Time) {
	for o.given < len(o.waiting) && o.give(o.waiting[o.given], now) {
		o.given++
	}
}

func (o *outbox) give(w *outgoing, now time.Time) bool {
	h := o.on.messages.Load()
	if w.acked {
		return true
	}
	if !h.open() || h.buffered() > maxBuffered || o.pacer != nil && !o.pacer.take(len(w.data), now) || h.send(w.data) != nil {
		return false
	}
	w.at = now
	w.sent++
	return true
}

// ack removes messages that have arrived.
func (o *outbox) ack(ids []string, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		for _, w := range o.waiting {
			if w.id == id {
				o.arrived(w, now)
				break
			}
		}
	}
	n := 0
	for n < len(o.waiting) && o.waiting[n].acked {
		o.waiting[n] = nil
		n++
	}
	o.waiting = o.waiting[n:]
	o.given = max(0, o.given-n)
	if o.on != nil {
		o.pump(now)
	}
}

func (o *outbox) arrived(w *outgoing, now time.Time) {
	if w.acked {
		return
	}
	w.acked = true
	o.bytes -= len(w.data)
	w.data = nil
	if w.sent != 1 {
		return // which of them arrived cannot be told (RFC 6298 section 3)
	}
	rtt := now.Sub(w.at)
	if o.srtt == 0 {
		o.srtt, o.rttvar = rtt, rtt/2
		return
	}
	o.rttvar += ((o.srtt - rtt).Abs() - o.rttvar) / 4
	o.srtt += (rtt - o.srtt) / 8
}

// plain gives up on acknowledgements: the peer sends none.
func (o *outbox) plain() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.on != nil {
		o.pump(time.Now())
	}
	o.waiting, o.given, o.bytes = nil, 0, 0
}

// position tells the peer what it need not wait for; nil before the first
// message.
func (o *outbox) position() *wire.ExtStream {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last == 0 {
		return nil
	}
	low := o.last + 1
	if len(o.waiting) > 0 {
		low = o.waiting[0].seq
	}
	return &wire.ExtStream{ID: o.stream, Low: low}
}

func (o *outbox) pending() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.waiting)
}
