package mesh

import (
	"sync"
	"time"
)

const forgedAtOnce = 10 // events a second; what is beyond is counted together

// forged counts messages that were dropped for their signature. A peer can send
// thousands a second, and every event ends up on a disk.
type forged struct {
	mu     sync.Mutex
	events quota
	held   int // messages that no event has told of yet
}

// add gives the number of messages that an event is to tell of now; 0: none.
func (f *forged) add(now time.Time) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held++
	return f.due(now)
}

// rest is add for a time without such messages.
func (f *forged) rest(now time.Time) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held == 0 {
		return 0
	}
	return f.due(now)
}

func (f *forged) due(now time.Time) int {
	if !f.events.take(now, forgedAtOnce, time.Second) {
		return 0
	}
	count := f.held
	f.held = 0
	return count
}

func (l *link) reportForged(count int, reason string) {
	l.agent.emit("signature_verification_failed", l.peer, metadata{"reason": reason, "count": count})
}
