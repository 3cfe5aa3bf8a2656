package runbooks

import (
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/mesh/metrics"
	"github.com/infrafabric/meshctl/probes"
)

// TestCase22SlowPathsAreJudged: what agents measure makes the verdict, apart by
// path.
func TestCase22SlowPathsAreJudged(t *testing.T) {
	t.Parallel()
	l := startLab(t, lab.Options{Agents: 3, Agent: func(o *mesh.AgentOptions) {
		o.RelayOnly = o.ID == "agent-3"
		o.Timing.Disconnected, o.Timing.Failed = 15*time.Second, 30*time.Second
	}})
	v := &validation{mesh: meshOf(t, l)}
	v.mesh.Thresholds = DefaultThresholds()
	eventually(t, "the mesh is fast", func() bool { return v.latency(t.Context()).verdict == probes.Pass })
	broken := time.Now()
	inject(t, l, "network-delay", "*>*=300ms+75ms")
	eventually(t, "it is judged slow", func() bool { return v.latency(t.Context()).verdict == probes.Fail })
	t.Logf("case 22, network-delay: judged %.3f s (expected with the first round trip measured)", time.Since(broken).Seconds())
	a := v.latency(t.Context())
	judged(t, a, probes.Fail, "direct p50")
	if rtt, _ := a.facts["rtt_p95_ms_direct"].(float64); rtt < 500 {
		t.Errorf("facts %v", a.facts)
	}
}

// A mesh whose links do not say how fast they are has its latency from a real
// Prometheus, or not at all.
func TestLatencyFromPrometheus(t *testing.T) {
	t.Parallel()
	need(t, "prometheus")
	l := startLab(t, lab.Options{Agents: 2, SeedOnly: true, Metrics: "prometheus"})
	m := meshOf(t, l)
	v := &validation{mesh: m}
	judged(t, v.latency(t.Context()), probes.Unknown, "no Prometheus is configured")
	var err error
	if m.Metrics, err = metrics.New(metrics.Options{URL: l.PrometheusURL}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Metrics.Close)
	eventually(t, "Prometheus has a latency", func() bool { return v.latency(t.Context()).verdict != probes.Unknown })
	a := v.latency(t.Context())
	judged(t, a, probes.Pass, "(Prometheus, last 5 minutes)")
	if a.facts["source"] != "prometheus" || a.facts["rtt_p95_ms_relay"] == nil || a.facts["rtt_p95_ms_direct"] != nil {
		t.Errorf("facts %v", a.facts)
	}
	m.Thresholds.RTTRelayWarn, m.Thresholds.RTTRelayFail = 0, 0
	judged(t, v.latency(t.Context()), probes.Fail, "relay p50")
	inject(t, l, "prometheus-down", "")
	judged(t, v.latency(t.Context()), probes.Unknown, "connection refused")
	inject(t, l, "controller-down", "")
	if a := v.latency(t.Context()); a.verdict != probes.Unknown || !strings.Contains(a.summary, "/stats") {
		t.Errorf("got %+v", a)
	}
}
