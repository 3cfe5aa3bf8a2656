package probes

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/infrafabric/meshctl/mesh/httpapi"
)

// Prometheus asks the metrics server a question that every one can answer:
// which targets are up?
type Prometheus struct{ Service }

// Run asks once and reports prometheus.ok or what was wrong.
func (p Prometheus) Run(ctx context.Context) Report {
	return p.ask(ctx, "prometheus", question{
		ok: CodePrometheusOK,
		call: func() (*httpapi.Reply, error) {
			return p.API.GetQuery(ctx, "query metrics", "/api/v1/query", url.Values{"query": {"up"}})
		},
		read: targetsUp,
	})
}

func targetsUp(reply *httpapi.Reply, root gjson.Result) (facts []Fact, more []Finding, err error) {
	total, down, err := upTargets(reply, root)
	switch {
	case err != nil:
		return nil, nil, err
	case total == 0:
		more = append(more, newFinding(CodePrometheusEmpty, ""))
	case len(down) > 0:
		const most = 5
		shown := strings.Join(down[:min(len(down), most)], ", ")
		more = append(more, newFinding(CodePrometheusDown, fmt.Sprintf("%d of %d: %s", len(down), total, shown)))
	}
	return []Fact{{"targets", strconv.Itoa(total)}, {"targets_down", strconv.Itoa(len(down))}}, more, nil
}

// upTargets reads an instant vector of `up`: its samples are targets, and 0
// means that the last scrape failed.
func upTargets(reply *httpapi.Reply, root gjson.Result) (total int, down []string, err error) {
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
