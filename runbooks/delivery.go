package runbooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// The paths that a delivery test can be told to take.
const (
	AnyPath    = "any"    // as agents of this mesh connect
	DirectPath = "direct" // no TURN server
	RelayPath  = "relay"  // TURN servers only
)

// DeliverySpec says what a delivery test does.
type DeliverySpec struct {
	Run      string
	Agents   int
	Duration time.Duration // of sending; with EachTURN, for each server
	Interval time.Duration // between two messages of a direction
	Size     int           // bytes of data in a message
	Path     string        // "" is AnyPath
	EachTURN bool          // every TURN server on its own, by relay
	Progress func(turn string, p mesh.DeliveryProgress)
}

// DeliveryPart is one test: of the whole mesh or of one TURN server.
type DeliveryPart struct {
	TURNServer string // "" when all servers of the mesh were used together
	Result     mesh.DeliveryResult
	Verdict    probes.Verdict
	Summary    string
	Hint       string
	Facts      map[string]any
	Problems   []DeliveryProblem
}

// DeliveryProblem is what is wrong in one direction.
type DeliveryProblem struct {
	From    string         `json:"from"`
	To      string         `json:"to"`
	Verdict probes.Verdict `json:"verdict"`
	Summary string         `json:"summary"`
}

// DeliverySetup is how long a part may take until its agents are connected.
func (m *Mesh) DeliverySetup() time.Duration {
	return min(30*time.Second, max(deliverySetup, 2*m.Agent.Connect))
}

// DeliveryJoin is how long its agents may take to register before that: three
// tries at a server that says nothing, and then the next one.
func (m *Mesh) DeliveryJoin() time.Duration { return 4 * m.Agent.Register }

// TestPaths runs the delivery test of a spec. An error says that nothing was
// measured and why; parts measured before it, or until ctx ended, are given
// beside it.
func (m *Mesh) TestPaths(ctx context.Context, spec DeliverySpec) ([]DeliveryPart, error) {
	plans, err := m.deliveryPlans(ctx, spec)
	if err != nil {
		return nil, err
	}
	var parts []DeliveryPart
	for i, servers := range plans {
		part, err := m.testPath(ctx, spec, i, servers)
		if err != nil && ctx.Err() == nil {
			part, err = notRegistered(part, err)
		}
		parts = append(parts, part)
		if err != nil {
			return parts, err
		}
	}
	return parts, nil
}

// deliveryPlans are the lists of TURN servers to test with.
func (m *Mesh) deliveryPlans(ctx context.Context, spec DeliverySpec) ([][]wire.ServerURI, error) {
	if spec.Path == DirectPath {
		return [][]wire.ServerURI{nil}, nil
	}
	servers, err := m.TURNServers(ctx)
	if err != nil {
		return nil, err
	}
	turn := slices.DeleteFunc(slices.Clone(servers), func(u wire.ServerURI) bool { return !u.IsTURN() })
	if (spec.EachTURN || spec.Path == RelayPath) && len(turn) == 0 {
		return nil, errors.New("the mesh has no TURN server to relay through")
	}
	if !spec.EachTURN {
		return [][]wire.ServerURI{servers}, nil
	}
	var plans [][]wire.ServerURI
	for _, server := range turn {
		plans = append(plans, []wire.ServerURI{server})
	}
	return plans, nil
}

func (m *Mesh) testPath(ctx context.Context, spec DeliverySpec, i int, servers []wire.ServerURI) (DeliveryPart, error) {
	timing := m.Agent // a slow path is to be measured, also where agents are in a hurry to leave it
	timing.Connect = max(timing.Connect, mesh.DefaultTiming().Connect)
	o := mesh.DeliveryOptions{
		Run: spec.Run, Agents: spec.Agents, Duration: spec.Duration, Interval: spec.Interval, Size: spec.Size,
		Join: m.DeliveryJoin(), Setup: m.DeliverySetup(),
		SignalingURLs: m.SignalingURLs, TURNServers: servers, Username: m.TURN.Username, Password: m.TURN.Password,
		RelayOnly: spec.EachTURN || spec.Path == RelayPath || m.RelayOnly && spec.Path != DirectPath,
		Loopback:  m.Loopback, Timing: timing, CAFile: m.CAFile, Check: m.CheckTURN,
	}
	var part DeliveryPart
	if spec.EachTURN {
		part.TURNServer = servers[0].String()
		o.Run = fmt.Sprintf("%s.%d", spec.Run, i+1) // its agents must not meet those of the part before
	}
	if spec.Progress != nil {
		o.Progress = func(p mesh.DeliveryProgress) { spec.Progress(part.TURNServer, p) }
	}
	var err error
	part.Result, err = mesh.TestDelivery(ctx, o)
	part.judge(m.Thresholds)
	if spec.EachTURN && part.Verdict == probes.Fail && ctx.Err() == nil {
		if _, checkErr := m.CheckTURN(ctx, servers[0]); checkErr != nil {
			part.Summary = checkErr.Error()
			part.Hint = "meshctl probe turn " + part.TURNServer
		}
	}
	return part, err
}

