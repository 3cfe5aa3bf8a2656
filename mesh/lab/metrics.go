package lab

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

const metricsType = "text/plain; version=0.0.4; charset=utf-8"

// rttBounds are the upper bounds of the histogram's buckets, in milliseconds.
// The thresholds of a mesh are among them: between two bounds a quantile is
// only interpolated.
func rttBounds() []float64 {
	return []float64{1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500, 750, 1000, 1500, 2000, 3000, 5000}
}

// metrics is what the agents export for Prometheus.
type metrics struct {
	links func() []wire.Link

	mu  sync.Mutex
	rtt map[string]*histogram // by connection_type
}

// histogram counts observations; counts[i] are those up to bounds[i].
type histogram struct {
	counts []int
	count  int
	sum    float64
}

func newMetrics(links func() []wire.Link) *metrics {
	return &metrics{links: links, rtt: map[string]*histogram{"p2p": newHistogram(), "relay": newHistogram()}}
}

func newHistogram() *histogram { return &histogram{counts: make([]int, len(rttBounds()))} }

func (h *histogram) observe(value float64) {
	for i, bound := range rttBounds() {
		if value <= bound {
			h.counts[i]++
		}
	}
	h.count++
	h.sum += value
}

// run observes every link's round trip as often as it is scraped.
func (m *metrics) run(ctx context.Context) {
	ticker := time.NewTicker(scrapeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			m.observe(m.links())
		}
	}
}

func (m *metrics) observe(links []wire.Link) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range links {
		if l.State != wire.StateConnected || l.RTTMillis == nil || l.Path == "" {
			continue
		}
		kind := "p2p"
		if l.Path == wire.PathRelay {
			kind = "relay"
		}
		m.rtt[kind].observe(*l.RTTMillis)
	}
}

func (m *metrics) serve(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", metricsType)
	_, _ = w.Write([]byte(m.text()))
}

// text is the exposition format. A path that no link takes has no series, as
// a mesh that never used it would have none.
func (m *metrics) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# HELP webrtc_total_connections Connections, each from both ends.\n# TYPE webrtc_total_connections gauge\n"+
		"webrtc_total_connections %d\n", len(m.links()))
	b.WriteString("# HELP webrtc_rtt_milliseconds Round trips of connected links.\n# TYPE webrtc_rtt_milliseconds histogram\n")
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, kind := range []string{"p2p", "relay"} {
		h := m.rtt[kind]
		if h.count == 0 {
			continue
		}
		for i, bound := range rttBounds() {
			fmt.Fprintf(&b, "webrtc_rtt_milliseconds_bucket{connection_type=%q,le=\"%v\"} %d\n", kind, bound, h.counts[i])
		}
		fmt.Fprintf(&b, "webrtc_rtt_milliseconds_bucket{connection_type=%q,le=\"+Inf\"} %d\n", kind, h.count)
		fmt.Fprintf(&b, "webrtc_rtt_milliseconds_sum{connection_type=%q} %v\n", kind, h.sum)
		fmt.Fprintf(&b, "webrtc_rtt_milliseconds_count{connection_type=%q} %d\n", kind, h.count)
	}
	return b.String()
}
