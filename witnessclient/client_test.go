package witnessclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/httpapi"
	"github.com/infrafabric/meshctl/mesh/secret"
)

// reply starts a server that answers everything alike and keeps the last request.
func reply(t *testing.T, status int, body string) (c *Client, request *http.Request, sent *string) {
	t.Helper()
	request, sent = &http.Request{}, new(string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		*request, *sent = *r, string(raw)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return testClient(t, server.URL, time.Minute), request, sent
}

func TestQuery(t *testing.T) {
	c, request, sent := reply(t, 200, `{"results":[
		{"event":"ice_candidate_sent","timestamp":"2026-03-01T12:00:00+01:00","ice_candidate":{"candidate":"x"},"received_by":"w1"},
		{"event":"connection_state_changed","timestamp":"2026-03-01T11:00:00.250Z","metadata":{"state":"failed","n":3},"trace_id":null}]}`)
	got, err := c.Query(t.Context(), Query{Match: map[string]any{"event": map[string]any{"regex": "a|b"}, "metadata.run": "R"}, From: "-5m", To: "now"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i].Timestamp = got[i].Timestamp.UTC()
	}
	want := []Event{
		{Name: "ice_candidate_sent", Timestamp: time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC), ICECandidate: `{"candidate":"x"}`},
		{Name: "connection_state_changed", Timestamp: time.Date(2026, 3, 1, 11, 0, 0, 250_000_000, time.UTC), Metadata: map[string]any{"state": "failed", "n": 3.0}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if want := `{"query":{"event":{"regex":"a|b"},"metadata.run":"R"},"time_range":{"from":"-5m","to":"now"}}`; *sent != want {
		t.Errorf("sent %s\nwant %s", *sent, want)
	}
	if request.URL.Path != "/api/query" || request.Method != "POST" || request.Header.Get("Authorization") != "Bearer "+testKey {
		t.Errorf("request %s %s %v", request.Method, request.URL, request.Header)
	}
	if _, err := c.Query(t.Context(), Query{From: "-1h"}); err != nil || *sent != `{"query":{},"time_range":{"from":"-1h"}}` {
		t.Errorf("sent %s, %v", *sent, err)
	}
}

func TestUnusableReplyToQueryIsNeverZeroEvents(t *testing.T) {
	for _, test := range []struct{ name, body, reason string }{
		{"empty", "", "empty"},
		{"html", "<html></html>", "HTML"},
		{"cut short", `{"results":[`, "cut short"},
		{"no results", `{"error":"x"}`, "results is nothing"},
		{"null", `{"results":null}`, "results is null"},
		{"number", `{"results":0}`, "results is number"},
		{"object", `{"results":{}}`, "results is object"},
		{"array at the top", `[]`, "instead of an object"},
		{"result no object", `{"results":[{"event":"a"},"b"]}`, "results[1]: is string"},
		{"event missing", `{"results":[{"name":"a"}]}`, "event is nothing"},
		{"event a number", `{"results":[{"event":7}]}`, "event is number"},
		{"timestamp a number", `{"results":[{"event":"a","timestamp":1}]}`, "results[0]"},
		{"metrics an array", `{"results":[{"event":"a","metrics":[1]}]}`, "results[0]"},
		{"too large", `{"results":[],"pad":"` + strings.Repeat("a", maxReply) + `"}`, "16 MiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, _, _ := reply(t, 200, test.body)
			got, err := c.Query(t.Context(), Query{})
			var bad *httpapi.ReplyError
			if !errors.As(err, &bad) || !strings.Contains(bad.Reason, test.reason) || got != nil {
				t.Errorf("%v, %v; want *ReplyError with %q", got, err, test.reason)
			}
		})
	}
	c, _, _ := reply(t, 200, `{"results":[]}`)
	if got, err := c.Query(t.Context(), Query{}); err != nil || got == nil || len(got) != 0 {
		t.Errorf("no events: %v, %v", got, err)
	}
	c, _, _ = reply(t, 503, `{"results":[]}`)
	var status *httpapi.StatusError
	if got, err := c.Query(t.Context(), Query{}); !errors.As(err, &status) || status.Code != 503 || got != nil {
		t.Errorf("503: %v, %v", got, err)
	}
}

func TestLog(t *testing.T) {
	for status, acknowledged := range map[int]bool{
		200: true, 201: true, 202: true, 204: true, 409: true,
		302: false, 400: false, 401: false, 403: false, 404: false, 413: false, 429: false, 500: false, 503: false,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			c, request, sent := reply(t, status, "")
			err := c.Log(t.Context(), Event{Name: "x", Timestamp: time.Unix(0, 0), Metadata: map[string]any{"k": secret.New("canary-2")}}, "R/7")
			if (err == nil) != acknowledged {
				t.Errorf("%v, want acknowledged %v", err, acknowledged)
			}
			if request.Header.Get("Idempotency-Key") != "R/7" || request.URL.Path != "/api/log" {
				t.Errorf("request %s %v", request.URL, request.Header)
			}
			if want := `{"event":"x","timestamp":"1970-01-01T00:00:00.000Z","metadata":{"k":"[redacted]"}}`; *sent != want {
				t.Errorf("sent %s\nwant %s", *sent, want)
			}
			if err != nil && strings.Contains(err.Error(), testKey) {
				t.Errorf("the key is in the error: %v", err)
			}
		})
	}
}

