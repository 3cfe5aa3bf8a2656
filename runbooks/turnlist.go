package runbooks

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks/targets"
)

// TURNServer is one TURN server as file, controller, links and our own probe
// see it. A nil pointer is not known.
type TURNServer struct {
	URI          string         `json:"uri"`
	InFile       *bool          `json:"in_env_file"`
	InController *bool          `json:"in_controller"`
	Links        *int           `json:"links"`
	Verdict      probes.Verdict `json:"verdict"`
	Code         string         `json:"code,omitempty"`
	Summary      string         `json:"summary"`
	TookMS       float64        `json:"took_ms"`
}

// TURNList is every TURN server that anybody names.
type TURNList struct {
	Verdict  probes.Verdict `json:"verdict"`
	Servers  []TURNServer   `json:"servers"`
	Problems []string       `json:"problems"` // what could not be read
}

// ListTURN asks file, controller, links and servers, all in parallel.
func (m *Mesh) ListTURN(ctx context.Context) TURNList {
	list := TURNList{Verdict: probes.Skip, Servers: []TURNServer{}, Problems: []string{}}
	file, fileErr := listIn(m.EnvFile, keyTURN)
	var config control.Config
	var people population
	var configErr, peopleErr error
	var reading errgroup.Group
	reading.Go(func() error { config, configErr = m.Controller.Config(ctx); return nil })
	reading.Go(func() error { people, peopleErr = readPopulation(ctx, m.Controller); return nil })
	_ = reading.Wait() // every question keeps its own error
	given, givenErr := wireServers(config.TURNServers)
	configErr = errors.Join(configErr, givenErr)
	for _, err := range []error{fileErr, configErr, peopleErr} {
		if err != nil {
			list.Problems = append(list.Problems, err.Error())
		}
	}
	union := unite(file, given)
	list.Servers = make([]TURNServer, len(union))
	var probing errgroup.Group
	for i, uri := range union {
		s := &list.Servers[i]
		s.URI = uri.String()
		s.InFile = known(fileErr == nil, contains(file, uri))
		s.InController = known(configErr == nil && config.Offered, contains(given, uri))
		s.Links = linksOn(people, peopleErr, uri)
		probing.Go(func() error { s.ask(ctx, m.turnProbe(uri)); return nil })
	}
	_ = probing.Wait() // the verdict is in each server
	for _, s := range list.Servers {
		list.Verdict = list.Verdict.Worse(s.Verdict)
	}
	// A source that could not be read may name further servers.
	unread := configErr != nil && !errors.As(configErr, new(*control.NotOfferedError))
	if len(union) == 0 || fileErr != nil || unread {
		list.Verdict = list.Verdict.Worse(probes.Unknown)
	}
	return list
}

func (s *TURNServer) ask(ctx context.Context, probe probes.TURN) {
	report := probe.Run(ctx)
	s.Verdict, s.TookMS = report.Verdict, millis(report.Took)
	if worst, bad := report.Problem(); bad {
		s.Code, s.Summary = worst.Code, worst.Summary
		return
	}
	s.Summary = "relays"
}

// listIn reads one list of an env file, which has none without the key.
func listIn(path, key string) ([]wire.ServerURI, error) {
	f, err := targets.ReadEnvFile(path)
	if err != nil {
		return nil, err
	}
	value, _ := f.Value(key)
	servers, err := wire.ParseServerList(value)
	if err != nil {
		return nil, fmt.Errorf("read env file %s: %s: %w", path, key, err)
	}
	return servers, nil
}

func unite(lists ...[]wire.ServerURI) []wire.ServerURI {
	var all []wire.ServerURI
	for _, list := range lists {
		for _, uri := range list {
			if !contains(all, uri) {
				all = append(all, uri)
			}
		}
	}
	return all
}

func contains(list []wire.ServerURI, uri wire.ServerURI) bool {
	for _, other := range list {
		if serverKey(other) == serverKey(uri) {
			return true
		}
	}
	return false
}

func known(is, value bool) *bool {
	if !is {
		return nil
	}
	return &value
}

func linksOn(people population, err error, uri wire.ServerURI) *int {
	users, known := people.users(uri.Address())
	if err != nil || !known {
		return nil
	}
	n := len(users)
	return &n
}

// ServerNames are the TURN servers of an env file as HOST:PORT, for
// completion; an unreadable file has none.
func ServerNames(path string) []string {
	entries, err := listIn(path, keyTURN)
	if err != nil {
		return nil
	}
	var names []string
	for _, uri := range entries {
		names = append(names, uri.Name())
	}
	return names
}
