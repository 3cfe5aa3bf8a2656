package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// ledger sends numbered reliable messages over every pair and notes what
// arrives, in what order.
type ledger struct {
	mu       sync.Mutex
	arrived  map[direction][]int
	at       map[direction][]time.Time
	sent     map[direction]int
	offAndOn bool // links may end and begin again
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

func newLedger() *ledger {
	return &ledger{arrived: map[direction][]int{}, at: map[direction][]time.Time{}, sent: map[direction]int{}}
}

func (g *ledger) receiver(to string) func(string, wire.Message, time.Time) {
	return func(from string, m wire.Message, at time.Time) {
		var p struct{ N int }
		_ = json.Unmarshal(m.Payload, &p)
		g.mu.Lock()
		defer g.mu.Unlock()
		d := direction{from, to}
		g.arrived[d] = append(g.arrived[d], p.N)
		g.at[d] = append(g.at[d], at)
	}
}

func (g *ledger) start(t testing.TB, agents []*Agent, every time.Duration) {
	ctx, cancel := context.WithCancel(t.Context())
	g.cancel = cancel
	t.Cleanup(g.stop)
	for _, from := range agents {
		for _, to := range agents {
			if from == to {
				continue
			}
			g.wg.Go(func() {
				ticker := time.NewTicker(every)
				defer ticker.Stop()
				for n := 1; ; n++ {
					select {
					case <-ctx.Done():
						return
					case <-ticker.C:
					}
					_, err := from.SendReliable(to.ID(), map[string]int{"N": n})
					if g.offAndOn && errors.Is(err, ErrNoChannel) {
						n--
						continue
					}
					if err != nil {
						t.Errorf("message %d from %s: %v", n, from.ID(), err)
						return
					}
					g.mu.Lock()
					g.sent[direction{from.ID(), to.ID()}] = n
					g.mu.Unlock()
				}
			})
		}
	}
}

func (g *ledger) stop() {
	g.cancel()
	g.wg.Wait()
}

// complete: everything sent so far has arrived, once and in order.
func (g *ledger) complete() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.sent) == 0 {
		return errors.New("nothing was sent")
	}
	for d, n := range g.sent {
		got := g.arrived[d]
		for i, v := range got {
			if v != i+1 {
				return fmt.Errorf("%v: message %d arrived as number %d", d, v, i+1)
			}
		}
		if len(got) != n {
			return fmt.Errorf("%v: %d of %d messages", d, len(got), n)
		}
	}
	return nil
}

// longest is the longest pause between two messages that ended after a time.
func (g *ledger) longest(after time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	var longest time.Duration
	for _, times := range g.at {
		for i := 1; i < len(times); i++ {
			if times[i].After(after) {
				longest = max(longest, times[i].Sub(times[i-1]))
			}
		}
	}
	return longest
}

// flowing: messages that were sent after now have arrived on every direction.
func (g *ledger) flowing(m *testMesh) {
	m.t.Helper()
	g.mu.Lock()
	before := maps.Clone(g.sent)
	g.mu.Unlock()
	want := len(m.agents) * (len(m.agents) - 1)
	m.eventually("messages on all directions", func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.sent) != want {
			return fmt.Errorf("%d of %d directions have begun", len(g.sent), want)
		}
		for d := range g.sent {
			if len(g.arrived[d]) <= before[d] {
				return fmt.Errorf("%v: %d messages", d, len(g.arrived[d]))
			}
		}
		return nil
	})
}

func (g *ledger) settle(m *testMesh) {
	m.t.Helper()
	g.stop()
	m.eventually("everything arrives once and in order", g.complete)
}

func withLedger(g *ledger) func(*AgentOptions) {
	return func(o *AgentOptions) { o.OnMessage = g.receiver(o.ID) }
}

func TestReliableMessagesSurviveTheirRelay(t *testing.T) {
	first, second := newRelay(t, true), newRelay(t, true)
	m, g := newTestMesh(t), newLedger()
	m.addRelayed(3, uris(first, second), withLedger(g))
	m.onServer(first.uri)
	g.start(t, m.agents, 10*time.Millisecond)
	g.flowing(m)
	killed := time.Now()
	first.kill()
	m.onServer(second.uri)
	g.flowing(m)
	t.Logf("longest pause %s", g.longest(killed))
	g.settle(m)
	m.eventually("all acknowledged", func() error {
		for _, a := range m.agents {
			for _, peer := range a.Peers() {
				if n := a.Unacknowledged(peer); n > 0 {
					return fmt.Errorf("%s: %d to %s", a.ID(), n, peer)
				}
			}
		}
		return nil
	})
}

func TestPlannedMoveLosesNothing(t *testing.T) { onEachTURN(t, plannedMove) }

