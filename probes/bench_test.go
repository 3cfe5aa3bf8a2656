package probes_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pion/turn/v5"

	"github.com/infrafabric/meshctl/probes"
)

// BenchmarkRelayEcho is one whole verified probe of a server on loopback,
// release included: the median in ms/echo.
func BenchmarkRelayEcho(b *testing.B) {
	target, _ := pion(b, nil, nil)
	var took []time.Duration
	for b.Loop() {
		r := probes.TURN{Target: target, Credentials: goodLogin()}.Run(b.Context())
		if r.Verdict != probes.Pass {
			b.Fatalf("%+v", r)
		}
		took = append(took, r.Took)
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/float64(time.Millisecond), "ms/echo")
}

// BenchmarkRoundTrips is the path to the server counted until the relay is
// proven, on one of 40 ms: the median in rtt/echo.
func BenchmarkRoundTrips(b *testing.B) {
	target, _ := pion(b, nil, func(c *turn.ServerConfig) {
		listener := &c.PacketConnConfigs[0]
		listener.PacketConn = &delayed{PacketConn: listener.PacketConn, delay: 40 * time.Millisecond}
	})
	var trips []float64
	for b.Loop() {
		r := probes.TURN{Target: target, Credentials: goodLogin()}.Run(b.Context())
		n, err := strconv.ParseFloat(r.Findings[0].Fact("round_trips"), 64)
		if r.Verdict != probes.Pass || err != nil {
			b.Fatalf("%+v", r)
		}
		trips = append(trips, n)
	}
	slices.Sort(trips)
	b.ReportMetric(trips[len(trips)/2], "rtt/echo")
}
