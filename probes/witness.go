package probes

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/infrafabric/meshctl/mesh/httpapi"
)

// Witness asks the audit log what recoveries depend on: does it answer a query
// of an authorised client with a list of events?
type Witness struct{ Service }

// witnessQuery matches nothing: the answer that is wanted is an empty list.
const witnessQuery = `{"query":{"event":"meshctl_probe"},"time_range":{"from":"-1m","to":"now"}}`

// Run asks once and reports witness.ok or what was wrong.
func (p Witness) Run(ctx context.Context) Report {
	started := time.Now()
	return reportOf("witness", p.URL, started, p.findings(ctx))
}

func (p Witness) findings(ctx context.Context) []Finding {
	reply, facts, problem := p.ask(ctx, func() (*httpapi.Reply, error) {
		return p.API.Post(ctx, "query events", "/api/query", "", json.RawMessage(witnessQuery), false)
	})
	if problem != nil {
		return []Finding{*problem}
	}
	root, err := reply.Object()
	if err != nil {
		return []Finding{p.problem(ctx, err)}
	}
	results := root.Get("results")
	if !results.IsArray() {
		return []Finding{p.problem(ctx, reply.Invalid("results is %s, not array", httpapi.TypeName(results)))}
	}
	return answered(CodeWitnessOK, append(facts, Fact{"events", strconv.Itoa(len(results.Array()))}))
}
