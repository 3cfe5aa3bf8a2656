package metrics

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	quantileQuery = `histogram_quantile(%v, sum by (le, connection_type) (rate(webrtc_rtt_milliseconds_bucket[5m])))`
	ageQuery      = `time() - max by (connection_type) (timestamp(webrtc_rtt_milliseconds_bucket{le="+Inf"}))`

	// StaleAfter is the age from which a latency is not news any more: three
	// of the scrape intervals that are usual.
	StaleAfter = 45 * time.Second
)

// The paths that the latency is kept for, as connection_type has them.
const (
	Direct = "p2p"
	Relay  = "relay"
)

// RTT is the round trip over the last five minutes, in milliseconds.
type RTT struct {
	P50, P95 float64
	Age      time.Duration // of the newest sample
}

// NoDataError says that Prometheus answered and does not know.
type NoDataError struct{ Reason string }

func (e *NoDataError) Error() string { return "prometheus has no latency: " + e.Reason }

// Latency asks for the round trips by path, Direct or Relay. A path without
// current data is not in the answer; when none is, the error is a
// *NoDataError. Other errors are those of Query.
func (c *Client) Latency(ctx context.Context) (map[string]RTT, error) {
	var p50, p95, age []Sample
	group, bounded := errgroup.WithContext(ctx)
	for expression, into := range map[string]*[]Sample{
		fmt.Sprintf(quantileQuery, 0.5): &p50, fmt.Sprintf(quantileQuery, 0.95): &p95, ageQuery: &age,
	} {
		group.Go(func() (err error) {
			*into, err = c.Query(bounded, expression)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return latency(p50, p95, age)
}

func latency(p50, p95, age []Sample) (map[string]RTT, error) {
	known, missing := map[string]RTT{}, []string{}
	middle, high, ages := byPath(p50), byPath(p95), byPath(age)
	for _, path := range slices.Sorted(maps.Keys(ages)) {
		r := RTT{Age: time.Duration(ages[path] * float64(time.Second))}
		var there, also bool
		r.P50, there = middle[path]
		r.P95, also = high[path]
		switch {
		case path != Direct && path != Relay:
			missing = append(missing, fmt.Sprintf("connection_type %.40q is neither %s nor %s", path, Direct, Relay))
		case r.Age > StaleAfter:
			missing = append(missing, fmt.Sprintf("%s: the newest sample is %s old", path, r.Age.Round(time.Second)))
		case !there || !also || !finite(r.P50) || !finite(r.P95):
			missing = append(missing, path+": nothing was measured in the last 5 minutes")
		default:
			known[path] = r
		}
	}
	if len(known) > 0 {
		return known, nil
	}
	if len(missing) == 0 {
		missing = append(missing, "no series webrtc_rtt_milliseconds_bucket")
	}
	return nil, &NoDataError{strings.Join(missing, "; ")}
}

func byPath(samples []Sample) map[string]float64 {
	values := map[string]float64{}
	for _, s := range samples {
		values[s.Labels["connection_type"]] = s.Value
	}
	return values
}

// finite: a quantile beyond the last bucket is +Inf or that bucket's bound,
// and NaN says that nothing was observed.
func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) && v >= 0 }
