package mesh

import "time"

// lingering is how long a connection that was replaced still takes what is on
// its way.
const lingering = 2 * time.Second

// use makes c the link's connection. The one before goes on for a while: the
// peer may not have changed over yet.
func (l *link) use(c *connection) {
	l.mu.Lock()
	old := l.conn
	l.conn = c
	l.mu.Unlock()
	l.retire(old)
}

func (l *link) setNext(c *connection) {
	l.mu.Lock()
	old := l.next
	l.next = c
	l.mu.Unlock()
	if old != nil {
		l.replaced.Go(old.close)
	}
}

func (l *link) dropSpare() {
	l.retire(l.spare)
	l.spare = nil
}

// retire closes a connection that is not used any more, in time.
func (l *link) retire(c *connection) {
	if c == nil {
		return
	}
	l.replaced.Go(func() {
		timer := time.NewTimer(lingering)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-l.agent.ctx.Done():
		}
		c.close()
	})
}
