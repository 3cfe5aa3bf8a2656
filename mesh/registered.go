package mesh

import "time"

// Registered tells whether the agent is registered with a signaling server,
// and when that was last heard of.
func (a *Agent) Registered() (heard time.Time, ok bool) {
	a.signaling.mu.Lock()
	defer a.signaling.mu.Unlock()
	return a.signaling.heard, a.signaling.conn != nil
}
