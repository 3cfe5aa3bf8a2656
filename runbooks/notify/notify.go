// Package notify answers: who must know about a run, and were they told?
//
// Telling them never holds up a run and never fails one: messages are sent
// beside it, each receiver in its own order, and what could not be sent is
// reported at the end.
package notify

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/witnessclient"
)

// Target is one receiver.
type Target struct {
	Name string // in reports; the address is a secret
	Type string // slack, webhook or pagerduty
	// URL is the address; DefaultPagerDuty where a pagerduty has none.
	URL secret.Secret
	// Key is the integration key of a pagerduty.
	Key secret.Secret
	// Kinds are what the receiver wants to know; nil is the usual.
	Kinds []Kind
}

// Report is what became of the messages.
type Report struct {
	Sent     int      `json:"sent"`
	Problems []string `json:"problems"`
}

// Notifier tells receivers of the events of one mesh.
type Notifier struct {
	mesh             string
	routes, security []*receiver

	mu     sync.Mutex
	report Report
	closed bool
}

// New starts nothing yet. Security matters go to the security route alone;
// without one they go to everybody.
func New(mesh string, routes, security []Target) *Notifier {
	n := &Notifier{mesh: mesh, report: Report{Problems: []string{}}}
	for _, t := range routes {
		n.routes = append(n.routes, newReceiver(t))
	}
	for _, t := range security {
		n.security = append(n.security, newReceiver(t))
	}
	return n
}

// Event tells who must know of an event. It never waits.
func (n *Notifier) Event(e witnessclient.Event) {
	m, wanted := newMessage(n.mesh, e)
	if !wanted {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	for _, r := range n.receivers(m) {
		r.once.Do(func() { r.start(n.sent) })
		select {
		case r.queue <- m:
		default:
			n.report.Problems = append(n.report.Problems, fmt.Sprintf("%s was not told of %s: too many messages wait", r.Name, m.Kind))
		}
	}
}

// receivers are those of the route that want to know.
func (n *Notifier) receivers(m Message) []*receiver {
	if m.security && len(n.security) > 0 {
		return n.security
	}
	var wanting []*receiver
	for _, r := range n.routes {
		if m.security || m.Kind == Incident || slices.Contains(r.kinds(), m.Kind) {
			wanting = append(wanting, r)
		}
	}
	return wanting
}

// sent counts a message, or says why it was not sent.
func (n *Notifier) sent(r *receiver, m Message, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		n.report.Sent++
		return
	}
	n.report.Problems = append(n.report.Problems, fmt.Sprintf("%s was not told of %s: %v", r.Name, m.Kind, err))
}

// Close waits until everybody was told, or the context ends: what is left then
// is reported as not sent. Later events are nobody's.
func (n *Notifier) Close(ctx context.Context) Report {
	n.mu.Lock()
	first := !n.closed
	n.closed = true
	n.mu.Unlock()
	for _, r := range slices.Concat(n.routes, n.security) {
		if first {
			close(r.queue)
		}
	}
	for _, r := range slices.Concat(n.routes, n.security) {
		r.once.Do(func() { close(r.done) }) // never started
		select {
		case <-r.done:
		case <-ctx.Done():
			r.stop()
			<-r.done
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.report
}
