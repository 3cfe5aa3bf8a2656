package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/httpapi"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/witnessclient"
)

const witnessKey = "witness-key"

type testWitness struct {
	*witness
	t    *testing.T
	url  string
	path string
}

func startWitness(t *testing.T, noDedup bool) *testWitness {
	t.Helper()
	path := filepath.Join(t.TempDir(), "witness.jsonl")
	w, err := newWitness(path, secret.New(witnessKey), noDedup)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.file.Close() })
	return &testWitness{witness: w, t: t, url: openTestSite(t, w.handler()).url(), path: path}
}

// log sends an event and gives the status.
func (w *testWitness) log(body, key string) int {
	w.t.Helper()
	status, _ := call{http.MethodPost, w.url + "/api/log", body, witnessKey, key}.do(w.t)
	return status
}

// ask gives the names of the events that a query finds.
func (w *testWitness) ask(query string) []string {
	w.t.Helper()
	status, body := call{http.MethodPost, w.url + "/api/query", query, witnessKey, ""}.do(w.t)
	if status != http.StatusOK {
		w.t.Fatalf("query: HTTP %d %s", status, body)
	}
	var reply struct {
		Results []struct {
			Event string `json:"event"`
		} `json:"results"`
	}
	if err := json.Unmarshal([]byte(body), &reply); err != nil || reply.Results == nil {
		w.t.Fatalf("query: %s: %v", body, err)
	}
	names := []string{}
	for _, e := range reply.Results {
		names = append(names, e.Event)
	}
	return names
}

func event(name string, at time.Time) string {
	return fmt.Sprintf(`{"event":%q,"timestamp":%q}`, name, at.UTC().Format(time.RFC3339Nano))
}

func TestWitnessReplies(t *testing.T) {
	good := event("run_started", time.Now())
	tests := []struct {
		name string
		call call
		want int
	}{
		{"event", call{http.MethodPost, "/api/log", good, witnessKey, ""}, 200},
		{"event without bearer", call{http.MethodPost, "/api/log", good, "", ""}, 401},
		{"event with another bearer", call{http.MethodPost, "/api/log", good, "witness-kez", ""}, 401},
		{"event not JSON", call{http.MethodPost, "/api/log", `{`, witnessKey, ""}, 400},
		{"array", call{http.MethodPost, "/api/log", `[` + good + `]`, witnessKey, ""}, 400},
		{"no event name", call{http.MethodPost, "/api/log", `{"timestamp":"2025-11-23T11:58:00Z"}`, witnessKey, ""}, 400},
		{"event name a number", call{http.MethodPost, "/api/log", `{"event":1,"timestamp":"2025-11-23T11:58:00Z"}`, witnessKey, ""}, 400},
		{"no timestamp", call{http.MethodPost, "/api/log", `{"event":"x"}`, witnessKey, ""}, 400},
		{"timestamp no time", call{http.MethodPost, "/api/log", `{"event":"x","timestamp":"yesterday"}`, witnessKey, ""}, 400},
		{"too large", call{http.MethodPost, "/api/log", strings.Repeat(" ", maxBody+1), witnessKey, ""}, 413},
		{"query", call{http.MethodPost, "/api/query", `{"query":{}}`, witnessKey, ""}, 200},
		{"query without bearer", call{http.MethodPost, "/api/query", `{"query":{}}`, "", ""}, 401},
		{"bad query", call{http.MethodPost, "/api/query", `{"query":{},"time_range":{"to":"-m"}}`, witnessKey, ""}, 400},
		{"health needs no bearer", call{http.MethodGet, "/health", "", "", ""}, 200},
		{"unknown path", call{http.MethodGet, "/api/events", "", witnessKey, ""}, 404},
		{"wrong method", call{http.MethodGet, "/api/log", "", witnessKey, ""}, 405},
	}
	w := startWitness(t, false)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.call.url = w.url + tt.call.url
			if status, body := tt.call.do(t); status != tt.want {
				t.Errorf("HTTP %d %s, want %d", status, body, tt.want)
			}
		})
	}
	want := WitnessCount{Requests: 8, Accepted: 1, ByKey: map[string]int{}}
	if diff := cmp.Diff(want, w.count()); diff != "" {
		t.Error(diff)
	}
}

func TestWitnessRepeatedKey(t *testing.T) {
	tests := []struct {
		name    string
		noDedup bool
		again   int
		stored  int
	}{
		{"de-duplicated", false, 409, 1},
		{"not de-duplicated", true, 200, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := startWitness(t, tt.noDedup)
			body := event("run_started", time.Now())
			if status := w.log(body, "R1/1"); status != 200 {
				t.Fatalf("first: HTTP %d", status)
			}
			if status := w.log(body, "R1/1"); status != tt.again {
				t.Errorf("again: HTTP %d, want %d", status, tt.again)
			}
			if status := w.log(body, "R1/2"); status != 200 {
				t.Errorf("another key: HTTP %d", status)
			}
			want := WitnessCount{Requests: 3, Accepted: tt.stored + 1, ByKey: map[string]int{"R1/1": tt.stored, "R1/2": 1}}
			if diff := cmp.Diff(want, w.count()); diff != "" {
				t.Error(diff)
			}
			if found := w.ask(`{"query":{}}`); len(found) != tt.stored+1 {
				t.Errorf("found %q", found)
			}
		})
	}
}

