package runbooks

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

// judging is a validation of a scripted mesh whose recovery is known.
func judging(t *testing.T, l *lab.Lab, replies map[string]string) (*validation, *script) {
	t.Helper()
	r, s := scripted(t, l, replies)
	return &validation{mesh: r.mesh, run: NewRunID(), subject: Subject{FailoverID: "fo", known: true, facts: r.facts}}, s
}

func judged(t *testing.T, got answer, want probes.Verdict, summary string) {
	t.Helper()
	if got.verdict != want || !strings.Contains(got.summary, summary) {
		t.Errorf("got %+v, want %s %q", got, want, summary)
	}
}

func TestJudgeDelivery(t *testing.T) {
	t.Parallel()
	good := func() mesh.DeliveryResult {
		return mesh.DeliveryResult{
			Pairs: []mesh.PairResult{{From: "a", To: "b", Connected: true, Tally: mesh.Tally{Sent: 10_000}}},
			Tally: mesh.Tally{Sent: 10_000, Received: 10_000, LatencyP95: 50 * time.Millisecond},
		}
	}
	for _, tt := range []struct {
		name   string
		change func(r *mesh.DeliveryResult)
		want   probes.Verdict
	}{
		{"all delivered", func(*mesh.DeliveryResult) {}, probes.Pass},
		{"loss of 0.1 %", func(r *mesh.DeliveryResult) { r.Lost = 10 }, probes.Pass},
		{"loss above 0.1 %", func(r *mesh.DeliveryResult) { r.Lost = 11 }, probes.Warn},
		{"loss above 0.5 %", func(r *mesh.DeliveryResult) { r.Lost = 51 }, probes.Fail},
		{"slow", func(r *mesh.DeliveryResult) { r.LatencyP95 = 101 * time.Millisecond }, probes.Warn},
		{"very slow", func(r *mesh.DeliveryResult) { r.LatencyP95 = 201 * time.Millisecond }, probes.Fail},
		{"one twice", func(r *mesh.DeliveryResult) { r.Duplicated = 1 }, probes.Fail},
		{"one out of order", func(r *mesh.DeliveryResult) { r.Reordered = 1 }, probes.Fail},
		{"one corrupt", func(r *mesh.DeliveryResult) { r.Corrupt = 1 }, probes.Fail},
		{"a pair that was not tried to the end", func(r *mesh.DeliveryResult) {
			r.Pairs = append(r.Pairs, mesh.PairResult{From: "b", To: "a", Untried: true})
		}, probes.Unknown},
		{"a pair that never connected", func(r *mesh.DeliveryResult) { r.Pairs = append(r.Pairs, mesh.PairResult{From: "b", To: "a"}) }, probes.Fail},
		{"a pair that sent nothing", func(r *mesh.DeliveryResult) { r.Pairs[0].Sent = 0 }, probes.Fail},
		{"no pairs", func(r *mesh.DeliveryResult) { r.Pairs = nil }, probes.Fail},
		{"nothing sent", func(r *mesh.DeliveryResult) { r.Sent = 0 }, probes.Fail},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := good()
			tt.change(&r)
			if got := judgeDelivery(r, DefaultThresholds()); got.verdict != tt.want {
				t.Errorf("got %+v, want %s", got, tt.want)
			}
		})
	}
}

// Round trips are judged apart by path; a link that reports none, an old one or
// no path leaves the whole unknown.
func TestLatency(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	link := func(path string, rtt, age float64) string {
		return fmt.Sprintf(`{"state":"connected","path":%q,"rtt_ms":%v,"rtt_age_ms":%v}`, path, rtt, age)
	}
	for _, tt := range []struct {
		name  string
		conns []string
		want  probes.Verdict
		said  string
	}{
		{"fast", []string{link("host", 20, 100), link("relay", 80, 100)}, probes.Pass, "direct p50 20.0 ms, p95 20.0 ms; relay p50 80.0 ms, p95 80.0 ms"},
		{"slow direct", []string{link("srflx", 301, 0)}, probes.Warn, ""},
		{"as slow is fine for a relay", []string{link("relay", 301, 0)}, probes.Pass, ""},
		{"very slow direct", []string{link("host", 501, 0), link("relay", 80, 0)}, probes.Fail, ""},
		{"very slow relay", []string{link("host", 20, 0), link("relay", 2001, 0)}, probes.Fail, ""},
		{"one without a value", []string{link("host", 20, 0), conn("", "", "connected", "")}, probes.Unknown, "1 connected links report no fresh round trip"},
		{"one too old", []string{link("host", 20, 0), link("host", 20, 6001)}, probes.Unknown, "1 connected links"},
		{"one without its age", []string{`{"state":"connected","path":"host","rtt_ms":20}`}, probes.Unknown, ""},
		{"one without a path", []string{`{"state":"connected","rtt_ms":20,"rtt_age_ms":1}`}, probes.Unknown, ""},
		{"one that is down does not count", []string{link("host", 20, 0), conn("", "", "failed", "")}, probes.Pass, ""},
		{"none", nil, probes.Unknown, "0 connected links"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, _ := judging(t, l, map[string]string{"GET /stats": stats(3, tt.conns...)})
			v.mesh.Thresholds = DefaultThresholds()
			judged(t, v.latency(t.Context()), tt.want, tt.said)
		})
	}
}

