package mesh

import (
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// remembered is how many message ids of a link are known at least.
const remembered = 1024

// intake receives the messages of a link from all its connections: each once,
// and those of a stream in its order.
type intake struct {
	mu       sync.Mutex
	stream   string
	ended    string // the stream before it, whose sender is gone
	expected int64  // sequence number that comes next
	held     map[int64]arrival
	bytes    int // held
	seen     recent
	toAck    []string
}

type arrival struct {
	message wire.Message
	size    int
	at      time.Time
}

// take hands on what is due. acks tells that acknowledgements wait since now.
// hand is called with the lock held, so that nothing is overtaken.
func (i *intake) take(m wire.Message, size int, at time.Time, dedupe bool, hand func(wire.Message, time.Time)) (acks bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	inStream := dedupe && m.SequenceNum != nil && strings.HasPrefix(m.ConversationID, streamPrefix)
	if inStream && !i.follow(m.ConversationID) {
		return false
	}
	// Ids are their source's own: two sources may use the same one.
	key := m.Source + "\n" + m.ID
	known := dedupe && i.seen.has(key)
	late := inStream && *m.SequenceNum < i.expected
	if inStream && !known && !late && !i.room(*m.SequenceNum) {
		return false // not acknowledged, so it comes again
	}
	if dedupe && m.SequenceNum != nil {
		i.toAck = append(i.toAck, m.ID)
		acks = len(i.toAck) == 1
	}
	switch {
	case known || late:
	case !inStream:
		i.remember(key, dedupe)
		hand(m, at)
	default:
		i.remember(key, dedupe)
		i.held[*m.SequenceNum] = arrival{m, size, at}
		i.bytes += size
		i.release(hand)
	}
	return acks
}

func (i *intake) remember(key string, dedupe bool) {
	if dedupe {
		i.seen.add(key)
	}
}

// room bounds what a peer can have us hold. What comes next always has room.
func (i *intake) room(seq int64) bool {
	return seq == i.expected || len(i.held) < maxWaiting && i.bytes < maxHeld
}

// follow begins with a stream that is new: its sender has started over. What
// then still comes of the one before must not bring it back, or messages of the
// new one that were acknowledged would be forgotten.
func (i *intake) follow(stream string) bool {
	switch stream {
	case i.stream:
		return true
	case i.ended:
		return false
	}
	i.stream, i.ended, i.expected, i.bytes = stream, i.stream, 1, 0
	i.held = map[int64]arrival{}
	return true
}

// release hands on what follows without a gap.
func (i *intake) release(hand func(wire.Message, time.Time)) {
	for {
		a, ok := i.held[i.expected]
		if !ok {
			return
		}
		delete(i.held, i.expected)
		i.bytes -= a.size
		i.expected++
		hand(a.message, a.at)
	}
}

// advance skips what the sender has been told arrived: by us, or by the one
// that had our name before.
func (i *intake) advance(s wire.ExtStream, hand func(wire.Message, time.Time)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !strings.HasPrefix(s.ID, streamPrefix) || !i.follow(s.ID) || s.Low <= i.expected {
		return
	}
	// Below low, at most what is held can be missing here.
	for n := 0; i.expected < s.Low && len(i.held) > 0 && n < maxWaiting; n++ {
		i.release(hand)
		if i.expected < s.Low {
			i.expected = i.nextHeld(s.Low)
		}
	}
	i.expected = max(i.expected, s.Low)
	i.release(hand)
}

func (i *intake) nextHeld(limit int64) int64 {
	next := limit
	for seq := range i.held {
		next = min(next, seq)
	}
	return next
}

// acks are the ids to acknowledge since the last call.
func (i *intake) acks() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	ids := i.toAck
	i.toAck = nil
	return ids
}

// recent remembers ids, the older half of them by and by forgotten.
type recent struct {
	seed     maphash.Seed
	now, old map[uint64]struct{}
}

func (r *recent) has(id string) bool {
	if r.now == nil {
		return false
	}
	key := maphash.String(r.seed, id)
	_, now := r.now[key]
	_, old := r.old[key]
	return now || old
}

func (r *recent) add(id string) {
	switch {
	case r.now == nil:
		r.seed, r.now = maphash.MakeSeed(), map[uint64]struct{}{}
	case len(r.now) >= remembered:
		r.now, r.old = map[uint64]struct{}{}, r.now
	}
	r.now[maphash.String(r.seed, id)] = struct{}{}
}
