package mesh

import "sync"

// maxQueue bounds what a signaling server can pile up on one link.
const maxQueue = 4096

// inbox is a queue of work for one goroutine. Posting never waits, because
// pion's callbacks post: closing a PeerConnection waits for them in turn.
type inbox struct {
	wake chan struct{}

	mu    sync.Mutex
	queue []func()
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

func (b *inbox) post(f func()) {
	b.mu.Lock()
	if len(b.queue) < maxQueue {
		b.queue = append(b.queue, f)
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) take() []func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	queue := b.queue
	b.queue = nil
	return queue
}
