package lab

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/witnessclient"
)

// settling is how long a path that has just become slow may look like a dead
// one: nobody can know better before the first answers.
const settling = 3 * time.Second

// TestNoFalseFailovers holds a bad but living path for a while: 300 ms round
// trip on average, each direction with 150 ms of jitter, 5 % loss both ways.
// No link may be given up for dead. SOAK says how long.
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
	l := startLab(t, Options{Agents: 3})
	l.mustBeSteady(t, 200*time.Millisecond)
	inject(t, l, "network-delay", "*>*=75ms+150ms")
	inject(t, l, "network-loss", "*>*=5%")
	eventually(t, "every link knows that it is slow", func() error { return l.slowerThan(150) })
	<-time.After(settling)
	since := time.Now()
	<-time.After(long)
	counts := map[string]int{}
	for _, e := range l.eventsSince(t, since) {
		switch e.Name {
		case "turn_fallback_initiated", "mesh_partition_detected", "webrtc_offer_created", "datachannel_closed", "peer_disconnected":
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
	t.Logf("%s, %d packets delayed, %d lost, %d false failovers, delivery %+v", long, delayed, dropped, len(counts), l.Delivery())
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
