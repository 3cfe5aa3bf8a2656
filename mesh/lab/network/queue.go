package network

import (
	"container/heap"
	"sync"
	"time"
)

// maxDelayed bounds the packets that are under way; more are lost, as in a
// router.
const maxDelayed = 1 << 16

// queue delivers packets when their time has come, those of the same time in
// the order in which they were sent.
type queue struct {
	wake  chan struct{}
	done  chan struct{}
	ended chan struct{} // nil until the first packet is delayed

	mu     sync.Mutex
	heap   packets
	seq    uint64
	closed bool
}

type packet struct {
	due     time.Time
	seq     uint64
	deliver func()
}

func newQueue() *queue {
	return &queue{wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// later calls deliver after d. It must not block.
func (q *queue) later(d time.Duration, deliver func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || len(q.heap) >= maxDelayed {
		return
	}
	q.seq++
	heap.Push(&q.heap, packet{time.Now().Add(d), q.seq, deliver})
	if q.ended == nil {
		q.ended = make(chan struct{})
		go q.run()
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) close() {
	q.mu.Lock()
	ended := q.ended
	if !q.closed {
		q.closed, q.heap = true, nil
		close(q.done)
	}
	q.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

func (q *queue) run() {
	defer close(q.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-q.done:
			return
		case <-q.wake:
		case <-timer.C:
		}
		if wait, any := q.deliverDue(); any {
			timer.Reset(wait)
		}
	}
}

// deliverDue says how long the next packet still has to wait.
func (q *queue) deliverDue() (wait time.Duration, any bool) {
	for {
		q.mu.Lock()
		if len(q.heap) == 0 {
			q.mu.Unlock()
			return 0, false
		}
		if wait := time.Until(q.heap[0].due); wait > 0 {
			q.mu.Unlock()
			return wait, true
		}
		p := heap.Pop(&q.heap).(packet)
		q.mu.Unlock()
		p.deliver()
	}
}

// packets is a heap by time.
type packets []packet

func (p packets) Len() int { return len(p) }
func (p packets) Less(i, j int) bool {
	if p[i].due.Equal(p[j].due) {
		return p[i].seq < p[j].seq
	}
	return p[i].due.Before(p[j].due)
}
func (p packets) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *packets) Push(x any)   { *p = append(*p, x.(packet)) }
func (p *packets) Pop() any {
	old := *p
	last := old[len(old)-1]
	old[len(old)-1] = packet{}
	*p = old[:len(old)-1]
	return last
}
