package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/witnessclient"
)

// settling is how long a path that has just become slow may look like a dead
// one: nobody can know better before the first answers.
const settling = 3 * time.Second

// TestNoFalseFailovers holds a bad but living path for a while: 300 ms round
// trip on average, each direction with 150 ms of jitter, 5 % loss both ways.
// No link may be given up for dead, and what is sent has to keep arriving: no
// message may be under way for ten seconds. SOAK says how long.
func TestNoFalseFailovers(t *testing.T) {
	long := 10 * time.Second
	if os.Getenv("CI") != "" {
		long = time.Minute
	}
	if text := os.Getenv("SOAK"); text != "" {
		var err error
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	l := startLab(t, Options{Agents: 3, TrafficInterval: 25 * time.Millisecond})
	l.mustBeSteady(t, 200*time.Millisecond)
	inject(t, l, "network-delay", "*>*=75ms+150ms")
	inject(t, l, "network-loss", "*>*=5%")
	eventually(t, "every link knows that it is slow", func() error { return l.slowerThan(150) })
	<-time.After(settling)
	since, machine := time.Now(), starved(t.Context(), long)
	counts := map[string]int{}
	for _, e := range l.eventsSince(t, since) {
		switch e.Name {
		case "turn_fallback_initiated", "mesh_partition_detected", "webrtc_offer_created", "datachannel_closed", "peer_disconnected":
			if machine.at(e.Timestamp) {
				t.Logf("excused, the machine stood still: %s %s -> %s: %s", e.Timestamp.Format(time.TimeOnly), e.AgentID, e.PeerID, e.Name)
				continue
			}
			counts[e.Name]++
			t.Errorf("%s %s -> %s: %s %v", e.Timestamp.Format(time.TimeOnly), e.AgentID, e.PeerID, e.Name, e.Metadata)
		}
	}
	var dropped, delayed int
	for _, from := range l.Agents {
		for _, to := range l.Agents {
			c := l.network.Counts(from, to)
			dropped, delayed = dropped+c.Dropped, delayed+c.Delayed
		}
	}
	if dropped == 0 || delayed == 0 {
		t.Error("the path was fine: nothing was tested")
	}
	delivery := l.Delivery()
	if d := delivery; d.Lost+d.Duplicated+d.Reordered+d.Corrupt > 0 {
		t.Errorf("delivery %+v", d)
	}
	t.Logf("%s, %d packets delayed, %d lost, %d false failovers, delivery %+v", long, delayed, dropped, len(counts), delivery)
}

// stalls are times when this process got no processor: a link that is given
// up then says nothing about the path.
type stalls []time.Time

// starved watches the machine for a while.
func starved(ctx context.Context, long time.Duration) (s stalls) {
	const every = 20 * time.Millisecond
	ticker, end := time.NewTicker(every), time.After(long)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return s
		case <-end:
			return s
		case <-ticker.C:
			now := time.Now()
			if now.Sub(last) > 5*every {
				s = append(s, now)
			}
			last = now
		}
	}
}

func (s stalls) at(t time.Time) bool {
	return slices.ContainsFunc(s, func(stall time.Time) bool { d := t.Sub(stall); return d > -time.Second && d < 3*time.Second })
}

// eventsSince are the events of the lab's agents that the witness has.
func (l *Lab) eventsSince(t *testing.T, since time.Time) (events []witnessclient.Event) {
	t.Helper()
	file, err := os.Open(l.WitnessFile)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var e witnessclient.Event
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Timestamp.After(since) {
			events = append(events, e)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return events
}
