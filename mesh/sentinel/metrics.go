package sentinel

import (
	"io"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// exposition collects metric families; the first error stays.
type exposition struct {
	out io.Writer
	err error
}

func (x *exposition) family(kind dto.MetricType, name, help string, metrics ...*dto.Metric) {
	if x.err == nil && len(metrics) > 0 {
		_, x.err = expfmt.MetricFamilyToText(x.out, &dto.MetricFamily{Name: &name, Help: &help, Type: &kind, Metric: metrics})
	}
}

func gauge(value float64, labels ...string) *dto.Metric {
	return &dto.Metric{Label: pairs(labels), Gauge: &dto.Gauge{Value: &value}}
}

func counter(value uint64, labels ...string) *dto.Metric {
	v := float64(value)
	return &dto.Metric{Label: pairs(labels), Counter: &dto.Counter{Value: &v}}
}

// pairs makes labels of name, value, name, value...
func pairs(labels []string) []*dto.LabelPair {
	var all []*dto.LabelPair
	for pair := range slices.Chunk(labels, 2) {
		name, value := pair[0], strings.ToValidUTF8(pair[1], "\uFFFD")
		all = append(all, &dto.LabelPair{Name: &name, Value: &value})
	}
	return all
}

// writeMetrics writes everything that is known. No metric has the name of a
// peer as a label: in a mesh of 100 agents that would be 9900 series each.
func (s *Sentinel) writeMetrics(out io.Writer, now time.Time) error {
	x, c, h := &exposition{out: out}, s.counts.snapshot(), s.health(now)
	s.writeLinks(x)
	x.family(dto.MetricType_GAUGE, "meshctl_agent_healthy", "1 when the sentinel can see the mesh.", gauge(truth(h.Status == "ok")))
	x.family(dto.MetricType_GAUGE, "meshctl_agent_start_time_seconds", "When the sentinel started, since the epoch.", gauge(seconds(s.started)))
	x.family(dto.MetricType_GAUGE, "webrtc_registered_peers", "Other agents registered with signaling.", gauge(float64(h.Peers)))
	x.family(dto.MetricType_GAUGE, "meshctl_turn_list_timestamp_seconds", "When the list of TURN servers was last read.", gauge(float64(s.listAt.Load())/1e9))
	var events []*dto.Metric
	for _, name := range sortedKeys(c.events) {
		events = append(events, counter(c.events[name], "event", name))
	}
	x.family(dto.MetricType_COUNTER, "meshctl_agent_events_total", "Events of the sentinel's own agent.", events...)
	for _, f := range []struct {
		name, help string
		value      uint64
	}{
		{"webrtc_signaling_connections_lost_total", "Times the connection to signaling was lost.", c.events["signaling_connection_lost"]},
		{"webrtc_turn_fallback_total", "Times a link left its TURN server.", c.events["turn_fallback_initiated"]},
		{"webrtc_signature_verification_failures_total", "Messages dropped for their signature.", c.events["signature_verification_failed"]},
		{"webrtc_mesh_partitions_total", "Partitions noticed.", c.events["mesh_partition_detected"]},
		{"webrtc_mesh_healing_failed_total", "Partitions whose healing was given up.", c.events["mesh_healing_failed_final"]},
		{"meshctl_turn_list_failures_total", "Times the list of TURN servers could not be read.", c.named["list_failed"]},
		{"meshctl_pages_sent_total", "Pages taken by the notification service.", c.named["page_sent"]},
		{"meshctl_pages_failed_total", "Pages that nobody got.", c.named["page_failed"]},
		{"meshctl_audit_events_dropped_total", "Events that found the queue of the journal full.", uint64(max(0, s.recorder.dropped.Load()))},
	} {
		x.family(dto.MetricType_COUNTER, f.name, f.help, counter(f.value))
	}
	x.family(dto.MetricType_GAUGE, "meshctl_audit_events_undelivered", "Events that the witness does not have yet.", gauge(float64(s.recorder.left.Load())))
	x.rtt(c.rtt)
	return x.err
}

// writeLinks counts links by state, and the connected ones by path.
func (s *Sentinel) writeLinks(x *exposition) {
	states, paths := map[string]float64{}, map[[2]string]float64{}
	for _, state := range []string{
		wire.StateNew, wire.StateConnecting, wire.StateConnected, wire.StateDisconnected, wire.StateFailed, wire.StateClosed,
	} {
		states[state] = 0
	}
	if agent := s.agent.Load(); agent != nil {
		for _, l := range agent.Links() {
			states[l.State]++
			if server, _ := l.Relay(); l.State == wire.StateConnected {
				paths[[2]string{l.Path, server}]++
			}
		}
	}
	var byState, byPath []*dto.Metric
	for _, state := range sortedKeys(states) {
		byState = append(byState, gauge(states[state], "state", state))
	}
	for path, n := range paths {
		byPath = append(byPath, gauge(n, "path", path[0], "turn", path[1]))
	}
	slices.SortFunc(byPath, func(a, b *dto.Metric) int { return strings.Compare(a.String(), b.String()) })
	x.family(dto.MetricType_GAUGE, "webrtc_ice_state_links", "Links of the sentinel by state.", byState...)
	x.family(dto.MetricType_GAUGE, "webrtc_links", "Connected links of the sentinel by path and TURN server.", byPath...)
}

func (x *exposition) rtt(types map[string]*histogram) {
	var metrics []*dto.Metric
	for _, kind := range sortedKeys(types) {
		h := types[kind]
		m := &dto.Metric{Label: pairs([]string{"connection_type", kind}), Histogram: &dto.Histogram{SampleCount: &h.count, SampleSum: &h.sum}}
		for i := range rttBuckets {
			limit := rttBuckets[i]
			m.Histogram.Bucket = append(m.Histogram.Bucket, &dto.Bucket{UpperBound: &limit, CumulativeCount: &h.buckets[i]})
		}
		metrics = append(metrics, m)
	}
	x.family(dto.MetricType_HISTOGRAM, "webrtc_rtt_seconds", "Round trips of the sentinel's links.", metrics...)
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
