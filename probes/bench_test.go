package probes_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/turn/v5"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

func median(b *testing.B, values []float64, unit string) {
	slices.Sort(values)
	b.ReportMetric(values[len(values)/2], unit)
}

func inMillis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// echoes measures whole verified probes, release included.
func echoes(b *testing.B, target wire.ServerURI) {
	var took []float64
	for b.Loop() {
		r := probes.TURN{Target: target, Credentials: goodLogin()}.Run(b.Context())
		if r.Verdict != probes.Pass {
			b.Fatalf("%+v", r)
		}
		took = append(took, inMillis(r.Took))
	}
	median(b, took, "ms/echo")
}

func BenchmarkRelayEcho(b *testing.B) {
	target, _ := pion(b, nil, nil)
	echoes(b, target)
}

func BenchmarkRelayEchoCoturn(b *testing.B) { echoes(b, coturn(b, userFlags()...)) }

// BenchmarkRoundTrips is the path to a coturn counted until the relay is
// proven, through a proxy that delays each way by 50 ms.
func BenchmarkRoundTrips(b *testing.B) {
	target := delayingProxy(b, coturn(b, userFlags()...), 50*time.Millisecond)
	var trips []float64
	for b.Loop() {
		r := probes.TURN{Target: target, Credentials: goodLogin()}.Run(b.Context())
		n, err := strconv.ParseFloat(r.Findings[0].Fact("round_trips"), 64)
		if r.Verdict != probes.Pass || err != nil {
			b.Fatalf("%+v", r)
		}
		trips = append(trips, n)
	}
	median(b, trips, "rtt/echo")
}

// BenchmarkHundredEchoes is a hundred verified probes of one coturn side by
// side: the time until the last one is done and has released.
func BenchmarkHundredEchoes(b *testing.B) {
	target := coturn(b, userFlags()...)
	var took []float64
	for b.Loop() {
		targets := slices.Repeat([]wire.ServerURI{target}, 100)
		took = append(took, inMillis(sideBySide(b, targets)))
	}
	median(b, took, "ms/100-echoes")
}

// sideBySide probes all targets at once and returns when the last was done.
func sideBySide(t testing.TB, targets []wire.ServerURI) time.Duration {
	var asked sync.WaitGroup
	pace := &probes.Pace{}
	started := time.Now()
	for _, target := range targets {
		asked.Go(func() {
			r := probes.TURN{Target: target, Credentials: goodLogin(), Pace: pace}.Run(t.Context())
			if r.Verdict != probes.Pass {
				t.Errorf("%+v", r)
			}
		})
	}
	asked.Wait()
	return time.Since(started)
}

// BenchmarkSilentServer is the time until a server that says nothing is named.
func BenchmarkSilentServer(b *testing.B) {
	silent := uri(addrPort(listen(b).LocalAddr()))
	var took []float64
	for b.Loop() {
		r := probes.TURN{Target: silent, Credentials: goodLogin()}.Run(b.Context())
		if r.Findings[0].Code != probes.CodeTURNSilent {
			b.Fatalf("%+v", r)
		}
		took = append(took, inMillis(r.Took))
	}
	median(b, took, "ms/verdict")
}

const manyTargets = "MESHCTL_TEST_TARGETS"

// BenchmarkManyServers has 200 servers behind 100 ms in this process, and
// probes them from another one: the time to the last echo, and its memory.
func BenchmarkManyServers(b *testing.B) {
	var targets []string
	for range 200 {
		target, _ := pion(b, nil, func(c *turn.ServerConfig) {
			listener := &c.PacketConnConfigs[0]
			listener.PacketConn = &delayed{PacketConn: listener.PacketConn, delay: 100 * time.Millisecond}
		})
		targets = append(targets, target.String())
	}
	var took, memory []float64
	for b.Loop() {
		child := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestManyServers$", "-test.v")
		child.Env = append(os.Environ(), manyTargets+"="+strings.Join(targets, ","))
		output, err := child.CombinedOutput()
		_, line, found := strings.Cut(string(output), "many|")
		var ms, mb float64
		if _, errScan := fmt.Sscanf(line, "%f|%f", &ms, &mb); err != nil || !found || errScan != nil {
			b.Fatalf("%v: %s", err, output)
		}
		took, memory = append(took, ms), append(memory, mb)
	}
	median(b, took, "ms/200-servers")
	median(b, memory, "MB/200-servers")
}

// TestManyServers is the probing process of BenchmarkManyServers.
func TestManyServers(t *testing.T) {
	list := os.Getenv(manyTargets)
	if list == "" {
		t.Skip("runs as a part of BenchmarkManyServers")
	}
	targets, err := wire.ParseServerList(list)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var last time.Time
	var asked sync.WaitGroup
	started := time.Now()
	for _, target := range targets {
		asked.Go(func() {
			// Without a pace: these servers share their address only here.
			r := probes.TURN{Target: target, Credentials: goodLogin()}.Run(t.Context())
			echo, err := strconv.ParseFloat(r.Findings[0].Fact("proven_ms"), 64)
			if r.Verdict != probes.Pass || err != nil {
				t.Errorf("%+v", r)
			}
			mu.Lock()
			defer mu.Unlock()
			if at := r.Started.Add(time.Duration(echo * float64(time.Millisecond))); at.After(last) {
				last = at
			}
		})
	}
	asked.Wait()
	fmt.Printf("many|%.1f|%.1f\n", inMillis(last.Sub(started)), peakMemory(t))
}

// peakMemory is that of this process, in MB.
func peakMemory(t *testing.T) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("needs /proc")
	}
	_, line, _ := strings.Cut(string(status), "VmHWM:")
	var kb float64
	if _, err := fmt.Sscanf(line, "%f", &kb); err != nil {
		t.Fatal(err)
	}
	return kb / 1024
}

// BenchmarkUclientEcho and BenchmarkUclientHundred are the same jobs done by
// coturn's own client, to compare.
func BenchmarkUclientEcho(b *testing.B) { uclient(b, 1, "ms/uclient-echo") }

func BenchmarkUclientHundred(b *testing.B) { uclient(b, 100, "ms/uclient-100") }

func uclient(b *testing.B, clients int, unit string) {
	client, err := exec.LookPath("turnutils_uclient")
	if err != nil {
		b.Skip("turnutils_uclient is not installed")
	}
	target := coturn(b, userFlags()...)
	var took []float64
	for b.Loop() {
		started := time.Now()
		output, err := exec.CommandContext(b.Context(), client, "-y", "-n", "1", "-m", strconv.Itoa(clients),
			"-u", user, "-w", password, "-p", strconv.Itoa(target.Port), "127.0.0.1").CombinedOutput()
		if err != nil {
			b.Fatalf("%v: %s", err, output)
		}
		took = append(took, inMillis(time.Since(started)))
	}
	median(b, took, unit)
}
