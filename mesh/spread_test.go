package mesh

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// refusing answers every registration with 401, after which none is tried.
type refusing struct{}

func (refusing) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		Status: "401 Unauthorized", StatusCode: http.StatusUnauthorized, ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: r,
	}, nil
}

// A server that ends all its sockets at once does not get them all back at
// once: the agents come at random within Timing.Spread.
func TestCase16ReconnectsAreSpread(t *testing.T) {
	const agents, bucket = 100, 20 * time.Millisecond
	timing := DefaultTiming()
	if timing.Spread > 250*time.Millisecond {
		t.Errorf("%s: too long, a lost primary is to be replaced within 1.5 s", timing.Spread)
	}
	synctest.Test(t, func(t *testing.T) {
		buckets, latest := map[time.Duration]int{}, time.Duration(0)
		for range agents {
			s, err := newSignaling(AgentOptions{ID: "a", SignalingURLs: []string{"ws://signaling.test"}, Timing: timing},
				func(string, string, metadata) {}, nil)
			if err != nil {
				t.Fatal(err)
			}
			s.client = &http.Client{Transport: refusing{}}
			lost := time.Now()
			if conn := s.reconnect(t.Context()); conn != nil {
				t.Fatal("registered")
			}
			pause := time.Since(lost)
			if pause >= timing.Spread {
				t.Errorf("came after %s", pause)
			}
			buckets[pause/bucket]++
			latest = max(latest, pause)
		}
		most := 0
		for at, n := range buckets {
			most = max(most, n)
			if n > agents/4 {
				t.Errorf("%d of %d agents came within the %s after %s", n, agents, bucket, at*bucket)
			}
		}
		t.Logf("case 16, %d agents lose their socket at once, virtual clock: detected 0 s, recovered %s (expected all within %s, at most a quarter of them in %s); at most %d in %s",
			agents, latest, timing.Spread, bucket, most, bucket)
	})
}
