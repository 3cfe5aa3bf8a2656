package runbooks

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// checks lists every check of scenario A, by phase.
func (v *validation) checks() []check {
	return []check{
		{"agents", PhaseImmediate, v.agents},
		{"connections", PhaseImmediate, v.connections},
		{"links.baseline", PhaseImmediate, v.baseline},
		{"turn.configuration", PhaseImmediate, v.turnConfiguration},
		{"turn.unused", PhaseImmediate, v.turnUnused},
		{"turn.replacement", PhaseImmediate, v.turnReplacement},
		{"delivery", PhaseShort, v.delivery},
		{"latency", PhaseShort, v.latency},
		{"audit", PhaseShort, v.audit},
		{"errors", PhaseStability, v.errors},
	}
}

// agents judges how many agents are registered, without our own.
func (v *validation) agents(ctx context.Context) answer {
	registered, own, err := v.registered(ctx, 0)
	if err != nil {
		return unknown(err)
	}
	a := answer{verdict: probes.Pass, summary: fmt.Sprintf("%d agents registered", registered)}
	a.facts = map[string]any{"registered_agents": registered, "own_agents": own}
	expected := v.subject.facts.Agents
	switch {
	case registered < 1:
		a.verdict, a.summary, a.hint = probes.Fail, "no agents are registered", "check the signaling servers"
	case registered < expected:
		a.verdict, a.hint = probes.Warn, "find out which agents are missing"
		a.summary = fmt.Sprintf("%d agents registered, %d before the recovery", registered, expected)
	}
	return a
}

// registered counts agents. /stats gives no names, so a registration of our
// own, the nth of this run, asks who of them are ours. These may come and go
// meanwhile: the smaller of the counts before and after holds. It returns when
// its own registration is not counted any more, so that the next count does not.
func (v *validation) registered(ctx context.Context, n int) (registered, own int, err error) {
	before, err := readPopulation(ctx, v.mesh.agentStats())
	if err != nil || before.agents == 0 {
		return 0, 0, err
	}
	roster, err := v.roster(ctx, n)
	if err != nil {
		return 0, 0, fmt.Errorf("%d agents are registered, and whose they are is not known: %w", before.agents, err)
	}
	after, err := v.departed(ctx, before.agents)
	own = countOwn(roster)
	return max(0, min(before.agents, after)-own), own, err
}