func TestWitnessFindsOldestFirst(t *testing.T) {
	w := startWitness(t, false)
	now := time.Now()
	for i, name := range []string{"third", "first", "second", "long ago"} {
		age := []time.Duration{time.Second, 3 * time.Second, 2 * time.Second, time.Hour}[i]
		if status := w.log(event(name, now.Add(-age)), ""); status != 200 {
			t.Fatalf("log: HTTP %d", status)
		}
	}
	got := w.ask(`{"query":{},"time_range":{"from":"-5m","to":"now"}}`)
	if diff := cmp.Diff([]string{"first", "second", "third"}, got); diff != "" {
		t.Error(diff)
	}
}

// The events must come back, and be in the file, byte for byte but for spaces.
func TestWitnessKeepsEvents(t *testing.T) {
	w := startWitness(t, false)
	w.log(`{"timestamp":"2025-11-23T11:58:00Z", "event":"a<b>&c", "metadata":{"big":12345678901234567890}}`, "")
	w.add(witnessclient.Event{Name: "agent_registered", Timestamp: time.Now(), AgentID: "agent-1"})
	content, err := os.ReadFile(w.path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(content), "\n")
	const want = `{"timestamp":"2025-11-23T11:58:00Z","event":"a<b>&c","metadata":{"big":12345678901234567890}}`
	if len(lines) != 3 || lines[0] != want || !strings.Contains(lines[1], "agent_registered") || lines[2] != "" {
		t.Errorf("file %q", content)
	}
	if _, body := (call{http.MethodPost, w.url + "/api/query", `{"query":{"event":"a<b>&c"}}`, witnessKey, ""}).do(t); !strings.Contains(body, `12345678901234567890`) {
		t.Errorf("found %s", body)
	}
	if c := w.count(); c.Requests != 1 || c.Accepted != 1 {
		t.Errorf("counted %+v, want HTTP only", c)
	}
}

func TestWitnessForgetsTheOldest(t *testing.T) {
	w := startWitness(t, false)
	for i := range maxEvents {
		w.events = append(w.events, logged{key: fmt.Sprint(i)})
		w.byKey[fmt.Sprint(i)] = 1
	}
	if status := w.log(event("new", time.Now()), "new"); status != 200 {
		t.Fatalf("HTTP %d", status)
	}
	want := maxEvents - maxEvents/10 + 1
	if len(w.events) != want || len(w.byKey) != want {
		t.Errorf("%d events and %d keys, want %d", len(w.events), len(w.byKey), want)
	}
	if diff := cmp.Diff([]string{"new"}, w.ask(`{"query":{"event":"new"}}`)); diff != "" {
		t.Error(diff)
	}
}

func TestWitnessRefusesAll(t *testing.T) {
	w := startWitness(t, false)
	body := event("x", time.Now())
	w.faults.set("witness-401", true)
	if status := w.log(body, ""); status != 401 {
		t.Errorf("HTTP %d", status)
	}
	w.add(witnessclient.Event{Name: "lost", Timestamp: time.Now()})
	w.faults.set("witness-401", false)
	if status := w.log(body, ""); status != 200 {
		t.Errorf("healed: HTTP %d", status)
	}
	if diff := cmp.Diff([]string{"x"}, w.ask(`{"query":{}}`)); diff != "" {
		t.Error(diff)
	}
}

func TestWitnessLosesOneReply(t *testing.T) {
	w := startWitness(t, false)
	c, err := witnessclient.New(witnessclient.Options{URL: w.url, APIKey: secret.New(witnessKey)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w.faults.set("witness-loses-reply", true)
	e := witnessclient.Event{Name: "x", Timestamp: time.Now()}
	var unreachable *httpapi.UnreachableError
	if err := c.Log(t.Context(), e, "R1/1"); !errors.As(err, &unreachable) {
		t.Errorf("error %v, want unreachable", err)
	}
	if diff := cmp.Diff(map[string]int{"R1/1": 1}, w.count().ByKey); diff != "" {
		t.Errorf("not stored: %s", diff)
	}
	if err := c.Log(t.Context(), e, "R1/2"); err != nil {
		t.Errorf("second: %v", err)
	}
}

func TestWitnessSlow(t *testing.T) {
	w := startWitness(t, false)
	if w.slowness != 10*time.Second {
		t.Errorf("answers after %s", w.slowness)
	}
	w.faults.set("witness-slow", true)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r := call{http.MethodPost, w.url + "/api/log", event("x", time.Now()), witnessKey, ""}.request(t).WithContext(ctx)
	if reply, err := client.Do(r); err == nil {
		_ = reply.Body.Close()
		t.Errorf("HTTP %s at once", reply.Status)
	}
	if c := w.count(); c.Requests != 0 {
		t.Errorf("an abandoned request got through: %+v", c)
	}
	w.faults.set("witness-slow", false)
	if status := w.log(event("x", time.Now()), ""); status != 200 {
		t.Errorf("healed: HTTP %d", status)
	}
}

func TestWitnessSlowAnswersInTheEnd(t *testing.T) {
	w := startWitness(t, false)
	w.slowness = time.Millisecond
	w.faults.set("witness-slow", true)
	if status := w.log(event("x", time.Now()), ""); status != 200 {
		t.Errorf("HTTP %d", status)
	}
	if c := w.count(); c.Accepted != 1 {
		t.Errorf("counted %+v", c)
	}
}
