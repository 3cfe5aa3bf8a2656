package runbooks

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/infrafabric/meshctl/mesh/metrics"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// latency judges the round trips that connected links report, apart by path.
// Where links do not report them, Prometheus may know.
func (v *validation) latency(ctx context.Context) answer {
	people, err := readPopulation(ctx, v.mesh.Controller)
	if err != nil {
		return v.mesh.measuredLatency(ctx, unknown(err))
	}
	a := v.mesh.linkLatency(people)
	if a.verdict == probes.Unknown {
		return v.mesh.measuredLatency(ctx, a)
	}
	return a
}

// measuredLatency is Prometheus's answer where the links gave none, with
// their reason when it does not know either.
func (m *Mesh) measuredLatency(ctx context.Context, links answer) answer {
	if m.Metrics == nil {
		links.summary += "; no Prometheus is configured"
		return links
	}
	known, err := m.Metrics.Latency(ctx)
	if err != nil {
		links.summary += "; " + err.Error()
		return links
	}
	direct, relay := known[metrics.Direct], known[metrics.Relay]
	a := answer{verdict: probes.Pass, facts: map[string]any{"source": "prometheus"}}
	var said []string
	for _, path := range []struct {
		name       string
		rtt        metrics.RTT
		warn, fail float64
	}{{"direct", direct, m.Thresholds.RTTDirectWarn, m.Thresholds.RTTDirectFail}, {"relay", relay, m.Thresholds.RTTRelayWarn, m.Thresholds.RTTRelayFail}} {
		if path.rtt == (metrics.RTT{}) {
			continue
		}
		a.facts["rtt_p50_ms_"+path.name], a.facts["rtt_p95_ms_"+path.name] = path.rtt.P50, path.rtt.P95
		said = append(said, fmt.Sprintf("%s p50 %.1f ms, p95 %.1f ms", path.name, path.rtt.P50, path.rtt.P95))
		verdict, _ := over(path.rtt.P95, path.warn, path.fail)
		a.verdict = a.verdict.Worse(verdict)
	}
	a.summary = strings.Join(said, "; ") + " (Prometheus, last 5 minutes)"
	return a
}

// over is the verdict on a value of which more is worse, and the limit that it
// is over.
func over(value, warn, fail float64) (verdict probes.Verdict, limit float64) {
	switch {
	case value > fail:
		return probes.Fail, fail
	case value > warn:
		return probes.Warn, warn
	}
	return probes.Pass, warn
}

// linkLatency judges fresh values of all connected links, or answers unknown.
func (m *Mesh) linkLatency(people population) answer {
	r := roundTrips{maxAge: millis(m.Timings.StatsMaxAge)}
	for _, l := range people.links {
		r.add(l)
	}
	return r.judge(m.Thresholds)
}

// roundTrips are those of connected links, apart by path.
type roundTrips struct {
	maxAge        float64 // milliseconds
	direct, relay []float64
	without       int // links that report no fresh one
}

func (r *roundTrips) add(l wire.Link) {
	switch {
	case l.State != wire.StateConnected:
	case l.RTTMillis == nil || l.RTTAgeMillis == nil || l.Path == "" || *l.RTTAgeMillis > r.maxAge:
		r.without++
	case l.Path == wire.PathRelay:
		r.relay = append(r.relay, *l.RTTMillis)
	default:
		r.direct = append(r.direct, *l.RTTMillis)
	}
}

func (r *roundTrips) judge(limits Thresholds) answer {
	return judgeLatency(r.direct, r.relay, r.without, limits)
}

func judgeLatency(direct, relay []float64, without int, limits Thresholds) answer {
	a := answer{verdict: probes.Pass, facts: map[string]any{"links_direct": len(direct), "links_relay": len(relay), "links_without_fresh_value": without}}
	if len(direct)+len(relay) == 0 || without > 0 {
		a.verdict = probes.Unknown
		a.summary = fmt.Sprintf("%d connected links report no fresh round trip with its path, %d do", without, len(direct)+len(relay))
		return a
	}
	var said []string
	for _, group := range []struct {
		name       string
		values     []float64
		warn, fail float64
	}{{"direct", direct, limits.RTTDirectWarn, limits.RTTDirectFail}, {"relay", relay, limits.RTTRelayWarn, limits.RTTRelayFail}} {
		if len(group.values) == 0 {
			continue
		}
		p50, p95 := quantile(group.values, 0.5), quantile(group.values, 0.95)
		a.facts["rtt_p50_ms_"+group.name], a.facts["rtt_p95_ms_"+group.name] = p50, p95
		said = append(said, fmt.Sprintf("%s p50 %.1f ms, p95 %.1f ms", group.name, p50, p95))
		verdict, _ := over(p95, group.warn, group.fail)
		a.verdict = a.verdict.Worse(verdict)
	}
	a.summary = strings.Join(said, "; ")
	return a
}

// quantile is the nearest-rank quantile of unsorted values.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Clone(values)
	sort.Float64s(sorted)
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