func TestLogIsOneAttempt(t *testing.T) {
	for _, do := range []int{drop, 500, 503, 429, loseReply, halfReply, hang} {
		w := startWitness(t, "127.0.0.1:0")
		w.logs = []int{do}
		ctx, cancel := context.WithCancel(t.Context())
		w.onHang = cancel
		err := w.client(t).Log(ctx, Event{Name: "x"}, "R/1")
		cancel()
		if err == nil {
			t.Errorf("%d: acknowledged", do)
		}
		if got := w.posts(); got != 1 {
			t.Errorf("%d: %d requests, want 1", do, got)
		}
	}
}

func TestSilentWitness(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	w.queries = []int{hang, hang}
	_, err := testClient(t, w.URL, 50*time.Millisecond).Query(t.Context(), Query{})
	var unreachable *httpapi.UnreachableError
	if !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "/api/query: no answer after") {
		t.Errorf("%v, want *UnreachableError that says what did not answer", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.client(t).Query(ctx, Query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestHealth(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		body   string
		ok     bool
	}{
		{"json", 200, `{"status":"ok"}`, true},
		{"text", 200, "ok\n", true},
		{"not ok", 200, `{"status":"degraded"}`, false},
		{"no status", 200, `{}`, false},
		{"status a boolean", 200, `{"status":true}`, false},
		{"html", 200, "<html>ok</html>", false},
		{"404", 404, "ok", false},
		{"401", 401, "ok", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, request, _ := reply(t, test.status, test.body)
			if err := c.Health(t.Context()); (err == nil) != test.ok || request.URL.Path != "/health" {
				t.Errorf("%s: %v, want ok %v", request.URL, err, test.ok)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []Options{
		{},
		{URL: "ftp://witness"},
		{URL: "http://witness.example", APIKey: secret.New(testKey)},
		{URL: "https://witness.example", CAFile: "/does/not/exist"},
	} {
		if _, err := New(o); err == nil || strings.Contains(err.Error(), testKey) {
			t.Errorf("New(%+v): %v", o, err)
		}
	}
}

func FuzzEvent(f *testing.F) {
	f.Add([]byte(`{"event":"a","timestamp":"2026-03-01T12:00:00.123Z","metadata":{"seq":1},"ice_candidate":{"a":[1]}}`))
	f.Add([]byte(`{"event":"a","timestamp":"2026-03-01T12:00:00+14:00","metrics":{"x":1e300},"ice_candidate":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e, again Event
		if json.Unmarshal(data, &e) != nil {
			return
		}
		encoded, err := json.Marshal(e)
		if err != nil {
			t.Fatalf("encode %+v: %v", e, err)
		}
		if err := json.Unmarshal(encoded, &again); err != nil && e.Timestamp.UTC().Year() <= 9999 && e.Timestamp.UTC().Year() >= 0 {
			t.Fatalf("read %s again: %v", encoded, err)
		}
	})
}
