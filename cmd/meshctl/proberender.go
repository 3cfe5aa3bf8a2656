package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/probes"
)

func (a *app) showProbes(round probeRound) error {
	r := results{
		doc: round, text: func(p *page) { p.probes(round) }, code: round.ExitCode,
		suite: func() suite { return probeSuite(a.command, round) },
		prom:  func() []family { return probeFamilies(round) },
	}
	for _, report := range round.Reports {
		r.lines = append(r.lines, report)
	}
	return a.showResults(r)
}

// probes shows a line for each report, and what to do under those that are
// not well.
func (p *page) probes(round probeRound) {
	for _, r := range round.Reports {
		p.line("%s %-10s %-44s %s", p.verdict(r.Verdict), r.Probe, r.where(), r.headline())
		for _, f := range r.Findings {
			if f.Verdict != probes.Pass {
				p.line("        %s %s", p.bad(f.Code+":"), f.Summary)
				if f.Hint != "" {
					p.line("        %s %s", p.dim("hint:"), f.Hint)
				}
			}
			if p.verbose {
				p.facts(f)
			}
		}
		if q := r.Quality; q != nil {
			p.line("        %d of %d packets, loss %.1f %%, jitter %.1f ms, round trip p50 %.1f, p95 %.1f, p99 %.1f ms",
				q.Received, q.Sent, q.Loss*100, q.Jitter, q.P50, q.P95, q.P99)
		}
	}
	at := ""
	if !round.at.IsZero() {
		at = ", at " + round.at.Format(time.TimeOnly)
	}
	p.line("%s %s, in %s%s", p.verdict(round.Verdict), count(round), round.took.Round(time.Millisecond), at)
}

func (p *page) facts(f probes.Finding) {
	for _, fact := range f.Facts {
		p.line("        %s %s", p.dim(fact.Name+":"), fact.Value)
	}
}

// where is the target, and its address when the target does not show it.
func (r probed) where() string {
	if strings.Contains(r.Target, r.Address) {
		return r.Target
	}
	return r.Target + " " + r.Address
}

// headline is the answer in a few words, for a report that is well.
func (r probed) headline() string {
	for _, f := range r.Findings {
		if f.Verdict != probes.Pass {
			continue
		}
		if rtt := f.Fact("rtt_ms"); rtt != "" {
			return fmt.Sprintf("%s (%s ms)", f.Summary, rtt)
		}
		return f.Summary
	}
	return ""
}

// count says how many reports came out how.
func count(round probeRound) string {
	counts := map[probes.Verdict]int{}
	for _, r := range round.Reports {
		counts[r.Verdict]++
	}
	parts := []string{fmt.Sprintf("%d probes", len(round.Reports))}
	for _, v := range []probes.Verdict{probes.Fail, probes.Unknown, probes.Warn, probes.Skip} {
		if counts[v] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[v], v))
		}
	}
	return strings.Join(parts, ", ")
}

// probeSuite is a round for CI: one case a report.
func probeSuite(command string, round probeRound) suite {
	s := suite{name: "meshctl " + command, took: round.took}
	for _, r := range round.Reports {
		c := testCase{class: r.Probe, name: r.where(), verdict: r.Verdict, summary: r.headline(), took: r.Took}
		if f, bad := r.Problem(); bad {
			c.summary, c.hint = f.Code+": "+f.Summary, f.Hint
		}
		s.cases = append(s.cases, c)
	}
	return s
}

// probeFamilies is a round as gauges.
func probeFamilies(round probeRound) []family {
	success := family{name: "meshctl_probe_success", help: "1 when users of the target are served: the verdict is pass or warn."}
	verdict := family{name: "meshctl_probe_verdict", help: "1 for the verdict of the probe."}
	duration := family{name: "meshctl_probe_duration_seconds", help: "How long the probe took."}
	finding := family{name: "meshctl_probe_finding", help: "1 for each finding that is not a pass; see meshctl explain CODE."}
	notAfter := family{name: "meshctl_cert_not_after_timestamp_seconds", help: "When the served certificate expires."}
	rtt := family{name: "meshctl_probe_rtt_seconds", help: "Shortest round trip to the server."}
	for _, r := range round.Reports {
		labels := []string{"kind", r.Probe, "target", r.Target, "address", r.Address}
		with := func(more ...string) []string { return append(append([]string{}, labels...), more...) }
		healthy := 0.0
		if r.Healthy() {
			healthy = 1
		}
		success.samples = append(success.samples, sample{healthy, labels})
		verdict.samples = append(verdict.samples, sample{1, with("verdict", string(r.Verdict))})
		duration.samples = append(duration.samples, sample{r.Took.Seconds(), labels})
		seen := map[string]bool{}
		for _, f := range r.Findings {
			if f.Verdict != probes.Pass && !seen[f.Code] {
				seen[f.Code] = true
				finding.samples = append(finding.samples, sample{1, with("code", f.Code)})
			}
		}
		if at, err := time.Parse(time.RFC3339, r.fact("not_after")); err == nil {
			notAfter.samples = append(notAfter.samples, sample{float64(at.Unix()), labels})
		}
		if ms, err := strconv.ParseFloat(r.fact("rtt_ms"), 64); err == nil {
			rtt.samples = append(rtt.samples, sample{ms / 1000, labels})
		}
	}
	return append([]family{success, verdict, duration, finding, notAfter, rtt}, qualityFamilies(round)...)
}

func qualityFamilies(round probeRound) []family {
	loss := family{name: "meshctl_probe_loss_ratio", help: "Packets lost on the relayed path, of 0 to 1."}
	jitter := family{name: "meshctl_probe_jitter_seconds", help: "Jitter of the relayed path (RFC 3550)."}
	path := family{name: "meshctl_probe_relay_rtt_seconds", help: "Round trip through the relay."}
	for _, r := range round.Reports {
		if r.Quality == nil {
			continue
		}
		labels := []string{"kind", r.Probe, "target", r.Target, "address", r.Address}
		loss.samples = append(loss.samples, sample{r.Quality.Loss, labels})
		jitter.samples = append(jitter.samples, sample{r.Quality.Jitter / 1000, labels})
		for i, ms := range []float64{r.Quality.P50, r.Quality.P95, r.Quality.P99} {
			quantile := []string{"0.5", "0.95", "0.99"}[i]
			path.samples = append(path.samples, sample{ms / 1000, append(append([]string{}, labels...), "quantile", quantile)})
		}
	}
	return []family{loss, jitter, path}
}

// fact is the first value of a fact in any finding.
func (r probed) fact(name string) string {
	for _, f := range r.Findings {
		if value := f.Fact(name); value != "" {
			return value
		}
	}
	return ""
}
