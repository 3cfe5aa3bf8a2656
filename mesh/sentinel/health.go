package sentinel

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// Health says whether the sentinel can see the mesh. One that sees nothing is
// blind, not fine.
type Health struct {
	Status    string   `json:"status"` // ok or blind
	Reasons   []string `json:"reasons,omitempty"`
	Agent     string   `json:"agent"`
	Peers     int      `json:"peers"`
	Links     int      `json:"links"`
	Connected int      `json:"connected"`
	UptimeS   int64    `json:"uptime_s"`
}

// registrationProof is how old the last word of signaling may be: the agent
// pings more often than that.
func (s *Sentinel) registrationProof() time.Duration {
	return 3 * max(s.o.Agent.Timing.Ping, 20*time.Second)
}

func (s *Sentinel) health(now time.Time) Health {
	h := Health{Status: "ok", Agent: s.o.Agent.ID, UptimeS: int64(now.Sub(s.started).Seconds())}
	blind := func(format string, args ...any) {
		h.Status = "blind"
		h.Reasons = append(h.Reasons, fmt.Sprintf(format, args...))
	}
	agent := s.agent.Load()
	if agent == nil {
		blind("not registered with any signaling server yet")
		return h
	}
	if heard, ok := agent.Registered(); !ok {
		blind("signaling is lost")
	} else if silence := now.Sub(heard); silence > s.registrationProof() {
		blind("signaling has been silent for %s", silence.Round(time.Second))
	}
	h.Peers = len(agent.Peers())
	for _, l := range agent.Links() {
		h.Links++
		if l.State == wire.StateConnected {
			h.Connected++
		}
	}
	switch {
	case h.Peers == 0 && h.Connected == 0:
		blind("no other agent is registered: there is nothing to see")
	case h.Connected == 0:
		blind("none of %d links is connected", h.Links)
	}
	if s.recorder.broken.Load() {
		blind("the journal cannot be written")
	}
	return h
}

// tell logs it when the sentinel goes blind and when it sees again.
func (s *Sentinel) tell(ctx context.Context) {
	ticker := time.NewTicker(healthCheck)
	defer ticker.Stop()
	for saw := true; ; {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if s.agent.Load() == nil {
				continue // joining says what keeps it
			}
			h := s.health(now)
			switch sees := h.Status == "ok"; {
			case saw && !sees:
				s.o.Log.Warn("blind", "reasons", strings.Join(h.Reasons, "; "))
			case !saw && sees:
				s.o.Log.Info("sees the mesh again", "peers", h.Peers, "connected", h.Connected)
			}
			saw = h.Status == "ok"
		}
	}
}

func (s *Sentinel) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		h := s.health(time.Now())
		w.Header().Set("Content-Type", "application/json")
		if h.Status != "ok" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(h)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_ = s.writeMetrics(w, time.Now())
	})
	return mux
}