func TestQuantile(t *testing.T) {
	for _, tt := range []struct {
		name   string
		values []float64
		q      float64
		want   float64
	}{
		{"one", []float64{7}, 0.95, 7},
		{"median of an odd number", []float64{9, 1, 5}, 0.5, 5},
		{"the worst of few", []float64{1, 1, 1, 99}, 0.95, 99},
		{"not the worst of many", append(make([]float64, 99), 99), 0.95, 0},
		{"the top", []float64{1, 2}, 1, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := quantile(tt.values, tt.q); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// A baseline without links proves nothing, and a link that is gone fails.
func TestBaseline(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	for _, tt := range []struct {
		name     string
		known    bool
		baseline []string
		conns    []string
		want     probes.Verdict
		summary  string
	}{
		{"all there", true, []string{"a->b", "b->a"}, []string{conn("a", "b", "connected", ""), conn("b", "a", "connected", ""), conn("c", "a", "failed", "")}, probes.Pass, "all 2 links"},
		{"one gone", true, []string{"a->b", "b->a"}, []string{conn("a", "b", "connected", "")}, probes.Fail, "1 links of the baseline are not connected: b->a"},
		{"one down", true, []string{"a->b"}, []string{conn("a", "b", "disconnected", "")}, probes.Fail, "a->b"},
		{"many gone", true, []string{"a->b", "a->c", "a->d", "a->e"}, nil, probes.Fail, "a->b, a->c, a->d and 1 more"},
		{"not known", false, nil, []string{conn("a", "b", "connected", "")}, probes.Unknown, "no baseline"},
		{"no links before", true, nil, []string{conn("a", "b", "connected", "")}, probes.Unknown, "no baseline"},
		{"whose links it are is not said", true, []string{"a->b"}, []string{conn("a", "b", "connected", ""), conn("", "", "connected", "")}, probes.Unknown, "does not say whose"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, _ := judging(t, l, map[string]string{"GET /stats": stats(3, tt.conns...)})
			v.subject.facts.BaselineKnown, v.subject.facts.Baseline = tt.known, tt.baseline
			judged(t, v.baseline(t.Context()), tt.want, tt.summary)
		})
	}
}

// The configuration is right when the failed server is out of file and
// controller, and the replacement is in.
func TestTurnConfiguration(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	t1, t2, t3 := uriOf(l, "turn-1"), uriOf(l, "turn-2"), uriOf(l, "turn-3")
	stun1 := "stun:" + l.TURN[0].URI.Address()
	for _, tt := range []struct {
		name, file, config string
		want               probes.Verdict
		summary            string
	}{
		{"right", "TURN_SERVERS=" + t3, config(t3, t2), probes.Pass, "is out of env file and controller"},
		{"still in TURN_SERVERS", "TURN_SERVERS=" + t3 + "," + t1, config(t3, t2), probes.Fail, "is still listed in"},
		{"still in STUN_SERVERS", "TURN_SERVERS=" + t3 + "\nSTUN_SERVERS=" + stun1, config(t3, t2), probes.Fail, "is still listed in"},
		{"hidden behind a quote", "TURN_SERVERS=\"" + t3 + "\"," + t1, config(t3, t2), probes.Unknown, "TURN_SERVERS"},
		{"appended", "TURN_SERVERS=" + t3 + "\nTURN_SERVERS+=," + t1, config(t3, t2), probes.Unknown, "TURN_SERVERS"},
		{"only in a comment", "# TURN_SERVERS=" + t1 + "\nTURN_SERVERS=" + t3, config(t3, t2), probes.Pass, ""},
		{"still at the controller", "TURN_SERVERS=" + t3, config(t3, t1), probes.Fail, "the controller still gives"},
		{"replacement not at the controller", "TURN_SERVERS=" + t3, config(t2), probes.Fail, "does not give the replacement"},
		{"controller without a list", "TURN_SERVERS=" + t3, `{"turnFallbackTimeout":1}`, probes.Unknown, "does not show its turn_servers"},
		{"controller with a page", "TURN_SERVERS=" + t3, "<html>", probes.Unknown, "a page of HTML"},
		{"controller with wrong types", "TURN_SERVERS=" + t3, `{"turn_servers":{"0":"x"}}`, probes.Unknown, "turn_servers is a JSON object"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, _ := judging(t, l, map[string]string{"GET /config": tt.config})
			v.mesh.EnvFile = t.TempDir() + "/mesh.env"
			writeFile(t, v.mesh.EnvFile, tt.file+"\n")
			judged(t, v.turnConfiguration(t.Context()), tt.want, tt.summary)
		})
	}
	v, _ := judging(t, l, map[string]string{"GET /config": config(t3, t2)})
	v.mesh.EnvFile = t.TempDir() + "/gone.env"
	judged(t, v.turnConfiguration(t.Context()), probes.Unknown, "no such file")
	v.subject.known = false
	judged(t, v.turnConfiguration(t.Context()), probes.Unknown, "which server failed is not known")
	judged(t, v.turnUnused(t.Context()), probes.Unknown, "which server failed is not known")
	judged(t, v.turnReplacement(t.Context()), probes.Unknown, "which server failed is not known")
}

// Every error event counts once, also where a source stamps whole seconds and
// names no agent; ours do not count.
func TestErrorsAreCounted(t *testing.T) {
	t.Parallel()
	second := time.Now().Add(-time.Second).Truncate(time.Second)
	for _, tt := range []struct {
		name  string
		event witnessclient.Event
		times int
		want  probes.Verdict
		said  string
	}{
		{"as many as allowed", witnessclient.Event{Name: "signature_verification_failed"}, 10, probes.Warn, "0, 0, 10"},
		{"more in one second", witnessclient.Event{Name: "signature_verification_failed"}, 11, probes.Fail, "0, 0, 11"},
		{"critical ones that are named errors too", witnessclient.Event{Name: "all_turn_servers_unhealthy", Severity: "critical"}, 3, probes.Warn, "0, 0, 3"},
		{"critical by severity alone", witnessclient.Event{Name: "srtp_key_compromise_detected", Severity: "critical"}, 11, probes.Fail, "0, 0, 11"},
		{"of our own agents", witnessclient.Event{Name: "signaling_connection_failed", AgentID: "meshctl-X-1"}, 99, probes.Pass, "0, 0, 0"},
		{"of our own runs", witnessclient.Event{Name: "run_step_failed", Metadata: map[string]any{"run": "R"}}, 99, probes.Pass, "0, 0, 0"},
		{"no errors", witnessclient.Event{Name: "agent_registered"}, 99, probes.Pass, "0, 0, 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, _ := witnessMesh(t, lab.Options{})
			e.Mesh.Timings.ErrorWindow = time.Hour
			tt.event.Timestamp = second
			for range tt.times {
				if err := e.Mesh.Witness.Log(t.Context(), tt.event, ""); err != nil {
					t.Fatal(err)
				}
			}
			v := &validation{mesh: e.Mesh}
			got := v.errors(t.Context())
			judged(t, got, tt.want, "errors in three windows of 1h0m0s: "+tt.said)
		})
	}
}