func plannedMove(t *testing.T, start startTURN) {
	first, _ := start(t)
	second, _ := start(t)
	m, g := newTestMesh(t), newLedger()
	m.addRelayed(3, []wire.ServerURI{first, second}, func(o *AgentOptions) {
		unhurried(o)
		withLedger(g)(o)
	})
	m.onServer(first)
	g.start(t, m.agents, 20*time.Millisecond)
	g.flowing(m)
	began := time.Now()
	for _, a := range m.agents {
		a.MoveOff(first)
	}
	m.onServer(second)
	t.Logf("longest pause %s", g.longest(began))
	for _, a := range m.agents {
		a.MoveBack(first)
	}
	m.onServer(first)
	g.settle(m)
	if n := m.events.count("turn_fallback_initiated"); n != 0 {
		t.Errorf("%d turn_fallback_initiated events of planned moves", n)
	}
}

// TestMoveTakesTheTimeItNeeds: beside a path that works there is no hurry, and
// an answer that takes longer than one attempt does not keep a link where it is
// for ever.
func TestMoveTakesTheTimeItNeeds(t *testing.T) {
	first, second := newRelay(t, true), newRelay(t, true)
	m := newTestMesh(t)
	m.addRelayed(2, uris(first, second), unhurried)
	m.onServer(first.uri)
	const connect, late = 400 * time.Millisecond, 600 * time.Millisecond
	for i, a := range m.agents {
		l, set := a.existing(m.agents[1-i].ID()), make(chan struct{})
		l.inbox.post(func() {
			a.o.Timing.Connect, l.due.renewal = connect, time.Time{}
			close(set)
		})
		<-set
	}
	m.signal.intercept(func(s wire.Signal, forward func(wire.Signal)) bool {
		if s.Type == wire.TypeAnswer {
			time.AfterFunc(late, func() { forward(s) })
		}
		return s.Type == wire.TypeAnswer
	})
	for _, a := range m.agents {
		a.MoveOff(first.uri)
	}
	m.onServer(second.uri)
	if n := m.events.count("turn_fallback_initiated"); n != 0 {
		t.Errorf("%d turn_fallback_initiated events of planned moves\n%s", n, m.events.tail(100))
	}
}

func TestStandbyTakesOver(t *testing.T) { onEachTURN(t, standbyTakesOver) }

func standbyTakesOver(t *testing.T, start startTURN) {
	first, kill := start(t)
	second, _ := start(t)
	m, g := newTestMesh(t), newLedger()
	m.addRelayed(2, []wire.ServerURI{first, second}, func(o *AgentOptions) {
		o.Standby = true
		withLedger(g)(o)
	})
	m.onServer(first)
	m.eventually("both hold a standby", func() error {
		for i, peer := range []string{"a2", "a1"} {
			if !hasSpare(m.agents[i], peer) {
				return fmt.Errorf("a%d has none", i+1)
			}
		}
		return nil
	})
	g.start(t, m.agents, 10*time.Millisecond)
	g.flowing(m)
	offers := m.events.count("webrtc_offer_created")
	m.signal.refuseNew(503)
	m.signal.drop() // it needs no signaling
	killed := time.Now()
	kill()
	m.onServer(second)
	g.flowing(m)
	t.Logf("longest pause %s", g.longest(killed))
	if n := m.events.count("webrtc_offer_created"); n != offers {
		t.Errorf("%d offers were made", n-offers)
	}
	g.settle(m)
}

func hasSpare(a *Agent, peer string) bool {
	l, has := a.existing(peer), make(chan bool, 1)
	l.inbox.post(func() { has <- l.spare != nil })
	select {
	case h := <-has:
		return h
	case <-l.done:
		return false
	}
}

func TestPlainAgents(t *testing.T) {
	first, second := newRelay(t, true), newRelay(t, true)
	m, g := newTestMesh(t), newLedger()
	for i, plain := range []bool{true, false, true} {
		m.add(fmt.Sprintf("a%d", i+1), func(o *AgentOptions) {
			o.RelayOnly, o.TURNServers, o.Check, o.plain = true, uris(first, second), allocate, plain
			withLedger(g)(o)
		})
	}
	m.onServer(first.uri)
	m.eventually("the others are plain agents", func() error {
		for _, peer := range []string{"a1", "a3"} {
			if m.agents[1].existing(peer).kind.Load() != kindPlain {
				return errors.New(peer + " is not yet")
			}
		}
		return nil
	})
	g.start(t, m.agents, 20*time.Millisecond)
	g.flowing(m)
	if n := m.agents[1].Unacknowledged("a1"); n != 0 {
		t.Errorf("%d messages wait for an acknowledgement that never comes", n)
	}
	g.cancel()
	first.kill()
	m.onServer(second.uri)
}
