package runbooks

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

// completionEvents are the events by which the audit log knows that a
// recovery of a scenario was completed.
var completionEvents = map[string]bool{"turn_server_failover_complete": true}

// audit wants the recovery's own completion event at the witness, written by
// another run than this validation.
func (v *validation) audit(ctx context.Context) answer {
	if v.subject.FailoverID == "" {
		return answer{verdict: probes.Unknown, summary: "no finished recovery is known here", hint: "name it with --failover-id"}
	}
	events, err := v.mesh.Witness.Query(ctx, witnessclient.Query{
		Match: map[string]any{"failover_id": v.subject.FailoverID}, From: "-30d", To: "now",
	})
	if err != nil {
		return unknown(err)
	}
	others, completed := 0, false
	for _, e := range events {
		if e.Metadata["run"] == v.run {
			continue
		}
		others++
		completed = completed || completionEvents[e.Name]
	}
	facts := map[string]any{"events": others}
	if !completed {
		return answer{probes.Fail, fmt.Sprintf("the witness holds %d events of %s, and none says that it was completed", others, v.subject.FailoverID), "meshctl witness flush delivers what is still in a journal", facts}
	}
	return answer{probes.Pass, fmt.Sprintf("the witness holds %d events of this failover, its completion among them", others), "", facts}
}

// errorWindows is how many windows make a trend.
const errorWindows = 3

// ErrorNames are the names of events that count as errors; the bare word
// "error" would match a single name.
const ErrorNames = "error|failed|unhealthy|lost"

// errors judges the trend of error events over three windows, the newest of
// which ends now. After a recovery all of them lie behind its end.
func (v *validation) errors(ctx context.Context) answer {
	window := v.mesh.Timings.Scaled(v.mesh.Timings.ErrorWindow)
	end := time.Now()
	from := end.Add(-errorWindows * window)
	var seen []time.Time
	named := regexp.MustCompile(ErrorNames)
	for query, match := range []map[string]any{
		{"event": map[string]any{"regex": ErrorNames}},
		{"severity": "critical"},
	} {
		events, err := v.mesh.Witness.Query(ctx, witnessclient.Query{
			Match: match, From: from.UTC().Format(time.RFC3339Nano), To: end.UTC().Format(time.RFC3339Nano),
		})
		if err != nil {
			return unknown(err)
		}
		for _, e := range events {
			_, ours := e.Metadata["run"]
			before := query > 0 && named.MatchString(e.Name) // found by the query by name
			if !ours && !before && !wire.OwnAgent(e.AgentID) {
				seen = append(seen, e.Timestamp)
			}
		}
	}
	return judgeErrors(bucket(seen, from, window), v.mesh.Thresholds.ErrorsPerWindow, window)
}

func bucket(seen []time.Time, from time.Time, window time.Duration) [errorWindows]int {
	var counts [errorWindows]int
	for _, at := range seen {
		if i := int(at.Sub(from) / window); i >= 0 && i < errorWindows {
			counts[i]++
		}
	}
	return counts
}

func judgeErrors(counts [errorWindows]int, limit int, window time.Duration) answer {
	oldest, middle, newest := counts[0], counts[1], counts[2]
	a := answer{
		verdict: probes.Pass, facts: map[string]any{"windows": counts, "window_s": window.Seconds()},
		summary: fmt.Sprintf("errors in three windows of %s: %d, %d, %d", window, oldest, middle, newest),
	}
	switch {
	case newest > limit:
		a.verdict, a.hint = probes.Fail, fmt.Sprintf("more than %d in the newest window; meshctl witness query --errors", limit)
	case oldest < middle && middle < newest:
		a.verdict, a.hint = probes.Fail, "rising; meshctl witness query --errors"
	case newest > 0 && newest >= middle:
		a.verdict, a.hint = probes.Warn, "not falling"
	}
	return a
}
