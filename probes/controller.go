package probes

import (
	"context"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"github.com/infrafabric/meshctl/mesh/httpapi"
)

// Controller asks for the statistics that every recovery is judged by. Health
// alone proves nothing: a balancer answers it for dead servers.
type Controller struct{ Service }

// Run asks once and reports controller.ok or what was wrong.
func (p Controller) Run(ctx context.Context) Report {
	started := time.Now()
	return reportOf("controller", p.URL, started, p.findings(ctx))
}

func (p Controller) findings(ctx context.Context) []Finding {
	reply, facts, problem := p.ask(ctx, func() (*httpapi.Reply, error) {
		return p.API.Get(ctx, "read stats", "/stats")
	})
	if problem != nil {
		return []Finding{*problem}
	}
	root, err := reply.Object()
	if err != nil {
		return []Finding{p.problem(ctx, err)}
	}
	agents, connections := root.Get("total_agents"), root.Get("connections")
	if agents.Type != gjson.Number || !connections.IsArray() {
		return []Finding{p.problem(ctx, reply.Invalid("total_agents is %s and connections is %s",
			httpapi.TypeName(agents), httpapi.TypeName(connections)))}
	}
	links := int(connections.Get("#").Int())
	return answered(CodeControllerOK, append(facts, Fact{"agents", agents.Raw}, Fact{"connections", strconv.Itoa(links)}))
}
