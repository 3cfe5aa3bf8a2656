package lab

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/lab/network"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// fleet is the agents of the lab.
type fleet struct {
	ctx     context.Context // ends them all
	ids     []string        // of those that belong to the mesh, running or not
	options mesh.AgentOptions
	edit    func(*mesh.AgentOptions) // changes those of one agent; nil: nothing
	traffic *traffic
	network *network.Network

	mu        sync.Mutex
	bandwidth mesh.Bandwidth
	servers   []wire.ServerURI
	members   map[string]*member // running
}

// member is one running agent.
type member struct {
	agent *mesh.Agent
	stop  context.CancelFunc
	sends sync.WaitGroup
}

func newFleet(ctx context.Context, ids []string, o mesh.AgentOptions, interval time.Duration, n *network.Network) *fleet {
	return &fleet{
		ctx: ctx, ids: ids, options: o, servers: o.TURNServers, network: n,
		traffic: newTraffic(ids, interval), members: map[string]*member{},
	}
}

// start registers an agent and lets it send to all others.
func (f *fleet) start(id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.members[id] != nil {
		return nil
	}
	o := f.options
	o.ID, o.TURNServers = id, f.servers
	var err error
	if o.Net, err = f.network.Net(id); err != nil {
		return fmt.Errorf("start agent %s: %w", id, err)
	}
	if f.edit != nil {
		f.edit(&o)
	}
	o.OnMessage = func(from string, m wire.Message, at time.Time) { f.traffic.receive(from, id, m, at) }
	ctx, stop := context.WithCancel(f.ctx)
	agent, err := mesh.StartAgent(ctx, o)
	if err != nil {
		stop()
		return err
	}
	agent.SetBandwidth(f.bandwidth)
	m := &member{agent: agent, stop: stop}
	m.sends.Go(func() {
		f.traffic.send(ctx, id, func(to string, payload any) error {
			_, err := agent.SendReliable(to, payload)
			return err
		})
	})
	f.members[id] = m
	return nil
}

// stop closes an agent as if its process had ended.
func (f *fleet) stop(id string) error {
	f.mu.Lock()
	m := f.members[id]
	delete(f.members, id)
	f.mu.Unlock()
	if m == nil {
		return nil
	}
	return m.close()
}

func (m *member) close() error {
	m.stop()
	m.sends.Wait()
	return m.agent.Close()
}

func (f *fleet) close() error {
	var wg sync.WaitGroup
	for _, id := range f.ids {
		wg.Go(func() { _ = f.stop(id) })
	}
	wg.Wait()
	return nil
}

func (f *fleet) agents() []*mesh.Agent {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]*mesh.Agent, 0, len(f.members))
	for _, id := range f.ids {
		if m := f.members[id]; m != nil {
			list = append(list, m.agent)
		}
	}
	return list
}

// Links are the links of all agents, each from both ends.
func (f *fleet) Links() []wire.Link {
	links := []wire.Link{}
	for _, a := range f.agents() {
		links = append(links, a.Links()...)
	}
	return links
}

// Bandwidth is what agents bound themselves to now.
func (f *fleet) Bandwidth() mesh.Bandwidth {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bandwidth
}

// SetBandwidth bounds all agents, also those that start later.
func (f *fleet) SetBandwidth(b mesh.Bandwidth) {
	f.mu.Lock()
	f.bandwidth = b
	f.mu.Unlock()
	for _, a := range f.agents() {
		a.SetBandwidth(b)
	}
}

// Paths reports how an agent sees its ways to a peer.
func (f *fleet) Paths(local, peer string) (wire.PathReport, bool) {
	f.mu.Lock()
	m := f.members[local]
	f.mu.Unlock()
	if m == nil {
		return wire.PathReport{}, false
	}
	return m.agent.Paths(peer)
}

// TURNServers is the list that agents use now.
func (f *fleet) TURNServers() []wire.ServerURI {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.servers)
}

func (f *fleet) SetTURNServers(servers []wire.ServerURI) {
	f.mu.Lock()
	f.servers = slices.Clone(servers)
	f.mu.Unlock()
	for _, a := range f.agents() {
		a.SetTURNServers(servers)
	}
}

func (f *fleet) ReconnectTURN() {
	for _, a := range f.agents() {
		a.ReconnectTURN()
	}
}

// unsteady says what is missing for a mesh in which everybody hears everybody.
func (f *fleet) unsteady() error {
	connected := map[direction]bool{}
	for _, l := range f.Links() {
		if l.State == wire.StateConnected {
			connected[direction{l.Local, l.Peer}] = true
		}
	}
	for _, d := range f.traffic.order {
		if !connected[d] {
			return fmt.Errorf("%s to %s: not connected", d.from, d.to)
		}
	}
	return f.traffic.silent()
}
