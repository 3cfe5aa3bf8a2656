package mesh

import "time"

// Registered tells whether the agent is registered with a signaling server,
// and when that was last heard of.
func (a *Agent) Registered() (heard time.Time, ok bool) {
	a.signaling.mu.Lock()
	defer a.signaling.mu.Unlock()
	return a.signaling.heard, a.signaling.conn != nil
}

// Over is closed when the agent has closed, or no signaling server will ever
// take it again: Refusal then says why. Its links go on until it is closed.
func (a *Agent) Over() <-chan struct{} { return a.signaling.over }

// Refusal is why signaling is given up for good, a *SignalingError; nil when it
// is not.
func (a *Agent) Refusal() error {
	a.signaling.mu.Lock()
	defer a.signaling.mu.Unlock()
	return a.signaling.refusal
}
