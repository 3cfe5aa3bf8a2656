package probes

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/infrafabric/meshctl/mesh/httpapi"
)

// Prometheus asks the metrics server a question that every one can answer:
// which targets are up?
type Prometheus struct{ Service }

// Run asks once and reports prometheus.ok or what was wrong.
func (p Prometheus) Run(ctx context.Context) Report {
	started := time.Now()
	return reportOf("prometheus", p.URL, started, p.findings(ctx))
}

func (p Prometheus) findings(ctx context.Context) []Finding {
	reply, facts, problem := p.ask(ctx, func() (*httpapi.Reply, error) {
		return p.API.GetQuery(ctx, "query metrics", "/api/v1/query", url.Values{"query": {"up"}})
	})
	if problem != nil {
		return []Finding{*problem}
	}
	total, down, err := upTargets(reply)
	if err != nil {
		return []Finding{p.problem(ctx, err)}
	}
	facts = append(facts, Fact{"targets", strconv.Itoa(total)}, Fact{"targets_down", strconv.Itoa(len(down))})
	findings := answered(CodePrometheusOK, facts)
	switch {
	case total == 0:
		findings = append(findings, newFinding(CodePrometheusEmpty, ""))
	case len(down) > 0:
		const most = 5
		shown := strings.Join(down[:min(len(down), most)], ", ")
		findings = append(findings, newFinding(CodePrometheusDown, fmt.Sprintf("%d of %d: %s", len(down), total, shown)))
	}
	return findings
}

// upTargets reads an instant vector of `up`: its samples are targets, and 0
// means that the last scrape failed.
func upTargets(reply *httpapi.Reply) (total int, down []string, err error) {
	root, err := reply.Object()
	if err != nil {
		return 0, nil, err
	}
	result := root.Get("data.result")
	if root.Get("status").Str != "success" || root.Get("data.resultType").Str != "vector" || !result.IsArray() {
		return 0, nil, reply.Invalid("not an instant vector")
	}
	for i, sample := range result.Array() {
		value, errValue := strconv.ParseFloat(sample.Get("value.1").Str, 64)
		if sample.Get("value.1").Type != gjson.String || errValue != nil {
			return 0, nil, reply.Invalid("result[%d] has no value", i)
		}
		if value != 1 {
			down = append(down, printable(sample.Get("metric.instance").String()))
		}
	}
	return len(result.Array()), down, nil
}
