package lab

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
)

const maxTURNServers = 64 // in one list

// governed is what the controller governs: the agents of the lab.
type governed interface {
	Links() []wire.Link // both ends of every link
	Paths(local, peer string) (wire.PathReport, bool)
	TURNServers() []wire.ServerURI // as agents get them now
	SetTURNServers([]wire.ServerURI)
	ReconnectTURN()
	Bandwidth() mesh.Bandwidth
	SetBandwidth(mesh.Bandwidth)
}

// controller is the admin API of the mesh.
type controller struct {
	agents     governed
	registered func() []string // ids of all agents that signaling knows
	key        secret.Secret
	seedOnly   bool
	faults     switches
	log        requestLog
}

func (c *controller) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { writeOK(w) })
	mux.HandleFunc("GET /stats", c.stats)
	mux.HandleFunc("POST /admin/reload-config", authorized(c.key, c.reload))
	mux.HandleFunc("POST /admin/reconnect-turn-peers", authorized(c.key, c.reconnect))
	if !c.seedOnly {
		mux.HandleFunc("GET /agents", c.listAgents)
		mux.HandleFunc("GET /connections", c.listConnections)
		mux.HandleFunc("GET /connections/{local}/{peer}", c.paths)
		mux.HandleFunc("GET /config", c.config)
		mux.HandleFunc("POST /config/bandwidth", authorized(c.key, c.bandwidth))
	}
	return c.log.record(c.distort(mux))
}

func (c *controller) stats(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"total_agents": len(c.registered()), "connections": connections(c.agents.Links(), c.seedOnly),
	})
}

// connections gives the links as /stats has them: the oldest servers give only
// the state.
func connections(links []wire.Link, seedOnly bool) []wire.Link {
	list := make([]wire.Link, 0, len(links)) // never null
	for _, l := range links {
		if seedOnly {
			l = wire.Link{State: l.State}
		}
		list = append(list, l)
	}
	return list
}

func (c *controller) listAgents(w http.ResponseWriter, _ *http.Request) {
	type agent struct {
		ID string `json:"agent_id"`
	}
	agents := []agent{}
	for _, id := range c.registered() {
		agents = append(agents, agent{id})
	}
	writeJSON(w, http.StatusOK, map[string]any{"agents": agents})
}

func (c *controller) listConnections(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"connections": connections(c.agents.Links(), false)})
}

// paths reports how one end sees its ways to the other.
func (c *controller) paths(w http.ResponseWriter, r *http.Request) {
	local, peer := r.PathValue("local"), r.PathValue("peer")
	report, ok := c.agents.Paths(local, peer)
	if !ok { // 404 would say that this controller knows no such call
		report = wire.PathReport{
			Local: local, Peer: peer, State: wire.StateNone,
			Own: []wire.PathCandidate{}, Theirs: []wire.PathCandidate{}, Pairs: []wire.PathPair{},
		}
	}
	writeJSON(w, http.StatusOK, report)
}

func (c *controller) config(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"turnFallbackTimeout": 5000, "turn_servers": texts(c.agents.TURNServers()),
		"bandwidth": bandwidthBody(c.agents.Bandwidth()),
	})
}

// bandwidthBody is what agents bound, in the words of the API.
func bandwidthBody(b mesh.Bandwidth) map[string]any {
	return map[string]any{"enableBandwidthAdaptation": b.Adapt, "maxBitrateMbps": b.Most / 1e6}
}

func (c *controller) bandwidth(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(r)
	if err != nil {
		writeError(w, http.StatusRequestEntityTooLarge, err)
		return
	}
	var read struct {
		Adapt *bool    `json:"enableBandwidthAdaptation"`
		Mbps  *float64 `json:"maxBitrateMbps"`
	}
	err = decode(body, &read)
	switch {
	case err != nil:
	case read.Adapt == nil || read.Mbps == nil || *read.Mbps < 0:
		err = errors.New("enableBandwidthAdaptation and maxBitrateMbps are needed")
	case !c.faults.is("controller-lies"):
		c.agents.SetBandwidth(mesh.Bandwidth{Adapt: *read.Adapt, Most: *read.Mbps * 1e6})
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	writeOK(w)
}

func texts(uris []wire.ServerURI) []string {
	list := make([]string, 0, len(uris))
	for _, u := range uris {
		list = append(list, u.String())
	}
	return list
}

// reload replaces the list of TURN servers that agents use. The list is taken
// whole or not at all.
func (c *controller) reload(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(r)
	if err != nil {
		writeError(w, http.StatusRequestEntityTooLarge, err)
		return
	}
	servers, err := parseTURNServers(body)
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	if !c.faults.is("controller-lies") {
		c.agents.SetTURNServers(servers)
	}
	writeOK(w)
}

func parseTURNServers(body []byte) ([]wire.ServerURI, error) {
	var read struct {
		Servers []string `json:"turn_servers"`
	}
	if err := decode(body, &read); err != nil {
		return nil, err
	}
	if len(read.Servers) == 0 || len(read.Servers) > maxTURNServers {
		return nil, fmt.Errorf("turn_servers: %d entries, not 1 to %d", len(read.Servers), maxTURNServers)
	}
	servers := make([]wire.ServerURI, 0, len(read.Servers))
	for _, text := range read.Servers {
		u, err := wire.ParseServerURI(text)
		if err != nil {
			return nil, fmt.Errorf("turn_servers: %w", err)
		}
		if !u.IsTURN() {
			return nil, errors.New("turn_servers: " + u.String() + " is no TURN server")
		}
		servers = append(servers, u)
	}
	return servers, nil
}

// reconnect moves the agents' relayed links to the first server of the list.
func (c *controller) reconnect(w http.ResponseWriter, _ *http.Request) {
	if !c.faults.is("controller-lies") {
		c.agents.ReconnectTURN()
	}
	writeOK(w)
}
