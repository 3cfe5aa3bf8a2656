package notify_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"
	"go.uber.org/goleak"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/runbooks/notify"
	"github.com/infrafabric/meshctl/witnessclient"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const canary = "CANARY-path-7441"

// channel is a receiver that keeps what it gets.
type channel struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	status []int // of the next replies; then 200
}

func newChannel(t *testing.T, status ...int) *channel {
	t.Helper()
	c := &channel{status: status}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.bodies = append(c.bodies, string(body))
		if len(c.status) > 0 {
			w.Header().Set("Location", "http://127.0.0.1:1/"+canary)
			w.WriteHeader(c.status[0])
			c.status = c.status[1:]
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *channel) url() secret.Secret { return secret.New(c.URL + "/" + canary) }

func (c *channel) got() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.bodies...)
}

func event(name string, pairs ...any) witnessclient.Event {
	e := witnessclient.Event{Name: name, Scenario: "A", Metadata: map[string]any{"run": "RUN-1", "operator": "me@here"}}
	for i := 0; i < len(pairs); i += 2 {
		e.Metadata[pairs[i].(string)] = pairs[i+1]
	}
	return e
}

// failing is a run that fails, is resumed and ends well.
func failing() []witnessclient.Event {
	return []witnessclient.Event{
		event("run_started", "runbook", "turn recover", "changes", true, "params", "SECRET"), event("run_step_intent", "step", "edit"),
		event("run_step_failed", "step", "edit", "error", "<!channel> no & yes"), event("run_step_done", "step", "edit"),
		event("run_finished", "outcome", "done"),
	}
}

