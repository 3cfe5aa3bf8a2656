package mesh

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/secret"
)

const fullMesh = 30

// resident is the memory of this process in MB.
func resident(t testing.TB) float64 {
	status, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(status))[1])
	if err != nil {
		t.Fatal(err)
	}
	return float64(pages*os.Getpagesize()) / 1e6
}

// BenchmarkFullMesh lets 30 agents connect each with each in one process: 435
// links, 870 PeerConnections.
func BenchmarkFullMesh(b *testing.B) {
	var took time.Duration
	var memory float64
	left := 0
	for b.Loop() {
		signal := newSignalServer(b)
		before := runtime.NumGoroutine()
		start, agents := time.Now(), make([]*Agent, fullMesh)
		for i := range agents {
			a, err := StartAgent(b.Context(), AgentOptions{
				ID: fmt.Sprintf("a%02d", i), SignalingURLs: []string{signal.url()}, Loopback: true,
				Timing: DefaultTiming(), Username: turnUser, Password: secret.New(turnPassword),
			})
			if err != nil {
				b.Fatal(err)
			}
			agents[i] = a
		}
		awaitFullMesh(b, agents)
		took += time.Since(start)
		memory = max(memory, resident(b))
		for _, a := range agents {
			_ = a.Close()
		}
		left = max(left, goroutinesLeft(before))
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/mesh")
	b.ReportMetric(memory, "MB/mesh")
	b.ReportMetric(float64(left), "goroutines/left")
}

func awaitFullMesh(t testing.TB, agents []*Agent) {
	deadline, ticker := time.Now().Add(60*time.Second), time.NewTicker(5*time.Millisecond)
	defer ticker.Stop()
	for up := 0; up < len(agents)*(len(agents)-1); <-ticker.C {
		up = 0
		for _, a := range agents {
			up += a.connected()
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d links after a minute", up, len(agents)*(len(agents)-1))
		}
	}
}

// connected counts links without asking pion for statistics.
func (a *Agent) connected() (n int) {
	for _, l := range a.allLinks() {
		if c := l.sending(); c != nil && c.up() {
			n++
		}
	}
	return n
}

// goroutinesLeft waits a moment for goroutines that are about to end: those of
// the signaling server's sockets are not the agents'.
func goroutinesLeft(before int) int {
	deadline, ticker := time.Now().Add(5*time.Second), time.NewTicker(5*time.Millisecond)
	defer ticker.Stop()
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		<-ticker.C
	}
	return max(0, runtime.NumGoroutine()-before)
}
