package main

import (
	"net/url"
	"slices"
	"strconv"

	"github.com/infrafabric/meshctl/mesh/httpapi"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks"
)

// sites are the parts of the mesh by their own addresses; nothing is sent.
func (a *app) sites(c config) (runbooks.Sites, error) {
	roots, err := httpapi.LoadRoots(c.CAFile)
	if err != nil {
		return runbooks.Sites{}, usageError("configuration %s: %w", c.path, err)
	}
	s := runbooks.Sites{
		Balancer: c.Balancer.URL, Roots: roots, TLS: tlsTargets(c), EnvHost: c.TURN.Host,
		Upstream: runbooks.Upstream{File: c.Balancer.File, Name: c.Balancer.Upstream, Host: c.Balancer.Host},
	}
	for _, server := range c.Signaling {
		s.Signaling = append(s.Signaling, runbooks.SignalingSite{Name: server.Name, URL: server.URL})
	}
	for _, service := range []struct {
		name string
		at   endpointConfig
		into *probes.Service
	}{{"controller", c.Controller, &s.Controller}, {"witness", c.Witness, &s.Witness}, {"prometheus", c.Prometheus, &s.Prometheus}} {
		if service.at.URL == "" {
			continue
		}
		key, err := a.readSecret(service.at.KeyEnv, service.at.KeyFile)
		if err != nil {
			return runbooks.Sites{}, err
		}
		*service.into, err = newService(service.name, service.at, key, c.CAFile)
		if err != nil {
			return runbooks.Sites{}, usageError("configuration %s: %s: %w", c.path, service.name, err)
		}
		service.into.Roots = roots
	}
	return s, nil
}

func newService(name string, at endpointConfig, key secret.Secret, caFile string) (probes.Service, error) {
	api, err := httpapi.New(httpapi.Options{Service: name, URL: at.URL, Bearer: key, Insecure: at.Insecure, CAFile: caFile})
	return probes.Service{API: api, URL: at.URL, Authorised: !key.Empty()}, err
}

func closeSites(s runbooks.Sites) {
	for _, service := range []probes.Service{s.Controller, s.Witness, s.Prometheus} {
		if service.API != nil {
			service.API.Close()
		}
	}
}

// tlsTargets is everything in the configuration that serves a certificate.
func tlsTargets(c config) []wire.ServerURI {
	urls := []string{c.Controller.URL, c.Witness.URL, c.Prometheus.URL, c.Balancer.URL}
	for _, s := range c.Signaling {
		urls = append(urls, s.URL)
	}
	for _, certificate := range c.Certificates {
		for _, server := range certificate.Servers {
			urls = append(urls, "https://"+server)
		}
	}
	targets := []wire.ServerURI{}
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "https" && u.Scheme != "wss" {
			continue
		}
		target := wire.ServerURI{Scheme: probes.SchemeTLS, Host: u.Hostname(), Port: 443}
		if port, err := strconv.Atoi(u.Port()); err == nil {
			target.Port = port
		}
		if !slices.Contains(targets, target) {
			targets = append(targets, target)
		}
	}
	return targets
}