func tell(t *testing.T, n *notify.Notifier, events []witnessclient.Event) notify.Report {
	t.Helper()
	for _, e := range events {
		n.Event(e)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return n.Close(ctx)
}

func TestRunIsTold(t *testing.T) {
	slack, hook, pager := newChannel(t), newChannel(t, 500, 429), newChannel(t)
	n := notify.New("north", []notify.Target{
		{Name: "slack", Type: "slack", URL: slack.url()}, {Name: "hook", Type: "webhook", URL: hook.url(), Kinds: []notify.Kind{notify.Failure}},
		{Name: "pager", Type: "pagerduty", URL: pager.url(), Key: secret.New("KEY")},
	}, nil)
	if r := tell(t, n, failing()); r.Sent != 6 || len(r.Problems) != 0 {
		t.Errorf("report = %+v, want 6 sent", r)
	}
	texts := slack.got()
	if len(texts) != 3 || !strings.Contains(texts[0], "turn recover begun by me@here") || !strings.Contains(texts[2], "the run ended: done") {
		t.Errorf("slack got %q", texts)
	}
	if got := gjson.Get(texts[1], "text").String(); !strings.Contains(got, "&lt;!channel&gt; no &amp; yes") {
		t.Errorf("slack text %q, want the mention escaped", got)
	}
	hooks := hook.got() // two refusals that pass, then the message
	if len(hooks) != 3 || gjson.Get(hooks[2], "kind").String() != "failure" || gjson.Get(hooks[2], "schema_version").Int() != 1 || strings.Contains(hooks[2], "SECRET") {
		t.Errorf("webhook got %q", hooks)
	}
	pages := pager.got()
	if len(pages) != 2 {
		t.Fatalf("pagerduty got %q, want a trigger and a resolve", pages)
	}
	for i, action := range []string{"trigger", "resolve"} {
		if gjson.Get(pages[i], "event_action").String() != action || gjson.Get(pages[i], "dedup_key").String() != "RUN-1" || gjson.Get(pages[i], "routing_key").String() != "KEY" {
			t.Errorf("page %d = %s", i, pages[i])
		}
	}
	if gjson.Get(pages[0], "payload.severity").String() != "error" || gjson.Get(pages[0], "payload.source").String() != "north" {
		t.Errorf("trigger = %s", pages[0])
	}
}

func TestSecurityTakesItsOwnRoute(t *testing.T) {
	normal, security := newChannel(t), newChannel(t)
	targets := func(c *channel) []notify.Target {
		return []notify.Target{{Name: "x", Type: "webhook", URL: c.url(), Kinds: []notify.Kind{notify.Start}}}
	}
	incident := event("incident_declared", "summary", "keys leaked", "security", true)
	rotation := event("run_started", "runbook", "keys rotate")
	rotation.Scenario = "E"
	events := []witnessclient.Event{incident, rotation, event("srtp_key_compromise_detected"), event("incident_declared", "summary", "slow")}
	tell(t, notify.New("north", targets(normal), targets(security)), events)
	if len(normal.got()) != 1 || len(security.got()) != 3 {
		t.Errorf("normal route got %d, security %d, want 1 and 3", len(normal.got()), len(security.got()))
	}
	alone := newChannel(t)
	tell(t, notify.New("north", targets(alone), nil), events)
	if len(alone.got()) != 4 {
		t.Errorf("without a security route the normal one got %d, want 4", len(alone.got()))
	}
}

// A receiver that cannot be told is reported, without its address or key.
func TestProblemsAreReportedWithoutSecrets(t *testing.T) {
	refuses, redirects, silent := newChannel(t, 403, 403, 403), newChannel(t, 302, 302, 302), newChannel(t)
	dead := newChannel(t)
	dead.Close()
	silent.Close()
	n := notify.New("north", []notify.Target{
		{Name: "refuses", Type: "slack", URL: refuses.url()},
		{Name: "redirects", Type: "pagerduty", URL: redirects.url(), Key: secret.New(canary)},
		{Name: "dead", Type: "webhook", URL: dead.url(), Kinds: []notify.Kind{notify.Finish}},
		{Name: "plain", Type: "webhook", URL: secret.New("http://hooks.example/" + canary)},
		{Name: "garbled", Type: "webhook", URL: secret.New("https://%zz" + canary)},
		{Name: "empty", Type: "slack"},
	}, nil)
	r := tell(t, n, failing())
	if r.Sent != 0 || len(r.Problems) != 3+2+1+3+3+3 {
		t.Errorf("report = %+v", r)
	}
	all := strings.Join(r.Problems, "\n")
	if strings.Contains(all, canary) {
		t.Errorf("a secret is shown:\n%s", all)
	}
	for _, want := range []string{"refuses was not told of start: HTTP status 403", "redirects was not told of failure: HTTP status 302", "dead was not told of finish: dial tcp", "plain was not told of start: the address is not an https:// one", "empty was not told of start: there is no address"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	if len(refuses.got()) != 3 {
		t.Errorf("a refusal for good was tried again: %d requests", len(refuses.got()))
	}
}

// Close does not wait longer than it may.
func TestCloseIsBounded(t *testing.T) {
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer hangs.Close()
	defer close(release)
	n := notify.New("north", []notify.Target{{Name: "hangs", Type: "slack", URL: secret.New(hangs.URL)}}, nil)
	for _, e := range failing() {
		n.Event(e)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := n.Close(ctx)
	if r.Sent != 0 || len(r.Problems) != 3 || !strings.Contains(r.Problems[0], "there was no time left") {
		t.Errorf("report = %+v", r)
	}
	n.Event(failing()[0]) // too late, and harmless
	if again := n.Close(ctx); len(again.Problems) != 3 {
		t.Errorf("second report = %+v", again)
	}
}

func TestMessageIsJSON(t *testing.T) {
	hook := newChannel(t)
	n := notify.New("north", []notify.Target{{Name: "hook", Type: "webhook", URL: hook.url()}}, nil)
	e := event("mesh_healing_failed_final", "error", strings.Repeat("é", 1000))
	e.AgentID = "agent-1"
	tell(t, n, []witnessclient.Event{e, event("unknown_event"), {Name: "run_finished"}, {Name: "all_turn_servers_unhealthy", AgentID: "agent-1"}})
	bodies := hook.got()
	var m notify.Message
	if len(bodies) != 3 || !strings.Contains(bodies[2], "agent-1 finds no TURN server of mesh north that relays") || json.Unmarshal([]byte(bodies[0]), &m) != nil || m.Kind != notify.HealingFailed || m.Severity != "critical" || len([]rune(m.Summary)) != 300 {
		t.Errorf("got %q, %+v", bodies, m)
	}
}
