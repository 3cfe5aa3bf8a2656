package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/runbooks"
)

type meshPeersOptions struct {
	why    []string
	failOn string
}

func newMeshPeersCmd(a *app) *cobra.Command {
	var o meshPeersOptions
	cmd := &cobra.Command{
		Use: "peers", Short: "Who reaches whom, by which path, how fast, with what loss",
		Long: `peers shows a grid: a row is how one agent sees all others. A cell has the path
(H host, S or P found by STUN, R relay), the round trip in milliseconds and, where
the mesh measures it, the share of what the agent sends that is lost.

--why A,B asks both ends for the addresses they offered and what became of every
pair of them: why the path is not direct.

Exit status: 0 everybody is reached, 3 a link is down, slow, unsteady or lossy, 4
unknown.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(o.why) > 0 {
				return a.runWhyPath(cmd.Context(), o)
			}
			return a.runMeshPeers(cmd.Context(), o)
		},
	}
	cmd.Flags().StringSliceVar(&o.why, "why", nil, "two `AGENTS`, A,B: explain the path between them")
	failOnFlag(cmd, &o.failOn)
	return cmd
}

func (a *app) runMeshPeers(ctx context.Context, o meshPeersOptions) error {
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	grid, err := s.mesh.Peers(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return &exitError{code: exitUnknown, err: err, hints: []string{"who reaches whom is the controller's knowledge"}}
	}
	if err := a.show(grid, func(p *page) { p.peers(grid) }); err != nil {
		return err
	}
	return withCode(verdictCode(grid.Verdict, o.failOn))
}

func (a *app) runWhyPath(ctx context.Context, o meshPeersOptions) error {
	if len(o.why) != 2 || o.why[0] == "" || o.why[1] == "" || o.why[0] == o.why[1] {
		return usageError("--why wants two agents: --why A,B")
	}
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	answer, err := s.mesh.WhyPath(ctx, o.why[0], o.why[1])
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return &exitError{code: exitUnknown, err: err}
	}
	if err := a.show(answer, func(p *page) { p.whyPath(answer) }); err != nil {
		return err
	}
	return withCode(verdictCode(answer.Verdict, o.failOn))
}

// maxGrid is how many agents a grid can show on a terminal.
const maxGrid = 12

func (p *page) peers(g runbooks.PeerGrid) {
	if len(g.Agents) <= maxGrid && len(g.Agents) > 1 {
		p.grid(g)
	}
	for _, problem := range g.Problems {
		ends := problem.Agent
		if problem.Peer != "" {
			ends += " -> " + problem.Peer
		}
		p.line("%s %s: %s", p.verdict(problem.Verdict), ends, problem.Summary)
	}
	p.line("%s %s", p.verdict(g.Verdict), g.Summary)
	if g.Hint != "" {
		p.line("%s %s", p.dim("hint:"), g.Hint)
	}
}

func (p *page) grid(g runbooks.PeerGrid) {
	const head = "FROM \\ TO"
	cells, width := map[string]string{}, len(head)
	for _, l := range g.Links {
		cells[l.Local+"\n"+l.Peer] = cellText(l)
		width = max(width, len(cells[l.Local+"\n"+l.Peer]))
	}
	for _, agent := range g.Agents {
		width = max(width, min(len(agent), 16))
	}
	row := func(head string, cell func(string) string) {
		var b strings.Builder
		fmt.Fprintf(&b, "%-*s", width, fit(head, width))
		for _, peer := range g.Agents {
			fmt.Fprintf(&b, "  %-*s", width, fit(cell(peer), width))
		}
		p.line("%s", strings.TrimRight(b.String(), " "))
	}
	row(head, func(peer string) string { return peer })
	for _, agent := range g.Agents {
		row(agent, func(peer string) string {
			text, known := cells[agent+"\n"+peer]
			switch {
			case agent == peer:
				return ""
			case !known:
				return "-"
			}
			return text
		})
	}
	p.line("")
}

// cellText is a link in a few letters: what is not known is left out.
func cellText(l wire.Link) string {
	if l.State != wire.StateConnected {
		return l.State
	}
	text := "?"
	if l.Path != "" {
		text = strings.ToUpper(l.Path[:1])
	}
	if l.RTTMillis != nil {
		text += fmt.Sprintf(" %.3gms", *l.RTTMillis)
	}
	if l.LossTx != nil {
		text += fmt.Sprintf(" %.0f%%", 100**l.LossTx)
	}
	return text
}

func (p *page) whyPath(answer runbooks.PathAnswer) {
	for _, end := range answer.Ends {
		p.line("%s -> %s: %s", end.Local, end.Peer, strings.TrimSpace(end.State+" "+end.Path))
		for _, list := range []struct {
			name       string
			candidates []wire.PathCandidate
		}{{"own", end.Own}, {"theirs", end.Theirs}} {
			for _, c := range list.candidates {
				p.line("  %-7s %-6s %s/%s", list.name, c.Type, c.Address, c.Protocol)
			}
		}
		for _, pair := range end.Pairs {
			chosen := ""
			if pair.Nominated {
				chosen = ", chosen"
			}
			p.line("  pair    %s %s - %s %s: %s%s, %d asked, %d answered, %.1f ms", pair.Local.Type, pair.Local.Address,
				pair.Remote.Type, pair.Remote.Address, pair.State, chosen, pair.RequestsSent, pair.ResponsesReceived, pair.RTTMillis)
		}
	}
	for _, reason := range answer.Reasons {
		p.line("%s %s", p.dim("why:"), reason)
	}
	p.line("%s %s", p.verdict(answer.Verdict), answer.Summary)
}
