package main

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// located is one server at one address, over the transports at which it has
// that address.
type located struct {
	targets []wire.ServerURI
	servers []netip.AddrPort
}

func (l *located) routable() bool { return probes.Routable(l.servers[0]) }

func (l *located) skipped(kind string) []probes.Report {
	var reports []probes.Report
	for i, target := range l.targets {
		reports = append(reports, probes.NoRoute(kind, target, l.servers[i]))
	}
	return reports
}

// ask looks a server up and asks it at every address.
func (p *planner) ask(ctx context.Context, kind string, over []wire.ServerURI) []probed {
	places, lost := p.locate(ctx, kind, over)
	found := make([][]probes.Report, len(places))
	reachable := slices.ContainsFunc(places, (*located).routable) // else to say so is the probe's matter
	var asked sync.WaitGroup
	for i, place := range places {
		if reachable && !place.routable() {
			found[i] = place.skipped(kind)
			continue
		}
		asked.Go(func() {
			if kind == "turn" {
				found[i] = p.turn(place).Run(ctx)
				return
			}
			found[i] = place.each(ctx, kind, p)
		})
	}
	asked.Wait()
	var reports []probed
	for _, r := range lost {
		reports = append(reports, newProbed(r, netip.AddrPort{}))
	}
	for i, place := range places {
		for j, r := range found[i] {
			reports = append(reports, newProbed(r, place.servers[j]))
		}
	}
	return reports
}

// locate groups the addresses of a server. A transport without an address is a
// report already.
func (p *planner) locate(ctx context.Context, kind string, over []wire.ServerURI) (places []*located, lost []probes.Report) {
	started := time.Now()
	found, errs := make([][]netip.AddrPort, len(over)), make([]error, len(over))
	var asked sync.WaitGroup
	for i, target := range over {
		asked.Go(func() { found[i], errs[i] = probes.Endpoints(ctx, nil, target) })
	}
	asked.Wait()
	byAddress := map[netip.Addr]*located{}
	for i, target := range over {
		if errs[i] != nil {
			lost = append(lost, probes.Unresolved(kind, target, started, errs[i]))
		}
		for _, server := range found[i] {
			place := byAddress[server.Addr()]
			if place == nil {
				place = &located{}
				byAddress[server.Addr()] = place
				places = append(places, place)
			}
			place.targets, place.servers = append(place.targets, target), append(place.servers, server)
		}
	}
	return places, lost
}

func (p *planner) schedule() probes.Schedule {
	if p.options.rfc {
		return probes.StandardSchedule()
	}
	return probes.QuickSchedule()
}

func (p *planner) turn(place *located) probes.Matrix {
	return probes.Matrix{
		Targets: place.targets, Servers: place.servers,
		TURN: probes.TURN{
			Credentials: p.login, Peer: p.peer, Roots: p.roots, Limits: p.limits, Pace: &p.pace,
			Count: p.options.count, Rate: p.options.rate, Schedule: p.schedule(),
		},
	}
}

// each asks a server over each of its transports.
func (l *located) each(ctx context.Context, kind string, p *planner) []probes.Report {
	reports := make([]probes.Report, len(l.targets))
	var asked sync.WaitGroup
	for i, target := range l.targets {
		var probe prober = probes.STUN{Target: target, Server: l.servers[i], Roots: p.roots, Limits: p.limits, Schedule: p.schedule()}
		if kind == "tls" {
			probe = probes.Handshake{Target: target, Server: l.servers[i], Roots: p.roots, Limits: p.limits}
		}
		asked.Go(func() { reports[i] = probe.Run(ctx) })
	}
	asked.Wait()
	return reports
}
