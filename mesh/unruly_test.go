package mesh

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// unruly has a signaling server lose, repeat, delay and so reorder what it
// relays, at random.
type unruly struct {
	mu      sync.Mutex
	random  *rand.Rand
	calm    bool
	delayed sync.WaitGroup
}

// seed is that of a random test, so that a run can be repeated.
func seed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("SEED")
	if text == "" {
		return 1
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (u *unruly) relay(s wire.Signal, forward func(wire.Signal)) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.calm {
		return false
	}
	for range [...]int{0, 1, 1, 1, 1, 1, 1, 2, 2, 2}[u.random.IntN(10)] {
		if u.random.IntN(3) > 0 {
			forward(s)
			continue
		}
		u.delayed.Add(1)
		time.AfterFunc(time.Duration(u.random.IntN(400))*time.Millisecond, func() {
			defer u.delayed.Done()
			forward(s)
		})
	}
	return true
}

func (u *unruly) end() {
	u.mu.Lock()
	u.calm = true
	u.mu.Unlock()
	u.delayed.Wait()
}

// TestUnrulySignaling lets links be made, lost and moved while signaling loses,
// repeats and reorders offers, answers and candidates. As soon as it does not
// any more, all pairs are connected, also those with a plain agent; and of the
// reliable messages each arrives once and in order.
func TestUnrulySignaling(t *testing.T) {
	first, second := newRelay(t, true), newRelay(t, true)
	m, g := newTestMesh(t), newLedger()
	u := &unruly{random: rand.New(rand.NewPCG(seed(t), 0))}
	m.signal.intercept(u.relay)
	t.Cleanup(u.end)
	var ours []*Agent
	for i, id := range []string{"a1", "b-plain", "c1", "d1"} {
		a := m.add(id, func(o *AgentOptions) {
			o.RelayOnly, o.TURNServers, o.Check, o.plain = true, uris(first, second), allocate, i == 1
			o.Timing.OfferSilence = 300 * time.Millisecond
			withLedger(g)(o)
		})
		if i != 1 {
			ours = append(ours, a)
		}
	}
	m.eventually("links between ours have begun", func() error {
		for _, a := range ours {
			if n := len(a.Links()); n < 3 {
				return fmt.Errorf("%s has %d links", a.ID(), n)
			}
		}
		return nil
	})
	g.offAndOn = true
	g.start(t, ours, 20*time.Millisecond)
	for range 12 {
		switch u.pick(4) {
		case 0:
			a := m.agents[u.pick(len(m.agents))]
			for _, l := range a.allLinks() {
				l.inbox.post(func() {
					if l.conn != nil {
						l.stalled("the test says so")
					}
				})
			}
		case 1:
			for _, a := range m.agents {
				a.ReconnectTURN()
			}
		case 2:
			m.signal.evict(m.agents[u.pick(len(m.agents))].ID())
		case 3:
			m.signal.drop()
		}
		<-time.After(time.Duration(u.pick(500)) * time.Millisecond)
	}
	u.end()
	m.connectAll()
	g.settle(m)
	for _, a := range m.agents {
		for _, peer := range a.Peers() {
			on(t, a, peer, func(l *link) {
				if l.conn == nil {
					t.Errorf("%s: no connection to %s", a.ID(), peer)
				}
			})
		}
	}
}

func (u *unruly) pick(n int) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.random.IntN(n)
}

// TestIntakeUnderAnyTransport: whatever a transport does to messages, heartbeats
// and acknowledgements, each message is handed on once and in order, none that
// was acknowledged is missing, and nothing is held at the end.
func TestIntakeUnderAnyTransport(t *testing.T) {
	const messages, window = 200, 40
	for round := range uint64(100) {
		if err := anyTransport(t, rand.New(rand.NewPCG(seed(t), round)), messages, window); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

// anyTransport is a sender as the outbox is one, over a transport that loses,
// repeats and reorders everything.
func anyTransport(t *testing.T, random *rand.Rand, messages, window int) error {
	stream := newStream("a")
	var in intake
	var got []int64
	hand := func(m wire.Message, _ time.Time) { got = append(got, *m.SequenceNum) }
	sent, acked := []wire.Message{}, map[string]bool{}
	low := func() int {
		for i, m := range sent {
			if !acked[m.ID] {
				return i
			}
		}
		return len(sent)
	}
	for step := 0; len(got) < messages || low() < messages; step++ {
		if step > 1000*messages {
			return fmt.Errorf("%d of %d handed on, %d acknowledged", len(got), messages, low())
		}
		switch n := random.IntN(10); {
		case n < 2 && len(sent) < messages && len(sent)-low() < window:
			sent = append(sent, message(t, stream, int64(len(sent)+1)))
		case n < 7 && low() < len(sent): // any that is not acknowledged, from the first time to the tenth
			if m := sent[low()+random.IntN(len(sent)-low())]; !acked[m.ID] {
				in.take(m, 100, time.Now(), true, hand)
			}
		case n == 7 && len(sent) > 0: // an old packet that had been on its way for long
			in.take(sent[random.IntN(len(sent))], 100, time.Now(), true, hand)
		case n == 8: // heartbeats come late too
			in.advance(wire.ExtStream{ID: stream, Low: int64(random.IntN(low()+1) + 1)}, hand)
		case n == 9:
			for _, id := range in.acks() {
				acked[id] = acked[id] || random.IntN(3) > 0
			}
		}
	}
	for i, seq := range got {
		if seq != int64(i+1) {
			return fmt.Errorf("message %d was handed on as number %d", seq, i+1)
		}
	}
	if len(got) != messages || len(in.held) > 0 || in.bytes != 0 {
		return errors.New("something is left")
	}
	return nil
}