// The audit check wants the completion, by another run than this one.
func TestAudit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		events []witnessclient.Event
		want   probes.Verdict
		said   string
	}{
		{"completed", []witnessclient.Event{{Name: "run_started", FailoverID: "fo"}, {Name: completion, FailoverID: "fo"}}, probes.Pass, "2 events"},
		{"begun only", []witnessclient.Event{{Name: "run_started", FailoverID: "fo"}}, probes.Fail, "1 events of fo, and none says"},
		{"completed by this validation", []witnessclient.Event{{Name: completion, FailoverID: "fo", Metadata: map[string]any{"run": "V"}}}, probes.Fail, "0 events"},
		{"another failover", []witnessclient.Event{{Name: completion, FailoverID: "other"}}, probes.Fail, "0 events"},
		{"validated only", []witnessclient.Event{{Name: "failover_recovery_validated", FailoverID: "fo"}}, probes.Fail, "1 events"},
		{"nothing", nil, probes.Fail, "0 events"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, _ := witnessMesh(t, lab.Options{})
			for _, event := range tt.events {
				event.Timestamp = time.Now()
				if err := e.Mesh.Witness.Log(t.Context(), event, ""); err != nil {
					t.Fatal(err)
				}
			}
			v := &validation{mesh: e.Mesh, run: "V", subject: Subject{FailoverID: "fo"}}
			judged(t, v.audit(t.Context()), tt.want, tt.said)
		})
	}
	e, l := witnessMesh(t, lab.Options{})
	v := &validation{mesh: e.Mesh, run: "V"}
	judged(t, v.audit(t.Context()), probes.Unknown, "no finished recovery is known here")
	v.subject.FailoverID = "fo"
	inject(t, l, "witness-down", "")
	judged(t, v.audit(t.Context()), probes.Unknown, "connection refused")
}
