package runbooks

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// signalingAnswer is what one server showed: the registration, and the offer
// to the next server.
type signalingAnswer struct {
	report   probes.Report
	registry *probes.Finding // nil: not asked
	agents   int             // registered, without ours; -1 = not known
}

// askSignaling registers at every server by its own address, and lets an offer
// cross from each to the next.
func (s *survey) askSignaling(ctx context.Context) []signalingAnswer {
	sites := s.mesh.Sites.Signaling
	answers := make([]signalingAnswer, len(sites))
	var asking sync.WaitGroup
	for i, site := range sites {
		other := ""
		if len(sites) > 1 {
			other = sites[(i+1)%len(sites)].URL
		}
		asking.Go(func() {
			answers[i] = splitRegistry(probes.Signaling{
				URL: site.URL, ID: fmt.Sprintf("%s%s-%d", wire.OwnPrefix, s.run, i), Other: other, Roots: s.mesh.Sites.Roots, Limits: s.mesh.Thresholds.Limits,
			}.Run(ctx))
		})
	}
	asking.Wait()
	return answers
}

// splitRegistry tells the server itself from what it has in common with
// another one.
func splitRegistry(r probes.Report) signalingAnswer {
	a := signalingAnswer{report: r, agents: -1}
	a.report.Findings, a.report.Verdict = nil, probes.Skip
	for _, f := range r.Findings {
		switch f.Code {
		case probes.CodeRegistryShared, probes.CodeRegistrySeparate, probes.CodeRegistryUnproven:
			a.registry = &f
			continue
		case probes.CodeSignalingOK:
			if n, err := strconv.Atoi(f.Fact("agents")); err == nil {
				a.agents = n
			}
		}
		a.report.Findings = append(a.report.Findings, f)
		a.report.Verdict = a.report.Verdict.Worse(f.Verdict)
	}
	return a
}

func (s *survey) signalingParts(ctx context.Context) []Part {
	var balancer *Part
	var asking sync.WaitGroup
	if s.mesh.Sites.Balancer != "" {
		asking.Go(func() { balancer = s.balancerPart(ctx) })
	}
	answers := s.signaling()
	parts := []Part{}
	for i, a := range answers {
		p := partOf(PartSignaling, s.mesh.Sites.Signaling[i].Name, a.report)
		if a.agents >= 0 {
			p.Summary += ", " + count(a.agents, "agent known", "agents known")
		}
		parts = append(parts, p)
	}
	asking.Wait()
	if balancer != nil {
		parts = append(parts, *balancer)
	}
	return append(parts, s.registryPart(answers)...)
}

func (s *survey) balancerPart(ctx context.Context) *Part {
	p := partOf(PartSignaling, "balancer", probes.Signaling{
		URL: s.mesh.Sites.Balancer, ID: wire.OwnPrefix + s.run + "-b", Balancer: true, Roots: s.mesh.Sites.Roots, Limits: s.mesh.Thresholds.Limits,
	}.Run(ctx))
	return &p
}

// registryPart judges pairs of servers that both work: a dead one shares
// nothing, and is reported as dead.
func (s *survey) registryPart(answers []signalingAnswer) []Part {
	if len(answers) < 2 {
		return nil
	}
	p := Part{Kind: PartRegistry, Verdict: probes.Skip, Summary: "fewer than two signaling servers register agents: nothing to share"}
	for i, a := range answers {
		next := answers[(i+1)%len(answers)]
		if a.registry == nil || !a.report.Healthy() || !next.report.Healthy() {
			continue
		}
		if p.Verdict == probes.Skip || a.registry.Verdict != probes.Pass {
			worst := p.Verdict.Worse(a.registry.Verdict)
			if worst != p.Verdict {
				p = partFrom(PartRegistry, "", *a.registry)
			}
		}
	}
	return []Part{p}
}

// agentsPart counts agents as the signaling servers know them, without ours:
// servers that share know the same ones, and others have their own.
func (s *survey) agentsPart(context.Context) []Part {
	most, sum, asked := 0, 0, 0
	shared, separate := 0, 0
	for _, a := range s.signaling() {
		if a.agents < 0 {
			continue
		}
		asked++
		most, sum = max(most, a.agents), sum+a.agents
		switch {
		case a.registry == nil:
		case a.registry.Code == probes.CodeRegistryShared:
			shared++
		case a.registry.Code == probes.CodeRegistrySeparate:
			separate++
		}
	}
	p := Part{Kind: PartAgents, Verdict: probes.Unknown}
	switch {
	case asked == 0:
		p.Summary = "no signaling server says who is registered"
		return []Part{p}
	case asked > 1 && (shared > 0) == (separate > 0):
		p.Summary = fmt.Sprintf("%d or more: which signaling servers share their agents is not known", most)
		return []Part{p}
	case separate > 0:
		most = sum
	}
	p.Verdict, p.Summary, p.Facts = probes.Pass, count(most, "agent registered", "agents registered"), map[string]any{"registered": most}
	if most == 0 {
		p.Verdict, p.Summary, p.Hint = probes.Fail, "no agents are registered", "check the agents, then the signaling servers"
		return []Part{p}
	}
	if links, err := s.census(); err == nil && len(links.owners) > most {
		p.Verdict, p.Hint = probes.Warn, "agents without signaling keep their links and get no new ones: look at the signaling servers"
		p.Summary += fmt.Sprintf(", and %d have links", len(links.owners))
	}
	return []Part{p}
}
