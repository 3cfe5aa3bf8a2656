package runbooks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// unsaid stands for what the controller does not say of a link.
const unsaid = "unsaid"

// census counts the links of /stats without keeping them, so that a mesh of
// any size fits.
type census struct {
	total, own int
	states     map[string]int
	paths      map[string]int  // of connected links
	servers    map[string]int  // TURN servers of connected links
	unsaid     int             // connected links that do not say through which server they go
	owners     map[string]bool // agents that own a link
	trips      roundTrips
	took       time.Duration
}

func (m *Mesh) takeCensus(ctx context.Context) (*census, error) {
	c := &census{
		states: map[string]int{}, paths: map[string]int{}, servers: map[string]int{}, owners: map[string]bool{},
		trips: roundTrips{maxAge: millis(m.Timings.StatsMaxAge)},
	}
	started := time.Now()
	_, err := m.Controller.Scan(ctx, c.count)
	c.took = time.Since(started)
	return c, err
}

func (c *census) count(l wire.Link) {
	if l.Own() {
		c.own++
		return
	}
	c.total++
	c.states[l.State]++
	if l.Local != "" && !c.owners[l.Local] {
		c.owners[strings.Clone(l.Local)] = true // the reply must not live on
	}
	if l.State != wire.StateConnected {
		return
	}
	path := l.Path
	if path == "" {
		path = unsaid
	}
	c.paths[path]++
	c.trips.add(l)
	switch server, known := l.Relay(); {
	case !known:
		c.unsaid++
	case server != "":
		c.servers[strings.Clone(server)]++ // the reply must not live on
	}
}

func (s *survey) controllerPart(ctx context.Context) []Part {
	c, err := s.census()
	var reply *control.ReplyError
	if errors.As(err, &reply) && reply.TooLarge {
		p := unknownPart(PartController, err)
		p.Hint = "the mesh has more connections than meshctl reads: look at them in Prometheus"
		return []Part{p}
	}
	if err != nil {
		return []Part{partFrom(PartController, "", s.mesh.Sites.Controller.Problem(ctx, err))}
	}
	return []Part{{
		Kind: PartController, Verdict: probes.Pass, Code: probes.CodeControllerOK, TookMS: millis(c.took),
		Summary: "gives statistics",
	}}
}

// connectionsPart judges links by their state.
func (s *survey) connectionsPart(context.Context) []Part {
	c, err := s.census()
	if err != nil {
		return []Part{{Kind: PartConnections, Verdict: probes.Unknown, Summary: "the controller gives no usable statistics"}}
	}
	p := Part{Kind: PartConnections, Facts: map[string]any{"total": c.total, "states": c.states, "paths": c.paths}}
	if c.total == 0 {
		return []Part{s.noConnections(p)}
	}
	connected := c.states[wire.StateConnected]
	rate, limits := 100*float64(connected)/float64(c.total), s.mesh.Thresholds
	p.Verdict = limits.successRate(rate)
	p.Summary = fmt.Sprintf("%d of %d connected", connected, c.total)
	if connected > 0 {
		p.Summary += " (" + counts(c.paths) + ")"
	}
	others := maps.Clone(c.states)
	delete(others, wire.StateConnected)
	if len(others) > 0 {
		p.Summary += "; " + counts(others)
	}
	if p.Verdict != probes.Pass {
		p.Hint = fmt.Sprintf("at least %.0f %% should be; see which in the controller's /stats", limits.SuccessRateWarn)
	}
	s.judgeRelayShare(&p, c)
	return []Part{p}
}

// judgeRelayShare says when more links are relayed than should have to be. That
// a mesh is relay-only is known from its env file.
func (s *survey) judgeRelayShare(p *Part, c *census) {
	lists, limits := s.lists(), s.mesh.Thresholds
	if s.mesh.RelayOnly || !lists.fileThere || lists.fileErr != nil || c.paths[unsaid] > 0 || c.states[wire.StateConnected] == 0 {
		return
	}
	share := 100 * float64(c.paths[wire.PathRelay]) / float64(c.states[wire.StateConnected])
	verdict, limit := over(share, limits.RelayShareWarn, limits.RelayShareFail)
	if verdict == probes.Pass {
		return
	}
	p.Verdict = p.Verdict.Worse(verdict)
	p.Summary += fmt.Sprintf("; %.0f %% are relayed (limit %g %%)", share, limit)
	if p.Hint == "" {
		p.Hint = "meshctl mesh peers --why A,B says why a path is not direct"
	}
}

// noConnections: two agents or more should have some.
func (s *survey) noConnections(p Part) Part {
	agents := 0
	for _, a := range s.signaling() {
		agents = max(agents, a.agents)
	}
	p.Verdict, p.Summary, p.Hint = probes.Unknown, "no connections, with "+count(agents, "agent", "agents"), "connections need two agents"
	if agents >= 2 {
		p.Verdict, p.Hint = probes.Fail, "the agents do not find each other: probe the TURN servers"
	}
	return p
}

// counts writes a map of counts, the largest first.
func counts(of map[string]int) string {
	names := slices.SortedFunc(maps.Keys(of), func(a, b string) int {
		if of[a] != of[b] {
			return of[b] - of[a]
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", of[name], name)
	}
	return strings.Join(names, ", ")
}

// latencyPart takes the links' own values, else Prometheus's. Without links
// there is nothing to be slow.
func (s *survey) latencyPart(ctx context.Context) []Part {
	links := answer{verdict: probes.Unknown, summary: "the controller gives no usable statistics"}
	if c, err := s.census(); err == nil {
		if c.states[wire.StateConnected] == 0 {
			return []Part{{Kind: PartLatency, Verdict: probes.Skip, Summary: "no connected links"}}
		}
		links = c.trips.judge(s.mesh.Thresholds)
	}
	if links.verdict == probes.Unknown {
		links = s.mesh.measuredLatency(ctx, links)
	}
	p := partOfAnswer(PartLatency, "", links)
	p.Measured = map[string]float64{}
	for name, value := range links.facts {
		if ms, ok := value.(float64); ok {
			p.Measured[name] = ms
		}
	}
	return []Part{p}
}

// turnLists are the lists of TURN servers that the mesh has, and that of STUN
// servers in its env file.
type turnLists struct {
	file, given, stun          []wire.ServerURI // env file, controller, env file
	fileErr, givenErr, stunErr error
	offered, fileThere         bool
}

func (m *Mesh) readTURNLists(ctx context.Context) turnLists {
	var l turnLists
	if l.fileThere = m.EnvFile != "" && m.Sites.EnvHost == ""; l.fileThere {
		l.file, l.fileErr = listIn(m.EnvFile, keyTURN)
		l.stun, l.stunErr = listIn(m.EnvFile, keySTUN)
	}
	config, err := m.Controller.Config(ctx)
	switch {
	case errors.As(err, new(*control.NotOfferedError)):
		return l
	case err != nil:
		l.givenErr = err
		return l
	}
	l.offered = config.Offered
	l.given, l.givenErr = wireServers(config.TURNServers)
	return l
}