// notRegistered turns the refusal of every signaling server into a verdict:
// no agent can join this mesh now. Anything else remains an error.
func notRegistered(part DeliveryPart, err error) (DeliveryPart, error) {
	var refused *mesh.SignalingError
	if !errors.As(err, &refused) {
		return part, err
	}
	part.Verdict = probes.Fail
	part.Summary = "no agent can join the mesh: " + refused.Error()
	part.Hint = "meshctl probe signaling"
	part.Problems = nil // no direction was tried
	return part, nil
}

// judge gives the verdict on the whole and on every direction: the worst one
// decides, however good the average is.
func (p *DeliveryPart) judge(limits Thresholds) {
	a := judgeDelivery(p.Result, limits)
	p.Verdict, p.Summary, p.Hint, p.Facts = a.verdict, a.summary, a.hint, a.facts
	for _, pair := range p.Result.Pairs {
		if problem := judgeDirection(pair, limits); problem.Verdict != probes.Pass {
			p.Problems = append(p.Problems, problem)
			p.Verdict = p.Verdict.Worse(problem.Verdict)
		}
	}
	if len(p.Problems) > 0 && p.Hint == "" {
		p.Hint = "meshctl mesh peers"
	}
}

// enoughProbes is how many packets it takes to say what a path loses.
const enoughProbes = 50

func judgeDirection(p mesh.PairResult, limits Thresholds) DeliveryProblem {
	d := DeliveryProblem{From: p.From, To: p.To, Verdict: probes.Pass}
	var wrong []string
	add := func(verdict probes.Verdict, text string) {
		d.Verdict = d.Verdict.Worse(verdict)
		wrong = append(wrong, text)
	}
	limit := func(value, warn, fail float64, text string) {
		if verdict, limit := over(value, warn, fail); verdict != probes.Pass {
			add(verdict, fmt.Sprintf(text, value, limit))
		}
	}
	switch {
	case p.Untried:
		add(probes.Unknown, p.Error)
	case !p.Connected:
		add(probes.Fail, "not connected: "+pairError(p))
	case p.Sent == 0:
		add(probes.Fail, fmt.Sprintf("nothing could be sent, %d messages refused by the channel", p.Refused))
	default:
		limit(100*float64(p.Lost)/float64(p.Sent), limits.MessageLossWarn, limits.MessageLossFail, "%.1f %% lost (limit %g %%)")
		if p.Probes >= enoughProbes {
			limit(100*float64(p.ProbesLost)/float64(p.Probes), limits.LossWarn, limits.LossFail, "the path loses %.1f %% of packets (limit %g %%)")
		}
		limit(millis(p.LatencyP95), limits.DeliveryLatencyWarn, limits.DeliveryLatencyFail, "p95 %.0f ms (limit %g ms)")
	}
	for _, f := range []struct {
		count int
		text  string
	}{{p.Duplicated, "duplicated"}, {p.Reordered, "out of order"}, {p.Corrupt, "corrupt"}} {
		if f.count > 0 {
			add(probes.Fail, fmt.Sprintf("%d %s", f.count, f.text))
		}
	}
	if p.Connected && p.Refused > 0 && p.Sent > 0 {
		add(probes.Warn, fmt.Sprintf("%d not taken by the channel", p.Refused))
	}
	d.Summary = strings.Join(wrong, ", ")
	return d
}
