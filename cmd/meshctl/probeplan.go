package main

import (
	"context"
	"crypto/x509"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/infrafabric/meshctl/mesh/httpapi"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks"
)

// servicePatience bounds one call of an HTTP service: a silent one is named
// within three seconds.
const servicePatience = 2800 * time.Millisecond

// prober is any probe of one target.
type prober interface {
	Run(ctx context.Context) probes.Report
}

// planner turns targets into tasks.
type planner struct {
	app     *app
	config  config
	options probeOptions
	roots   *x509.CertPool
	limits  probes.Limits
	peer    netip.AddrPort
	login   probes.Credentials
	plan    probePlan
	closers []func()
	pace    probes.Pace
	id      string
}

// planProbes finds out what to ask. Nothing is sent, but for names that are
// looked up.
func (a *app) planProbes(ctx context.Context, kind string, args []string, o probeOptions) (probePlan, error) {
	c, err := a.loadConfig()
	if err != nil {
		return probePlan{}, err
	}
	p := &planner{app: a, config: c, options: o, id: wire.OwnPrefix + runbooks.NewRunID()}
	p.limits = c.Thresholds.hold().Limits
	p.plan.expect = 3 * p.schedule().GiveUp
	if o.count > 0 {
		p.plan.expect += time.Duration(float64(o.count) / o.rate * float64(time.Second))
	}
	p.plan.close = func() {
		for _, f := range p.closers {
			f()
		}
	}
	if p.roots, err = httpapi.LoadRoots(c.CAFile); err != nil {
		return p.plan, usageError("configuration %s: %w", c.path, err)
	}
	kinds := []string{kind}
	if kind == "all" {
		kinds = nil
		for _, k := range probeKinds {
			kinds = append(kinds, k.name)
		}
	}
	for _, k := range kinds {
		if err := p.add(ctx, k, slices.Compact(slices.Clone(args)), kind == "all"); err != nil {
			return p.plan, err
		}
	}
	return p.plan, nil
}

// add plans one kind. Of everything, what is not configured is left out.
func (p *planner) add(ctx context.Context, kind string, args []string, all bool) error {
	switch kind {
	case "stun", "turn":
		return p.addServers(ctx, kind, args, all)
	case "tls":
		return p.addTLS(args, all)
	case "signaling":
		return p.addSignaling(args)
	}
	return p.addService(kind, args, all)
}

// task plans a probe.
func (p *planner) task(probe prober) {
	p.plan.tasks = append(p.plan.tasks, func(ctx context.Context) []probed { return []probed{newProbed(probe.Run(ctx), netip.AddrPort{})} })
}

// unread plans a report in place of servers that are not known.
func (p *planner) unread(kind string, err error) {
	p.plan.tasks = append(p.plan.tasks, func(context.Context) []probed {
		return []probed{newProbed(probes.Unread(kind, p.config.TURN.EnvFile, err), netip.AddrPort{})}
	})
}

// addServers plans STUN or TURN servers over all wanted transports and at all
// of their addresses.
func (p *planner) addServers(ctx context.Context, kind string, args []string, all bool) error {
	targets, err := p.servers(kind, args)
	switch {
	case len(args) > 0 && err != nil:
		return err
	case all && err != nil:
		p.unread(kind, err)
		return nil
	case len(targets) == 0 && all:
		return nil
	case len(targets) == 0:
		return usageError("probe %s: no target: name one, or turn.env_file in the configuration%s", kind, because(err))
	}
	if kind == "turn" {
		if p.login, err = p.app.turnCredentials(p.config); err != nil {
			return err
		}
		if p.peer, err = peerAddress(ctx, p.options.peer, p.config.Probe.Peer); err != nil {
			return err
		}
	}
	for _, target := range targets {
		over := []wire.ServerURI{target}
		if len(p.options.transports) > 0 {
			over = probes.Over(target, transports(p.options.transports)...)
		}
		p.plan.tasks = append(p.plan.tasks, func(ctx context.Context) []probed { return p.ask(ctx, kind, over) })
	}
	return nil
}

func transports(names []string) []probes.Transport {
	var all []probes.Transport
	for _, name := range names {
		if t := probes.Transport(name); !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	return all
}

// turnCredentials are those of the environment when it names both, else those
// of the configuration.
func (a *app) turnCredentials(c config) (probes.Credentials, error) {
	username, password := a.getenv("MESHCTL_TURN_USERNAME"), a.getenv("MESHCTL_TURN_PASSWORD")
	if username != "" && password != "" {
		return probes.Credentials{Username: username, Password: secret.New(password), Realm: c.TURN.Realm}, nil
	}
	var m runbooks.Mesh
	err := a.addTURN(c, &m)
	m.TURN.Realm = c.TURN.Realm
	return m.TURN, err
}

// addSignaling plans each server, and the way from each to the next.
func (p *planner) addSignaling(args []string) error {
	urls, err := p.signalingURLs(args)
	if err != nil {
		return err
	}
	for i, url := range urls {
		probe := probes.Signaling{
			URL: url, ID: p.id + "-" + strconv.Itoa(i+1), Other: p.otherSignaling(urls, i), Roots: p.roots, Limits: p.limits,
			Balancer: url == p.config.Balancer.URL,
		}
		p.task(probe)
	}
	return nil
}

// addService plans an HTTP service of the mesh, or others of its kind.
func (p *planner) addService(kind string, urls []string, all bool) error {
	e := map[string]endpointConfig{"controller": p.config.Controller, "witness": p.config.Witness, "prometheus": p.config.Prometheus}[kind]
	if len(urls) == 0 {
		urls = []string{e.URL}
	}
	if urls[0] == "" {
		if all {
			return nil
		}
		return usageError("probe %s: no target: name a URL, or %s.url in the configuration", kind, kind)
	}
	for _, url := range urls {
		var key secret.Secret
		if url == e.URL { // the key is that server's, and no other's
			var err error
			if key, err = p.app.readSecret(e.KeyEnv, e.KeyFile); err != nil {
				return err
			}
		}
		if kind == "controller" {
			key = secret.Secret{} // statistics are read without it
		}
		api, err := httpapi.New(httpapi.Options{
			Service: kind, URL: url, Bearer: key, Insecure: e.Insecure, CAFile: p.config.CAFile, Timeout: servicePatience,
		})
		if err != nil {
			return usageError("probe %s: %w", kind, err)
		}
		p.closers = append(p.closers, api.Close)
		service := probes.Service{API: api, URL: url, Authorised: !key.Empty(), Roots: p.roots}
		p.task(map[string]prober{
			"controller": probes.Controller{Service: service}, "witness": probes.Witness{Service: service},
			"prometheus": probes.Prometheus{Service: service},
		}[kind])
	}
	return nil
}
