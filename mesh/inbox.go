package mesh

import "sync"

const (
	// maxForeign bounds the bytes of frames that a signaling server can pile up
	// on one link: a few of the longest, or thousands of ordinary ones.
	maxForeign = 1 << 20
	// frameCost is what any frame takes beside its text.
	frameCost = 256
)

// inbox is a queue of work for one goroutine. Adding to it never waits, because
// pion's callbacks do: closing a PeerConnection waits for them in turn.
type inbox struct {
	wake chan struct{}

	mu      sync.Mutex
	queue   []func()
	foreign int // bytes of the frames in it
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// post adds work of our own, which is never lost: there is as much of it as the
// link itself brings about.
func (b *inbox) post(f func()) { b.add(0, f) }

// receive adds a frame of the signaling server. One that finds too much of them
// waiting is dropped, like one that the network has lost.
func (b *inbox) receive(bytes int, f func()) { b.add(bytes+frameCost, f) }

func (b *inbox) add(cost int, f func()) {
	b.mu.Lock()
	if cost == 0 || b.foreign+cost <= maxForeign {
		b.queue = append(b.queue, f)
		b.foreign += cost
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
	b.queue, b.foreign = nil, 0
	return queue
}
