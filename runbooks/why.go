package runbooks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// PathAnswer says why two agents are connected as they are.
type PathAnswer struct {
	Verdict probes.Verdict    `json:"verdict"` // pass: connected; unknown: nobody says
	Summary string            `json:"summary"`
	Reasons []string          `json:"reasons"`
	Ends    []wire.PathReport `json:"ends"` // as far as they are known
}

// WhyPath asks both ends of a link for the ways they tried.
func (m *Mesh) WhyPath(ctx context.Context, a, b string) (PathAnswer, error) {
	answer := PathAnswer{Verdict: probes.Pass, Reasons: []string{}, Ends: []wire.PathReport{}}
	for _, ends := range [][2]string{{a, b}, {b, a}} {
		report, err := m.Controller.Paths(ctx, ends[0], ends[1])
		var absent *control.NotOfferedError
		switch {
		case errors.As(err, &absent):
			answer.Verdict = probes.Unknown
			answer.Summary = "the controller does not offer the candidates of a link (GET /connections/{local}/{peer})"
			return answer, nil
		case err != nil:
			return answer, err
		}
		answer.Ends = append(answer.Ends, report)
	}
	answer.explain()
	return answer, nil
}

func (a *PathAnswer) explain() {
	first, second := a.Ends[0], a.Ends[1]
	for _, end := range a.Ends {
		a.Reasons = append(a.Reasons, reasons(end)...)
		if end.State != wire.StateConnected {
			a.Verdict = probes.Fail
		}
	}
	switch {
	case first.State == wire.StateNone && second.State == wire.StateNone:
		a.Summary = fmt.Sprintf("%s and %s have no link; meshctl mesh peers shows who is there", first.Local, first.Peer)
		a.Reasons = []string{}
	case a.Verdict == probes.Fail:
		a.Summary = fmt.Sprintf("the link %s -> %s is %s, %s -> %s is %s", first.Local, first.Peer, first.State, second.Local, second.Peer, second.State)
	default:
		a.Summary = fmt.Sprintf("%s uses %s, %s uses %s", first.Local, first.Path, second.Local, second.Path)
	}
}

// reasons are why the link of one end is down, and what kept it from a direct
// path.
func reasons(end wire.PathReport) (list []string) {
	say := func(format string, args ...any) {
		list = append(list, end.Local+": "+fmt.Sprintf(format, args...))
	}
	if end.Down != "" {
		say("down for %s: %s", time.Duration(end.DownMillis*float64(time.Millisecond)).Round(time.Second/10), end.Down)
	}
	tried, answered, direct := 0, 0, 0
	for _, p := range end.Pairs {
		switch {
		case !p.Direct():
		case p.Nominated && p.State == "succeeded":
			direct++
		case p.ResponsesReceived > 0:
			answered++
		case p.RequestsSent > 0:
			tried++
		}
	}
	switch {
	case end.State == wire.StateNone:
		say("has no link to %s", end.Peer)
	case direct > 0 && end.Path != wire.PathRelay:
		say("the path is direct")
	case end.RelayOnly:
		say("may use TURN servers only (relay-only policy)")
	case countDirect(end.Own) == 0:
		say("found no address of its own, only relayed ones: STUN does not answer, or a policy hides them")
	case countDirect(end.Theirs) == 0:
		say("%s offered no address of its own, only relayed ones", end.Peer)
	case answered > 0:
		say("%d direct pairs answer; a relay was chosen before they did: a new connection would take one", answered)
	case tried > 0:
		say("%d direct pairs were tried and none was answered: a firewall or NAT is between them", tried)
	default:
		say("no direct pair was tried")
	}
	return list
}

func countDirect(candidates []wire.PathCandidate) (n int) {
	for _, c := range candidates {
		if c.Type != wire.PathRelay {
			n++
		}
	}
	return n
}
