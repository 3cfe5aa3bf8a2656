package lab

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
)

// moved waits until every agent is registered with a signaling server since a
// time and gives the time until the last was.
func (r *recorder) moved(t *testing.T, l *Lab, since time.Time, server string) time.Duration {
	t.Helper()
	return r.byAll(t, l, since, "signaling_connected", says("server", server))
}

// all are registered, with any server.
func (l *Lab) allRegistered(t *testing.T) {
	t.Helper()
	eventually(t, "all registered", func() error {
		if n := len(l.registered()); n != len(l.Agents) {
			return fmt.Errorf("%d agents", n)
		}
		return nil
	})
}

// TestCases11And12And15SignalingIsLost: whatever becomes of signaling, links
// never notice.
func TestCases11And12And15SignalingIsLost(t *testing.T) {
	t.Parallel()
	var r recorder
	l := startLab(t, patientLab(&r))
	l.mustBeSteady(t, 200*time.Millisecond)
	before := created(l)
	primary, backup := l.Signaling[0].URL, l.Signaling[1].URL
	t.Run("signaling-down", func(t *testing.T) {
		broken := time.Now()
		inject(t, l, "signaling-down", "signaling-1")
		detected := r.byAll(t, l, broken, "signaling_connection_lost")
		report(t, 11, "signaling-down", detected, r.moved(t, l, broken, backup), "at once, then the next server within 0.25 s of spread")
		returns(t, l, &r, "signaling-down", primary)
	})
	t.Run(faultHangs, func(t *testing.T) {
		broken := time.Now()
		inject(t, l, faultHangs, "signaling-1")
		silent := []match{says("server", primary), says("error", "no answer after")}
		detected := r.byAll(t, l, broken, "signaling_connection_failed", silent...)
		report(t, 12, faultHangs, detected, r.moved(t, l, broken, backup), "one timeout of 2 s, and three; with default timing 5 s, and 15 s")
		for _, id := range l.Agents {
			if tries := r.after(broken, "signaling_connection_failed", append(silent, of(id))...); len(tries) != 3 {
				t.Errorf("%s tried %d times, want three", id, len(tries))
			}
		}
		returns(t, l, &r, faultHangs, primary)
	})
	t.Run("signaling-ghosts", func(t *testing.T) {
		broken := time.Now()
		inject(t, l, "signaling-ghosts", "signaling-1")
		detected := r.byAll(t, l, broken, "signaling_connection_lost")
		report(t, 15, "signaling-ghosts", detected, r.moved(t, l, broken, primary), "at once, then the id is taken over within 1 s")
		eventually(t, "the ghosts are gone", func() error {
			if open := l.signaling[0].open(); open != len(l.Agents) {
				return fmt.Errorf("%d sockets", open)
			}
			return nil
		})
		heal(t, l, "signaling-ghosts", "signaling-1")
		l.allRegistered(t)
	})
	t.Run("signaling-evicts", func(t *testing.T) {
		broken := time.Now()
		inject(t, l, "signaling-evicts", "signaling-1")
		l.allRegistered(t)
		report(t, 15, "signaling-evicts", none, time.Since(broken), "registered again at once")
		heal(t, l, "signaling-evicts", "signaling-1")
	})
	if after := created(l); after != before {
		t.Errorf("links were touched:\n%s\n%s", before, after)
	}
	intact(t, l)
}

// returns heals the fault of the primary and waits until all are back there.
func returns(t *testing.T, l *Lab, r *recorder, fault, primary string) {
	t.Helper()
	healed := time.Now()
	heal(t, l, fault, "signaling-1")
	r.moved(t, l, healed, primary)
}

// open is the number of sessions, ghosts among them.
func (s *signaling) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// TestCase13SignalingRefuses: a refusal ends it. Agents that run neither try
// again nor anywhere else, and keep their links; one that starts does not.
func TestCase13SignalingRefuses(t *testing.T) {
	t.Parallel()
	var r recorder
	l := startLab(t, patientLab(&r))
	l.mustBeSteady(t, 200*time.Millisecond)
	before := created(l)
	inject(t, l, fault401, "signaling-1")
	broken := time.Now()
	inject(t, l, "signaling-ghosts", "signaling-1") // cuts the sockets
	detected := r.byAll(t, l, broken, "signaling_connection_failed", says("error", "401"))
	l.flows(t, time.Second, 20) // ten times the first pause after a failure
	attempts := len(r.after(broken, "signaling_connection_failed")) + len(r.after(broken, "signaling_connected"))
	if attempts != len(l.Agents) {
		t.Errorf("%d attempts of %d agents", attempts, len(l.Agents))
	}
	if after := created(l); after != before {
		t.Errorf("links were touched:\n%s\n%s", before, after)
	}
	inject(t, l, "agent-gone", "agent-2")
	starting := time.Now()
	if err := l.Heal(t.Context(), Fault{"agent-gone", "agent-2"}); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("the agent starts: %v, want 401", err)
	}
	if n := len(r.after(starting, "signaling_connection_failed", of("agent-2"))); n != 1 {
		t.Errorf("%d attempts to start, want one", n)
	}
	heal(t, l, fault401, "signaling-1")
	healed := time.Now()
	heal(t, l, "agent-gone", "agent-2")
	report(t, 13, fmt.Sprintf("%s, %d attempts of %d agents", fault401, attempts, len(l.Agents)), detected,
		r.detected(t, healed, "agent_registered", of("agent-2")), "at once and for good; started anew, at once")
}

// minutes5 is an outage of five minutes on the scale of fiftieth.
const minutes5 = 6 * time.Second

// fiftieth is production's timing of signaling at a fiftieth.
func fiftieth(o *mesh.AgentOptions) {
	patient(o)
	t := mesh.DefaultTiming()
	o.Timing.Register, o.Timing.Ping, o.Timing.Spread = time.Second, t.Ping/50, t.Spread/50
	o.Timing.Return, o.Timing.Backoff = t.Return/50, t.Backoff/50
}

func TestCase14AllSignalingIsDown(t *testing.T) {
	t.Parallel()
	var r recorder
	l := startLab(t, Options{Agents: 3, Agent: r.on(fiftieth)})
	l.mustBeSteady(t, 200*time.Millisecond)
	before, broken := created(l), time.Now()
	for _, s := range l.Signaling {
		inject(t, l, "signaling-down", s.Name)
	}
	detected := r.byAll(t, l, broken, "signaling_connection_lost")
	l.flows(t, minutes5, 20)
	attempts := len(r.after(broken, "signaling_connection_failed"))
	healed := time.Now()
	for _, s := range l.Signaling {
		heal(t, l, "signaling-down", s.Name)
	}
	recovered := r.byAll(t, l, healed, "agent_registered")
	report(t, 14, fmt.Sprintf("signaling down for 5 min, at a fiftieth: %d attempts of %d agents", attempts, len(l.Agents)),
		detected, recovered, "at once; then the next try, at most 30 s apart: 0.9 s")
	if most := 100 * len(l.Agents); attempts > most { // 40 each: 13 rounds of three servers
		t.Errorf("%d attempts, more than %d", attempts, most)
	}
	if offers := r.after(broken, "webrtc_offer_created"); len(offers) > 0 {
		t.Errorf("%d offers were made", len(offers))
	}
	if after := created(l); after != before {
		t.Errorf("links were touched:\n%s\n%s", before, after)
	}
	intact(t, l)
}
