package sentinel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/witnessclient"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eventually polls a fact.
func eventually(t *testing.T, what string, fact func() error) {
	t.Helper()
	deadline, ticker := time.Now().Add(60*time.Second), time.NewTicker(20*time.Millisecond)
	defer ticker.Stop()
	for err := fact(); err != nil; err = fact() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		<-ticker.C
	}
}

// logged keeps what a sentinel logs.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) has(text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !strings.Contains(l.text.String(), text) {
		return fmt.Errorf("no %q in the log:\n%s", text, l.text.String())
	}
	return nil
}

// watched is a sentinel under test.
type watched struct {
	t    *testing.T
	url  string
	stop func() error
}

func start(t *testing.T, o Options) *watched {
	t.Helper()
	var err error
	if o.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	w := &watched{t: t, url: "http://" + o.Listener.Addr().String()}
	go func() { ended <- Run(ctx, o) }()
	w.stop = func() error {
		cancel()
		err := <-ended
		ended <- err
		http.DefaultClient.CloseIdleConnections()
		return err
	}
	t.Cleanup(func() { _ = w.stop() })
	return w
}

func (w *watched) get(path string) (int, []byte) {
	w.t.Helper()
	reply, err := http.Get(w.url + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = reply.Body.Close() }()
	body, err := io.ReadAll(reply.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply.StatusCode, body
}

// healthy tells whether /healthz gives the status and says the reason.
func (w *watched) healthy(code int, status, reason string) error {
	got, body := w.get("/healthz")
	var h Health
	if err := json.Unmarshal(body, &h); err != nil {
		return err
	}
	if got != code || h.Status != status || !strings.Contains(strings.Join(h.Reasons, "; "), reason) {
		return fmt.Errorf("%d %s", got, body)
	}
	return nil
}

func (w *watched) metrics() map[string]*dto.MetricFamily {
	w.t.Helper()
	_, body := w.get("/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(body)))
	if err != nil {
		w.t.Fatalf("%v:\n%s", err, body)
	}
	return families
}

// value is a gauge or counter with the label values, -1 when there is none.
func value(families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	for _, m := range families[name].GetMetric() {
		var got []string
		for _, l := range m.GetLabel() {
			got = append(got, l.GetValue())
		}
		if strings.Join(got, "\n") == strings.Join(labels, "\n") {
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return -1
}

func startLab(t *testing.T, agents int) *lab.Lab {
	t.Helper()
	l, err := lab.Start(t.Context(), lab.Options{Dir: t.TempDir(), Agents: agents})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

var runs atomic.Int64

func options(t *testing.T, l *lab.Lab) Options {
	t.Helper()
	witness, err := witnessclient.New(witnessclient.Options{URL: l.WitnessURL, APIKey: l.WitnessKey})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(witness.Close)
	o := Options{
		Agent: mesh.AgentOptions{
			ID: wire.SentinelPrefix + "here", SignalingURLs: []string{l.SignalingURL}, Username: l.Username, Password: l.Password,
			RelayOnly: true, Loopback: true, Timing: mesh.LabTiming(),
		},
		Journals: t.TempDir(), Witness: witness, Stamp: witnessclient.Stamp{Operator: "tester@test"},
		NewRun: func() string { return fmt.Sprintf("run-%03d", runs.Add(1)) },
	}
	o.Agent.Timing.Quality = 50 * time.Millisecond
	for _, s := range l.TURN {
		o.Agent.TURNServers = append(o.Agent.TURNServers, s.URI)
	}
	return o
}

func TestSentinelWatchesAMesh(t *testing.T) {
	l := startLab(t, 2)
	o, log := options(t, l), &logged{}
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	w := start(t, o)
	eventually(t, "it sees", func() error { return w.healthy(http.StatusOK, "ok", "") })
	eventually(t, "both links are counted", func() error {
		m := w.metrics()
		rtt := m["webrtc_rtt_seconds"].GetMetric()
		if value(m, "webrtc_ice_state_links", "connected") != 2 || len(rtt) != 2 || rtt[1].GetHistogram().GetSampleCount() == 0 {
			return fmt.Errorf("%v", m)
		}
		return nil
	})
	checkNames(t, w.metrics())
	if links := l.Links(); len(links) != 4 { // 2 between the lab's own, 2 to the sentinel
		t.Errorf("%d links, not 4", len(links))
	}
	inject := func(fault string) {
		if err := l.Inject(t.Context(), lab.Fault{Name: fault}); err != nil {
			t.Fatal(err)
		}
	}
	inject("signaling-down")
	eventually(t, "it says that it is blind", func() error {
		return w.healthy(http.StatusServiceUnavailable, "blind", "signaling is lost")
	})
	eventually(t, "it logs that it is blind", func() error { return log.has(`msg=blind reasons="signaling is lost"`) })
	if err := l.Heal(t.Context(), lab.Fault{Name: "signaling-down"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it sees again", func() error { return w.healthy(http.StatusOK, "ok", "") })
	eventually(t, "it logs that it sees again", func() error { return log.has("sees the mesh again") })
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if err := log.has("left the mesh"); err != nil {
		t.Error(err)
	}
	journals, err := witnessclient.List(o.Journals)
	if err != nil || len(journals) != 1 || journals[0].Err != nil || journals[0].Unacked != 0 || journals[0].Finished == nil || journals[0].Events < 4 {
		t.Errorf("journals %+v, %v", journals, err)
	}
}

// checkNames holds the metrics to Prometheus' rules and to ours: no peer is
// ever a label.
func checkNames(t *testing.T, families map[string]*dto.MetricFamily) {
	t.Helper()
	for name, f := range families {
		if counts := f.GetType() == dto.MetricType_COUNTER; counts != strings.HasSuffix(name, "_total") {
			t.Errorf("%s is a %s", name, f.GetType())
		}
		if strings.Contains(name, "millisecond") || f.GetHelp() == "" {
			t.Errorf("%s: %q", name, f.GetHelp())
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.HasPrefix(l.GetValue(), "agent-") {
					t.Errorf("%s has a label for each peer: %s", name, l.GetValue())
				}
			}
		}
	}
}

func TestBlindUntilItHasJoined(t *testing.T) {
	l := startLab(t, 2)
	if err := l.Inject(t.Context(), lab.Fault{Name: "signaling-down"}); err != nil {
		t.Fatal(err)
	}
	w := start(t, options(t, l))
	eventually(t, "it answers, and is blind", func() error {
		return w.healthy(http.StatusServiceUnavailable, "blind", "not registered")
	})
	if value(w.metrics(), "meshctl_agent_healthy") != 0 {
		t.Error("a blind sentinel is healthy in its metrics")
	}
	if err := l.Heal(t.Context(), lab.Fault{Name: "signaling-down"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it joins", func() error { return w.healthy(http.StatusOK, "ok", "") })
}

// TestOneSentinelOfAName: a second one would fight the first for its place.
func TestOneSentinelOfAName(t *testing.T) {
	nobody := func() Options {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return Options{Listener: listener, Journals: t.TempDir(), NewRun: func() string { return fmt.Sprintf("run-%03d", runs.Add(1)) }}
	}
	o := nobody()
	o.Agent.ID = "meshctl-sentinel-x"
	first, err := newRecorder(o)
	if err != nil {
		t.Fatal(err)
	}
	second := nobody()
	second.Agent.ID, second.Journals = o.Agent.ID, o.Journals
	if err := Run(t.Context(), second); !errors.As(err, new(*RunningError)) {
		t.Errorf("a second sentinel of a name: %v", err)
	}
	first.close()
	third, err := newRecorder(o)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	third.close()
	_ = o.Listener.Close()
}

func TestRefusedSentinelEnds(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer site.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Listener: listener, Agent: mesh.AgentOptions{
		ID: wire.SentinelPrefix + "x", SignalingURLs: []string{strings.Replace(site.URL, "http", "ws", 1)},
	}}
	var refused *mesh.SignalingError
	if err := Run(t.Context(), o); !errors.As(err, &refused) || !refused.Refused {
		t.Errorf("error %v, want the refusal", err)
	}
}

// The events that the witness did not take are delivered by the next process.
func TestNextProcessDeliversTheRest(t *testing.T) {
	l := startLab(t, 1)
	if err := l.Inject(t.Context(), lab.Fault{Name: "witness-down"}); err != nil {
		t.Fatal(err)
	}
	o := options(t, l)
	w := start(t, o)
	eventually(t, "events wait", func() error {
		if n := value(w.metrics(), "meshctl_audit_events_undelivered"); n < 2 {
			return fmt.Errorf("%v undelivered", n)
		}
		return nil
	})
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if err := l.Heal(t.Context(), lab.Fault{Name: "witness-down"}); err != nil {
		t.Fatal(err)
	}
	start(t, o)
	eventually(t, "the first journal is delivered", func() error {
		journals, err := witnessclient.List(o.Journals)
		if err == nil && (len(journals) != 2 || journals[0].Unacked != 0) {
			err = fmt.Errorf("%+v", journals)
		}
		return err
	})
}

// A sentinel gets the TURN servers that agents get now, and keeps them when
// the list cannot be read.
func TestTURNListIsRefreshed(t *testing.T) {
	l := startLab(t, 2)
	o := options(t, l)
	good := o.Agent.TURNServers
	dead, err := wire.ParseServerURI("turn:127.0.0.1:9?transport=udp")
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	o.Agent.TURNServers, o.Refresh = []wire.ServerURI{dead}, 50*time.Millisecond
	o.TURNServers = func(context.Context) ([]wire.ServerURI, error) {
		switch n := calls.Add(1); {
		case n < 3:
			return []wire.ServerURI{dead}, nil
		case n < 5:
			return good, nil
		}
		return nil, errors.New("the controller is down")
	}
	w := start(t, o)
	eventually(t, "it connects through the new servers", func() error { return w.healthy(http.StatusOK, "ok", "") })
	eventually(t, "the list fails and the links stay", func() error {
		m := w.metrics()
		if value(m, "meshctl_turn_list_failures_total") < 3 || value(m, "webrtc_ice_state_links", "connected") != 2 {
			return fmt.Errorf("%v", m)
		}
		return nil
	})
}
