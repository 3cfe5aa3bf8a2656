package mesh

import (
	"context"
	"time"

	"github.com/infrafabric/meshctl/witnessclient"
)

// The states of a TURN server in a pool.
const (
	TURNUnknown   = "unknown"   // not checked yet
	TURNHealthy   = "healthy"   // its last check succeeded
	TURNFailing   = "failing"   // its last check failed, and it is not given up
	TURNUnhealthy = "unhealthy" // its breaker is open
	TURNHeld      = "held"      // it answers again, and has to for a while
)

// TURNHealth is what a pool knows about one server.
type TURNHealth struct {
	Server    string     `json:"server"`
	State     string     `json:"state"`
	Failures  int        `json:"failures"`             // checks failed in a row
	LatencyMS float64    `json:"latency_ms,omitempty"` // moving average of those that succeeded
	Error     string     `json:"error,omitempty"`      // of the last check
	Answered  *time.Time `json:"answered,omitempty"`
	Chosen    bool       `json:"chosen"` // for the next link
}

// WatchTURN runs the TURN pool of an agent without the agent and gives its
// state after each round of checks, until ctx ends. Of the options it uses
// TURNServers, Check, Credentials, Timing and Emit.
func WatchTURN(ctx context.Context, o AgentOptions, round func([]TURNHealth)) {
	emit := func(name, _ string, m metadata) {
		if o.Emit != nil {
			e := witnessclient.Event{Name: name, Metadata: m, Timestamp: time.Now().UTC()}
			if name == "all_turn_servers_unhealthy" {
				e.Severity = "critical"
			}
			o.Emit(e)
		}
	}
	p := newPool(o, emit, nil)
	p.checked = func() { round(p.health()) }
	p.run(ctx)
}

func (p *pool) health() []TURNHealth {
	next, ok := p.choose(exclusions{})
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]TURNHealth, 0, len(p.servers))
	for _, s := range p.servers {
		h := TURNHealth{
			Server: s.uri.String(), State: s.state(), Failures: s.failures, Error: s.lastError,
			LatencyMS: millis(s.latency), Chosen: ok && s.uri.String() == next && s.failures == 0,
		}
		if !s.answered.IsZero() {
			at := s.answered.UTC()
			h.Answered = &at
		}
		list = append(list, h)
	}
	return list
}

func (s *turnServer) state() string {
	switch {
	case s.unhealthy && s.failures == 0:
		return TURNHeld
	case s.unhealthy:
		return TURNUnhealthy
	case s.failures > 0:
		return TURNFailing
	case s.answered.IsZero():
		return TURNUnknown
	}
	return TURNHealthy
}