// departed waits, not for long, until no more agents are counted than before.
func (v *validation) departed(ctx context.Context, before int) (int, error) {
	tick := time.NewTicker(departure / 40)
	defer tick.Stop()
	for deadline := time.Now().Add(departure); ; {
		after, err := readPopulation(ctx, v.mesh.agentStats())
		if err != nil || after.agents <= before || time.Now().After(deadline) {
			return after.agents, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
	}
}

// departure is how long a server may count an agent that has left.
const departure = 2 * time.Second

// roster registers a throw-away agent and returns the others.
func (v *validation) roster(ctx context.Context, n int) ([]string, error) {
	agent, err := mesh.StartAgent(ctx, mesh.AgentOptions{
		ID: fmt.Sprintf("%s%s-%d", wire.OwnPrefix, v.run, n), SignalingURLs: v.mesh.SignalingURLs, Passive: true,
		Loopback: v.mesh.Loopback, Timing: v.mesh.Agent, CAFile: v.mesh.CAFile,
	})
	if err != nil {
		return nil, err
	}
	roster := agent.Peers()
	return roster, agent.Close()
}

func countOwn(ids []string) int {
	own := 0
	for _, id := range ids {
		if wire.OwnAgent(id) {
			own++
		}
	}
	return own
}

// connections judges the share of connections that are connected.
func (v *validation) connections(ctx context.Context) answer {
	people, err := readPopulation(ctx, v.mesh.Controller)
	if err != nil {
		return unknown(err)
	}
	total, connected := len(people.links), people.count(wire.StateConnected)
	facts := map[string]any{"connected": connected, "total": total, "failed": people.count(wire.StateFailed)}
	if total == 0 {
		registered, _, err := v.registered(ctx, testAgents+1)
		if err != nil {
			return unknown(err)
		}
		if registered < 2 {
			return answer{probes.Unknown, fmt.Sprintf("no connections, with %d agents", registered), "connections need two agents", facts}
		}
	}
	rate, limits := people.successRate(), v.mesh.Thresholds
	facts["connection_success_rate"] = rate
	a := answer{limits.successRate(rate), fmt.Sprintf("%.1f %% of connections are connected (%d/%d)", rate, connected, total), "", facts}
	switch a.verdict {
	case probes.Fail:
		a.hint = fmt.Sprintf("below %.0f %%; see which links are down in /stats", limits.SuccessRateFail)
	case probes.Warn:
		a.hint = fmt.Sprintf("below %.0f %%", limits.SuccessRateWarn)
	}
	return a
}

// baseline wants every link that existed when the recovery began.
func (v *validation) baseline(ctx context.Context) answer {
	if !v.subject.known || !v.subject.facts.BaselineKnown || len(v.subject.facts.Baseline) == 0 {
		return answer{verdict: probes.Unknown, summary: "no baseline: it is not known that there were links before, or which", hint: "validate a recovery that meshctl ran on a mesh whose /stats names its links"}
	}
	people, err := readPopulation(ctx, v.mesh.Controller)
	if err != nil {
		return unknown(err)
	}
	byName, known := people.names()
	if !known {
		return answer{verdict: probes.Unknown, summary: "the controller does not say whose links these are"}
	}
	missing := []string{}
	for _, name := range v.subject.facts.Baseline {
		if byName[name].State != wire.StateConnected {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	facts := map[string]any{"baseline": len(v.subject.facts.Baseline), "missing": missing}
	if len(missing) > 0 {
		return answer{probes.Fail, fmt.Sprintf("%d links of the baseline are not connected: %s", len(missing), shorten(missing, 3)), "see what became of these agents", facts}
	}
	return answer{probes.Pass, fmt.Sprintf("all %d links of the baseline are connected", len(v.subject.facts.Baseline)), "", facts}
}

func shorten(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// delivery sends messages between three throw-away agents, all pairs.
func (v *validation) delivery(ctx context.Context) answer {
	result, err := v.mesh.TestDelivery(ctx, v.run, testAgents, max(v.mesh.Timings.Scaled(v.mesh.Timings.Delivery), time.Second))
	if err != nil {
		return unknown(err)
	}
	return judgeDelivery(result, v.mesh.Thresholds)
}

// testAgents take part in the delivery test of a validation.
const testAgents = 3

// deliverySetup is how long test agents may take to connect.
const deliverySetup = 10 * time.Second

// TestDelivery sends messages between throw-away agents of ours, over the TURN
// servers that agents of this mesh get.
func (m *Mesh) TestDelivery(ctx context.Context, run string, agents int, d time.Duration) (mesh.DeliveryResult, error) {
	servers, err := m.TURNServers(ctx)
	if err != nil {
		return mesh.DeliveryResult{}, err
	}
	return m.deliver(ctx, servers, mesh.DeliveryOptions{Run: run, Agents: agents, Duration: d, Setup: deliverySetup})
}

func judgeDelivery(r mesh.DeliveryResult, limits Thresholds) answer {
	facts := map[string]any{
		"sent": r.Sent, "received": r.Received, "lost": r.Lost, "duplicated": r.Duplicated, "reordered": r.Reordered, "corrupt": r.Corrupt,
		"latency_p50_ms": millis(r.LatencyP50), "latency_p95_ms": millis(r.LatencyP95), "latency_p99_ms": millis(r.LatencyP99),
	}
	switch failed, untried := pairs(r); {
	case !failed && untried:
		return answer{probes.Unknown, "the test agents were still connecting", "", facts}
	case !r.Complete() || r.Sent == 0:
		return answer{probes.Fail, "not every pair of test agents could connect: " + firstPairError(r), "new agents cannot join the mesh; probe the TURN servers", facts}
	}
	loss, p95 := 100*float64(r.Lost)/float64(r.Sent), millis(r.LatencyP95)
	a := answer{probes.Pass, fmt.Sprintf("%d of %d messages delivered, p95 %.1f ms", r.Received, r.Sent, p95), "", facts}
	broken := r.Corrupt > 0 || r.Duplicated > 0 || r.Reordered > 0
	switch {
	case broken || loss > limits.MessageLossFail || p95 > limits.DeliveryLatencyFail:
		a.verdict = probes.Fail
		a.summary += fmt.Sprintf("; %d lost, %d duplicated, %d reordered, %d corrupt", r.Lost, r.Duplicated, r.Reordered, r.Corrupt)
	case loss > limits.MessageLossWarn || p95 > limits.DeliveryLatencyWarn:
		a.verdict = probes.Warn
	}
	return a
}

// pairs tells whether a pair cannot connect, and whether that is not known of one.
func pairs(r mesh.DeliveryResult) (failed, untried bool) {
	for _, p := range r.Pairs {
		failed = failed || !p.Untried && !p.Connected
		untried = untried || p.Untried
	}
	return failed, untried
}

func firstPairError(r mesh.DeliveryResult) string {
	for _, p := range r.Pairs {
		if !p.Untried && !p.Connected {
			return fmt.Sprintf("%s to %s: %s", p.From, p.To, pairError(p))
		}
	}
	return "nothing was sent"
}

// pairError is why a pair is not connected, without its names.
func pairError(p mesh.PairResult) string {
	return strings.TrimPrefix(p.Error, fmt.Sprintf("connect %s to %s: ", p.From, p.To))
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
