package metrics

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/httpapi"
	"github.com/infrafabric/meshctl/mesh/secret"
)

// serve answers every query by what is in it.
func serve(t *testing.T, answer func(query string) (int, string)) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/base/api/v1/query" || r.Header.Get("Authorization") != "Bearer key" {
			t.Errorf("asked %s %s", r.Method, r.URL)
		}
		code, body := answer(r.URL.Query().Get("query"))
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	c, err := New(Options{URL: server.URL + "/base", Bearer: secret.New("key"), Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func vectorOf(samples ...string) string {
	return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(samples, ",") + `]}}`
}

func of(path, value string) string {
	return fmt.Sprintf(`{"metric":{"connection_type":%q},"value":[1700000000.25,%q]}`, path, value)
}

func TestQuery(t *testing.T) {
	c := serve(t, func(q string) (int, string) {
		if q != `up{job="a b"} + 1` {
			t.Errorf("query %q", q)
		}
		return 200, vectorOf(of("relay", "0.5"), `{"metric":{},"value":[1,"NaN"]}`)
	})
	got, err := c.Query(t.Context(), `up{job="a b"} + 1`)
	if err != nil {
		t.Fatal(err)
	}
	want := []Sample{
		{map[string]string{"connection_type": "relay"}, 0.5, time.UnixMilli(1700000000250)},
		{map[string]string{}, math.NaN(), time.Unix(1, 0)},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(time.Time.Equal), cmp.Comparer(func(a, b float64) bool {
		return a == b || math.IsNaN(a) && math.IsNaN(b)
	})); diff != "" {
		t.Error(diff)
	}
}

func TestQueryRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, body, want string
	}{
		{"html", "<html>", "HTML"},
		{"error with 200", `{"status":"error","error":"x"}`, `status is "error"`},
		{"no status", `{}`, "status is"},
		{"matrix", `{"status":"success","data":{"resultType":"matrix","result":[]}}`, `"matrix", not "vector"`},
		{"no result", `{"status":"success","data":{"resultType":"vector"}}`, "not an array"},
		{"null result", `{"status":"success","data":{"resultType":"vector","result":null}}`, "not an array"},
		{"number as number", vectorOf(`{"metric":{},"value":[1,0.5]}`), "no sample"},
		{"no metric", vectorOf(`{"value":[1,"0.5"]}`), "no sample"},
		{"no number", vectorOf(of("relay", "fast")), "no number"},
		{"far future", vectorOf(`{"metric":{},"value":[1e30,"1"]}`), "no number at a time"},
		{"too many", vectorOf(strings.Repeat(of("relay", "1")+",", maxSamples) + of("relay", "1")), "more than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := serve(t, func(string) (int, string) { return 200, tt.body })
			got, err := c.Query(t.Context(), "up")
			var reply *httpapi.ReplyError
			if !errors.As(err, &reply) || !strings.Contains(err.Error(), tt.want) || got != nil {
				t.Errorf("got %v, error %v", got, err)
			}
		})
	}
	c := serve(t, func(string) (int, string) { return 400, `{"status":"error","error":"parse error"}` })
	var status *httpapi.StatusError
	if _, err := c.Query(t.Context(), "("); !errors.As(err, &status) || status.Detail != "parse error" {
		t.Errorf("error %v", err)
	}
}

func TestLatency(t *testing.T) {
	for _, tt := range []struct {
		name          string
		p50, p95, age []string
		want          map[string]RTT
		noData        string
	}{
		{"both", []string{of("p2p", "1"), of("relay", "2")}, []string{of("p2p", "3"), of("relay", "4")}, []string{of("p2p", "1"), of("relay", "2")},
			map[string]RTT{Direct: {1, 3, time.Second}, Relay: {2, 4, 2 * time.Second}}, ""},
		{"one is NaN", []string{of("p2p", "NaN"), of("relay", "2")}, []string{of("p2p", "NaN"), of("relay", "4")}, []string{of("p2p", "1"), of("relay", "2")},
			map[string]RTT{Relay: {2, 4, 2 * time.Second}}, ""},
		{"no series", nil, nil, nil, nil, "no series"},
		{"NaN", []string{of("relay", "NaN")}, []string{of("relay", "NaN")}, []string{of("relay", "1")}, nil, "nothing was measured"},
		{"gone", []string{of("relay", "1")}, []string{of("relay", "2")}, nil, nil, "no series"},
		{"stale", []string{of("relay", "1")}, []string{of("relay", "2")}, []string{of("relay", "46")}, nil, "is 46s old"},
		{"infinite", []string{of("relay", "1")}, []string{of("relay", "+Inf")}, []string{of("relay", "1")}, nil, "nothing was measured"},
		{"no path", []string{of("", "1")}, []string{of("", "2")}, []string{of("", "1")}, nil, "neither p2p nor relay"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := serve(t, func(q string) (int, string) {
				switch {
				case strings.HasPrefix(q, "histogram_quantile(0.5,"):
					return 200, vectorOf(tt.p50...)
				case strings.HasPrefix(q, "histogram_quantile(0.95,"):
					return 200, vectorOf(tt.p95...)
				}
				return 200, vectorOf(tt.age...)
			})
			got, err := c.Latency(t.Context())
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			var none *NoDataError
			if (tt.noData != "") != errors.As(err, &none) || err != nil && !strings.Contains(err.Error(), tt.noData) {
				t.Errorf("error %v, want %q", err, tt.noData)
			}
		})
	}
}

func FuzzVector(f *testing.F) {
	f.Add(vectorOf(of("relay", "0.5")))
	f.Add(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":1},"value":[1,"-Inf"]}]}}`)
	f.Fuzz(func(t *testing.T, body string) {
		root, err := httpapi.Object([]byte(body))
		if err != nil {
			return
		}
		samples, err := vector(root)
		if err != nil && samples != nil {
			t.Error("samples with an error")
		}
	})
}
