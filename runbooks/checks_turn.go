package runbooks

import (
	"context"
	"errors"
	"fmt"

	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks/targets"
)

var errNoSubject = errors.New("which server failed is not known: no finished recovery was found")

// agentStats is where registered agents are counted: the signaling server's
// own statistics, else the controller's.
func (m *Mesh) agentStats() *control.Client {
	if m.SignalingStats != nil {
		return m.SignalingStats
	}
	return m.Controller
}

// TURNServers is the list that agents of this mesh get: the controller's, else
// the env file's.
func (m *Mesh) TURNServers(ctx context.Context) ([]wire.ServerURI, error) {
	config, err := m.Controller.Config(ctx)
	if err == nil && config.Offered {
		return wireServers(config.TURNServers)
	}
	servers, envErr := listIn(m.EnvFile, keyTURN)
	if envErr != nil {
		return nil, errors.Join(err, envErr)
	}
	return servers, nil
}

// listedServers is every server of both lists of an env file.
func listedServers(f targets.EnvFile) ([]wire.ServerURI, error) {
	var all []wire.ServerURI
	for _, key := range []string{keyTURN, keySTUN} {
		value, _ := f.Value(key)
		servers, err := wire.ParseServerList(value)
		if err != nil {
			return nil, fmt.Errorf("read env file %s: %s: %w", f.Path, key, err)
		}
		all = append(all, servers...)
	}
	return all, nil
}

// recovery is the subject seen as the recovery it was.
func (v *validation) recovery() (*turnRecover, error) {
	f := v.subject.facts
	if !v.subject.known || f.Failed == "" {
		return nil, errNoSubject
	}
	t := &turnRecover{mesh: v.mesh, params: TurnRecoverParams{Failed: f.Failed, Replacement: f.Replacement}, facts: f}
	if f.Replacement == "" {
		return t, nil
	}
	var err error
	t.replacement, err = wire.ParseServerURI(f.Replacement)
	return t, err
}

// turnConfiguration wants the failed server out of the env file and out of
// what the controller gives to agents.
func (v *validation) turnConfiguration(ctx context.Context) answer {
	t, err := v.recovery()
	if err != nil {
		return unknown(err)
	}
	f, err := targets.ReadEnvFile(v.mesh.EnvFile)
	if err != nil {
		return unknown(err)
	}
	inFile, err := listedServers(f)
	if err != nil {
		return unknown(err)
	}
	if listed(inFile, t.params.Failed) {
		return answer{verdict: probes.Fail, summary: t.params.Failed + " is still listed in " + v.mesh.EnvFile, hint: "meshctl turn recover"}
	}
	return v.controllerConfiguration(ctx, t)
}

func (v *validation) controllerConfiguration(ctx context.Context, t *turnRecover) answer {
	config, err := v.mesh.Controller.Config(ctx)
	if errors.As(err, new(*control.NotOfferedError)) || (err == nil && !config.Offered) {
		o, _ := t.reloadByEvents(ctx, "")
		if o.Met {
			return answer{verdict: probes.Pass, summary: "env file: not listed; " + o.Summary}
		}
		return answer{verdict: probes.Unknown, summary: o.Blind}
	}
	if err != nil {
		return unknown(err)
	}
	servers, err := wireServers(config.TURNServers)
	if err != nil {
		return unknown(err)
	}
	facts := map[string]any{"turn_servers": config.TURNServers}
	if listed(servers, t.params.Failed) {
		return answer{probes.Fail, "the controller still gives " + t.params.Failed + " to agents", "meshctl turn recover", facts}
	}
	if t.params.Replacement != "" && !listed(servers, t.replacement.Name()) {
		return answer{probes.Fail, "the controller does not give the replacement " + t.params.Replacement + " to agents", "meshctl turn recover", facts}
	}
	return answer{probes.Pass, t.params.Failed + " is out of env file and controller", "", facts}
}

// turnUnused wants nobody on the failed server any more.
func (v *validation) turnUnused(ctx context.Context) answer {
	t, err := v.recovery()
	if err != nil {
		return unknown(err)
	}
	o, err := t.observeUse(ctx)
	switch {
	case err != nil:
		return unknown(err)
	case o.Blind != "":
		return answer{verdict: probes.Unknown, summary: o.Blind}
	case !o.Met:
		return answer{verdict: probes.Fail, summary: o.Summary, hint: "reconnect the peers that still use it"}
	}
	return answer{verdict: probes.Pass, summary: o.Summary}
}

// deadNow probes the failed server again: it may have come back since.
func (t *turnRecover) deadNow(ctx context.Context) bool {
	servers, err := wireServers(t.facts.ServersBefore)
	if err != nil {
		return false
	}
	var reports []probes.Report
	for _, uri := range t.failedServers(servers) {
		reports = append(reports, t.probe(ctx, uri))
	}
	return dead(reports)
}

// turnReplacement probes the replacement as its users would use it.
func (v *validation) turnReplacement(ctx context.Context) answer {
	t, err := v.recovery()
	if err != nil {
		return unknown(err)
	}
	if t.params.Replacement == "" {
		return answer{verdict: probes.Fail, summary: t.params.Failed + " was not replaced", hint: "meshctl turn recover"}
	}
	uri := t.newRelay()[0]
	report := t.probe(ctx, uri)
	if worst, bad := report.Problem(); bad {
		return answer{verdict: report.Verdict, summary: fmt.Sprintf("%s: %s (%s)", uri, worst.Summary, worst.Code), hint: worst.Hint}
	}
	return answer{verdict: report.Verdict, summary: fmt.Sprintf("%s relays", uri), facts: map[string]any{"echo_ms": millis(report.Took)}}
}
