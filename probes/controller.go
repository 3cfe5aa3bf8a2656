package probes

import (
	"context"

	"github.com/tidwall/gjson"

	"github.com/infrafabric/meshctl/mesh/httpapi"
)

// Controller asks for the statistics that every recovery is judged by. Health
// alone proves nothing: a balancer answers it for dead servers.
type Controller struct{ Service }

// Run asks once and reports controller.ok or what was wrong.
func (p Controller) Run(ctx context.Context) Report {
	return p.ask(ctx, "controller", question{
		ok:   CodeControllerOK,
		call: func() (*httpapi.Reply, error) { return p.API.Get(ctx, "read stats", "/stats") },
		read: func(reply *httpapi.Reply, root gjson.Result) ([]Fact, []Finding, error) {
			agents, connections := root.Get("total_agents"), root.Get("connections")
			if agents.Type != gjson.Number || !connections.IsArray() {
				return nil, nil, reply.Invalid("total_agents is %s and connections is %s",
					httpapi.TypeName(agents), httpapi.TypeName(connections))
			}
			return []Fact{{"agents", agents.Raw}, {"connections", connections.Get("#").String()}}, nil, nil
		},
	})
}
