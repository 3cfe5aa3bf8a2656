package probes

import (
	"context"
	"encoding/json"

	"github.com/tidwall/gjson"

	"github.com/infrafabric/meshctl/mesh/httpapi"
)

// Witness asks the audit log what recoveries depend on: does it answer a query
// of an authorised client with a list of events?
type Witness struct{ Service }

// witnessQuery matches nothing: the answer that is wanted is an empty list.
const witnessQuery = `{"query":{"event":"meshctl_probe"},"time_range":{"from":"-1m","to":"now"}}`

// Run asks once and reports witness.ok or what was wrong.
func (p Witness) Run(ctx context.Context) Report {
	return p.ask(ctx, "witness", question{
		ok: CodeWitnessOK,
		call: func() (*httpapi.Reply, error) {
			return p.API.Post(ctx, "query events", "/api/query", "", json.RawMessage(witnessQuery), false)
		},
		read: func(reply *httpapi.Reply, root gjson.Result) ([]Fact, []Finding, error) {
			results := root.Get("results")
			if !results.IsArray() {
				return nil, nil, reply.Invalid("results is %s, not array", httpapi.TypeName(results))
			}
			return []Fact{{"events", results.Get("#").String()}}, nil, nil
		},
	})
}
