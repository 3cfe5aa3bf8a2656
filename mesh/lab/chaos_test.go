package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// chaos breaks and mends a lab at random. Which steps, and in what order, its
// seed decides.
type chaos struct {
	t      *testing.T
	l      *Lab
	random *rand.Rand
	broken []Fault
	log    []string
}

// strike makes one step.
func (c *chaos) strike() {
	pick := func(of ...string) string { return of[c.random.IntN(len(of))] }
	agents := c.random.Perm(len(c.l.Agents))
	pair := agentID(agents[0]+1) + "<>" + agentID(agents[1]+1)
	one := agentID(agents[0]+1) + ">" + agentID(agents[1]+1)
	faults := []Fault{
		{faultKilled, pick("turn-1", "turn-2")},
		{faultSilent, pick("turn-1", "turn-2")},
		{"signaling-down", pick("signaling-1", "signaling-2", "signaling-3")},
		{faultHangs, pick("signaling-1", "signaling-2", "signaling-3")},
		{"signaling-evicts", pick("signaling-1", "signaling-2")},
		{"network-cut", pair},
		{"network-cut", one},
		{"network-loss", pair + "=" + pick("5%", "30%")},
		{"network-delay", pair + "=20ms+20ms"},
	}
	switch choice := c.random.IntN(len(faults) + 4); {
	case choice < len(faults):
		c.inject(faults[choice])
	case choice == len(faults):
		c.move()
	default:
		c.heal(c.random.IntN(max(1, len(c.broken))))
	}
}

func (c *chaos) note(format string, args ...any) {
	c.log = append(c.log, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

func (c *chaos) inject(f Fault) {
	for _, b := range c.broken {
		if b == f || b.Target == f.Target { // a server has one fault at a time
			return
		}
	}
	c.note("inject %s", f)
	if err := c.l.Inject(c.t.Context(), f); err != nil {
		c.t.Fatal(err)
	}
	if f.Name != "signaling-evicts" {
		c.broken = append(c.broken, f)
	}
}

func (c *chaos) heal(i int) {
	if i >= len(c.broken) {
		return
	}
	c.note("heal %s", c.broken[i])
	if err := c.l.Heal(c.t.Context(), c.broken[i]); err != nil {
		c.t.Fatal(err)
	}
	c.broken = append(c.broken[:i], c.broken[i+1:]...)
}

// move plans a move of everybody to another first server.
func (c *chaos) move() {
	servers := c.l.fleet.TURNServers()
	servers[0], servers[1] = servers[1], servers[0]
	c.note("move to %s", servers[0])
	c.l.fleet.SetTURNServers(servers)
	c.l.fleet.ReconnectTURN()
}

// TestChaos lets a mesh live through a random schedule of everything that can
// break, several things at once. Afterwards all pairs are connected, and of the
// messages each has arrived exactly once and in order.
func TestChaos(t *testing.T) {
	seed := uint64(1)
	if text := os.Getenv("SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	l := startLab(t, Options{Agents: 3, Check: allocates, Agent: func(o *mesh.AgentOptions) {
		o.Standby = seed%2 == 0
		o.Timing = o.Timing.ScalePartition(0.1)
	}})
	l.mustBeSteady(t, 100*time.Millisecond)
	c := &chaos{t: t, l: l, random: rand.New(rand.NewPCG(seed, 0))}
	defer func() {
		if t.Failed() {
			for _, line := range c.log {
				t.Log(line)
			}
		}
	}()
	for end := time.Now().Add(12 * time.Second); time.Now().Before(end); {
		c.strike()
		pause(t.Context(), time.Duration(50+c.random.IntN(700))*time.Millisecond)
	}
	for len(c.broken) > 0 {
		c.heal(0)
	}
	c.note("all is healed")
	eventually(t, "all pairs are connected", func() error {
		for _, link := range l.Links() {
			if link.State != wire.StateConnected {
				return fmt.Errorf("%s is %s", link.ID, link.State)
			}
		}
		if n := len(l.Links()); n != 6 {
			return fmt.Errorf("%d links", n)
		}
		return nil
	})
	l.everythingArrives(t)
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// everythingArrives: what was sent until now arrives, each message once and
// none before those that were sent before it.
func (l *Lab) everythingArrives(t *testing.T) {
	t.Helper()
	sent := map[direction]int{}
	for _, way := range l.fleet.traffic.order {
		sent[way] = l.counted(way.from, way.to).Sent
	}
	eventually(t, "everything arrives", func() error {
		for way, n := range sent {
			if c := l.counted(way.from, way.to); c.Received < n {
				return fmt.Errorf("%s to %s: %d of %d messages", way.from, way.to, c.Received, n)
			}
		}
		return nil
	})
	if c := l.Delivery(); c.Lost+c.Duplicated+c.Reordered+c.Corrupt > 0 {
		t.Errorf("not each once and in order: %+v", c)
	}
}
