package runbooks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// PeerGrid is who reaches whom.
type PeerGrid struct {
	Verdict  probes.Verdict `json:"verdict"`
	Summary  string         `json:"summary"`
	Hint     string         `json:"hint"`
	Agents   []string       `json:"agents"`
	Links    []wire.Link    `json:"links"`    // of every direction, as the mesh reports them
	Problems []PeerProblem  `json:"problems"` // worst first

	registered map[string]bool // nil: the controller does not say
}

// PeerProblem is one thing that is wrong with an agent or a pair.
type PeerProblem struct {
	Verdict probes.Verdict `json:"verdict"`
	Agent   string         `json:"agent"`
	Peer    string         `json:"peer,omitempty"` // "" when it concerns the agent as a whole
	Summary string         `json:"summary"`
}

// Peers reads who reaches whom. Agents of meshctl are left out.
func (m *Mesh) Peers(ctx context.Context) (PeerGrid, error) {
	people, err := readPopulation(ctx, m.Controller)
	if err != nil {
		return PeerGrid{}, err
	}
	g := PeerGrid{Verdict: probes.Pass, Agents: []string{}, Links: append([]wire.Link{}, people.links...), Problems: []PeerProblem{}}
	byName, known := people.names()
	if !known {
		g.Verdict, g.Hint = probes.Unknown, "meshctl status shows the counts"
		g.Summary = fmt.Sprintf("the controller does not say whose its %d links are (local, peer)", len(people.links))
		return g, nil
	}
	if err := g.addAgents(ctx, m.Controller); err != nil {
		return PeerGrid{}, err
	}
	g.judge(byName, m.Thresholds)
	return g, nil
}

// addAgents lists who is registered and who has a link. A controller without
// /agents leaves the links.
func (g *PeerGrid) addAgents(ctx context.Context, c *control.Client) error {
	names := map[string]bool{}
	for _, l := range g.Links {
		names[l.Local], names[l.Peer] = true, true
	}
	ids, err := c.Agents(ctx)
	var absent *control.NotOfferedError
	if err != nil && !errors.As(err, &absent) {
		return err
	}
	if err == nil {
		g.registered = map[string]bool{}
	}
	for _, id := range ids {
		if !wire.OwnAgent(id) {
			names[id], g.registered[id] = true, true
		}
	}
	g.Agents = append(g.Agents, slices.Sorted(maps.Keys(names))...)
	return nil
}

func (g *PeerGrid) judge(byName map[string]wire.Link, limits Thresholds) {
	connected := 0
	for _, l := range g.Links {
		if l.State == wire.StateConnected {
			connected++
		}
		if back, both := byName[l.Peer+"->"+l.Local]; both && back.State != l.State && l.State == wire.StateConnected {
			g.problem(probes.Fail, l.Local, l.Peer, fmt.Sprintf("connected, but %s is %s the other way", l.Peer, back.State))
		}
		g.judgeLink(l, limits)
	}
	for _, agent := range g.Agents {
		if len(g.Agents) > 1 && !g.reached(agent) {
			g.problem(probes.Fail, agent, "", g.presence(agent)+"reaches nobody")
		}
	}
	slices.SortStableFunc(g.Problems, func(a, b PeerProblem) int {
		switch {
		case a.Verdict == b.Verdict:
			return 0
		case a.Verdict.Worse(b.Verdict) == a.Verdict:
			return -1
		}
		return 1
	})
	g.Summary = fmt.Sprintf("%d agents, %d of %d links connected, %d problems", len(g.Agents), connected, len(g.Links), len(g.Problems))
	if len(g.Agents) < 2 {
		g.Verdict = g.Verdict.Worse(probes.Unknown)
		g.Summary = fmt.Sprintf("%d agents: nobody to reach", len(g.Agents))
	}
	if i := slices.IndexFunc(g.Problems, func(p PeerProblem) bool { return p.Peer != "" }); i >= 0 {
		g.Hint = fmt.Sprintf("meshctl mesh peers --why %s,%s", g.Problems[i].Agent, g.Problems[i].Peer)
	}
}

// presence tells a dead agent from one that is cut off.
func (g *PeerGrid) presence(agent string) string {
	switch {
	case g.registered == nil:
		return ""
	case g.registered[agent]:
		return "is registered and "
	}
	return "is not registered and "
}

func (g *PeerGrid) judgeLink(l wire.Link, limits Thresholds) {
	switch l.State {
	case wire.StateFailed, wire.StateDisconnected, wire.StateClosed:
		g.problem(probes.Fail, l.Local, l.Peer, l.State)
	case wire.StateNew, wire.StateConnecting:
		g.problem(probes.Warn, l.Local, l.Peer, l.State)
	}
	if l.State != wire.StateConnected {
		return
	}
	if l.RTTMillis != nil {
		warn, fail := limits.RTTDirectWarn, limits.RTTDirectFail
		if l.Path == wire.PathRelay {
			warn, fail = limits.RTTRelayWarn, limits.RTTRelayFail
		}
		g.limit(l, *l.RTTMillis, warn, fail, "round trip %.0f ms (limit %g ms)")
	}
	if l.LossTx != nil {
		g.limit(l, 100**l.LossTx, limits.LossWarn, limits.LossFail, "%.0f %% of what it sends is lost (limit %g %%)")
	}
	if l.JitterMillis != nil {
		g.limit(l, *l.JitterMillis, limits.JitterWarn, limits.JitterFail, "jitter %.0f ms (limit %g ms)")
	}
}

func (g *PeerGrid) limit(l wire.Link, value, warn, fail float64, text string) {
	if verdict, limit := over(value, warn, fail); verdict != probes.Pass {
		g.problem(verdict, l.Local, l.Peer, fmt.Sprintf(text, value, limit))
	}
}

func (g *PeerGrid) problem(v probes.Verdict, agent, peer, summary string) {
	g.Verdict = g.Verdict.Worse(v)
	g.Problems = append(g.Problems, PeerProblem{v, agent, peer, summary})
}

func (g *PeerGrid) reached(agent string) bool {
	return slices.ContainsFunc(g.Links, func(l wire.Link) bool {
		return (l.Local == agent || l.Peer == agent) && l.State == wire.StateConnected
	})
}
