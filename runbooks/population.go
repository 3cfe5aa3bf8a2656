package runbooks

import (
	"context"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// population is the mesh as /stats shows it, without the agents that meshctl
// itself put there: meshctl never certifies itself.
type population struct {
	agents int // registered agents, our own included: /stats gives no names
	links  []wire.Link
	at     time.Time
}

func readPopulation(ctx context.Context, c *control.Client) (population, error) {
	stats, err := c.Stats(ctx)
	if err != nil {
		return population{}, err
	}
	p := population{agents: stats.TotalAgents, at: time.Now()}
	for _, l := range stats.Connections {
		if !l.Own() {
			p.links = append(p.links, l)
		}
	}
	return p, nil
}

// linkName identifies a link, seen from one end. ok is false where the mesh
// does not say whose link it is.
func linkName(l wire.Link) (name string, ok bool) {
	return l.Local + "->" + l.Peer, l.Local != "" && l.Peer != ""
}

// names returns every named link by name; known is false when any link has none.
func (p population) names() (byName map[string]wire.Link, known bool) {
	byName, known = make(map[string]wire.Link, len(p.links)), true
	for _, l := range p.links {
		name, ok := linkName(l)
		if !ok {
			known = false
			continue
		}
		byName[name] = l
	}
	return byName, known
}

// users returns the links relayed by a server; known is false when any link
// does not say through which server it goes.
func (p population) users(server string) (links []wire.Link, known bool) {
	known = true
	for _, l := range p.links {
		relay, ok := l.Relay()
		known = known && ok
		if ok && onServer(relay, server) {
			links = append(links, l)
		}
	}
	return links, known
}

func (p population) count(state string) int {
	n := 0
	for _, l := range p.links {
		if l.State == state {
			n++
		}
	}
	return n
}

// successRate is the share of the links that are connected, in percent; 0
// without any.
func (p population) successRate() float64 {
	if len(p.links) == 0 {
		return 0
	}
	return 100 * float64(p.count(wire.StateConnected)) / float64(len(p.links))
}

// onServer compares what a mesh reports as a TURN server, a URI or a bare
// host and port, with HOST, HOST:PORT or a URI.
func onServer(reported, server string) bool {
	uri, err := reportedServer(reported)
	return err == nil && uri.Matches(server)
}

func reportedServer(reported string) (wire.ServerURI, error) {
	uri, err := wire.ParseServerURI(reported)
	if err != nil {
		uri, err = wire.ParseServerURI("turn:" + strings.TrimPrefix(reported, "//"))
	}
	return uri, err
}

// endpoints counts the distinct agents that own the links.
func endpoints(links []wire.Link) int {
	agents := map[string]bool{}
	for _, l := range links {
		agents[l.Local] = true
	}
	return len(agents)
}
