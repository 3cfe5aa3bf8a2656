package lab

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/infrafabric/meshctl/mesh/wire"
)

func TestMetricsText(t *testing.T) {
	rtt := func(ms float64, path, state string) wire.Link {
		return wire.Link{State: state, Path: path, RTTMillis: &ms}
	}
	links := []wire.Link{
		rtt(0.5, wire.PathRelay, wire.StateConnected), rtt(400, wire.PathRelay, wire.StateConnected), rtt(9000, wire.PathRelay, wire.StateConnected),
		rtt(1, wire.PathHost, wire.StateFailed), {State: wire.StateConnected, Path: wire.PathHost},
	}
	m := newMetrics(func() []wire.Link { return links })
	m.observe(links)
	text := m.text()
	for _, want := range []string{
		"\nwebrtc_total_connections 5\n", `{connection_type="relay",le="1"} 1`, `{connection_type="relay",le="300"} 1`,
		`{connection_type="relay",le="400"} 2`, `{connection_type="relay",le="5000"} 2`, `{connection_type="relay",le="+Inf"} 3`,
		`webrtc_rtt_milliseconds_sum{connection_type="relay"} 9400.5`, `webrtc_rtt_milliseconds_count{connection_type="relay"} 3`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "p2p") {
		t.Errorf("a path that no link takes has a series:\n%s", text)
	}
}

// Real Prometheus scrapes the lab, goes and comes back.
func TestPrometheusOfTheLab(t *testing.T) {
	need(t, "prometheus")
	l := startLab(t, Options{Agents: 2, Metrics: "prometheus"})
	p95 := func() error {
		found, err := l.query("histogram_quantile(0.95, sum by (le, connection_type) (rate(webrtc_rtt_milliseconds_bucket[5m])))")
		if err == nil && (len(found) != 1 || found[0].Metric["connection_type"] != "relay" || found[0].Value[1] == "NaN") {
			err = fmt.Errorf("got %v", found)
		}
		return err
	}
	eventually(t, "a latency", p95)
	eventually(t, "all targets are up", func() error {
		found, err := l.query("up == 1")
		if err == nil && len(found) != 4 {
			err = fmt.Errorf("got %v", found)
		}
		return err
	})
	inject(t, l, "prometheus-down", "")
	if _, err := l.query("up"); !refused(err) {
		t.Errorf("down: %v, want connection refused", err)
	}
	heal(t, l, "prometheus-down", "")
	eventually(t, "it knows still", p95)
}

type sample struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
}

func (l *Lab) query(q string) ([]sample, error) {
	reply, err := client.Get(l.PrometheusURL + "/api/v1/query?query=" + url.QueryEscape(q))
	if err != nil {
		return nil, err
	}
	defer func() { _ = reply.Body.Close() }()
	var read struct {
		Data struct{ Result []sample }
	}
	if reply.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP %s", reply.Status)
	}
	err = json.NewDecoder(reply.Body).Decode(&read)
	return read.Data.Result, err
}
