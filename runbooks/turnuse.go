package runbooks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

// observeReconnect is met while nobody needs to reconnect: every link says
// its server, none is on the failed one, all are connected, and users that the
// plan saw there have come to the replacement, not just to any other server.
// Healthy links are not cut for nothing.
func (t *turnRecover) observeReconnect(ctx context.Context) (Observation, error) {
	if t.reconnected {
		return t.observeUse(ctx)
	}
	people, err := readPopulation(ctx, t.mesh.Controller)
	if err != nil {
		return Observation{}, err
	}
	users, known := people.users(t.params.Failed)
	down := len(people.links) - people.count(wire.StateConnected)
	o := Observation{Met: known && len(users) == 0 && down == 0}
	o.Summary = fmt.Sprintf("%d links on %s, %d not connected", len(users), t.params.Failed, down)
	switch {
	case !known:
		o.Summary = "the controller does not say through which server links go"
	case o.Met && t.facts.UsersKnown && len(t.facts.Users) > 0:
		o, _ = t.movedUsers(people)
	}
	if !o.Met {
		o.Diff = "! every peer on " + t.params.Failed + " reconnects through the first server of the list"
	}
	return o, nil
}

// observeUse proves that the users of the failed server are well again. With
// users in the plan all of them must be connected, off it, and at least one on
// the replacement. Without, there is nobody to move. Where the mesh does not
// show relays, a server that is dead to our own probe has no users, and events
// of agents on the replacement show use. Anything less is unknown.
func (t *turnRecover) observeUse(ctx context.Context) (Observation, error) {
	people, err := readPopulation(ctx, t.mesh.Controller)
	if err != nil {
		return Observation{}, err
	}
	now, known := people.users(t.params.Failed)
	switch {
	case len(now) > 0:
		return Observation{Summary: fmt.Sprintf("%d links are still on %s", len(now), t.params.Failed)}, nil
	case !known || !t.facts.UsersKnown:
		return t.useWithoutField(ctx)
	case len(t.facts.Users) == 0:
		return Observation{Met: true, Summary: "nobody was using " + t.params.Failed}, nil
	}
	return t.movedUsers(people)
}

func (t *turnRecover) movedUsers(people population) (Observation, error) {
	byName, _ := people.names()
	connected, onReplacement := 0, 0
	for _, name := range t.facts.Users {
		l, there := byName[name]
		if !there || l.State != wire.StateConnected {
			continue
		}
		connected++
		if relay, _ := l.Relay(); onServer(relay, t.replacement.Name()) {
			onReplacement++
		}
	}
	return Observation{
		Met: connected == len(t.facts.Users) && onReplacement > 0,
		Summary: fmt.Sprintf("%d of the %d links that were on %s are connected, %d on the replacement",
			connected, len(t.facts.Users), t.params.Failed, onReplacement),
	}, nil
}

// useWithoutField asks the failed server itself, now: it may have come back
// since the plan.
func (t *turnRecover) useWithoutField(ctx context.Context) (Observation, error) {
	if t.deadNow(ctx) {
		return Observation{Met: true, Summary: t.params.Failed + " answers nothing at all: it has no users"}, nil
	}
	seen, err := t.seenOnReplacement(ctx)
	if err != nil {
		return Observation{Blind: "the controller does not show relays, and the witness could not be asked: " + err.Error()}, nil
	}
	if seen == 0 {
		return Observation{Blind: "the controller does not show relays, the failed server still answers, and no agent reported the replacement"}, nil
	}
	return Observation{Met: true, Summary: fmt.Sprintf("agents reported the replacement %d times", seen)}, nil
}

// seenOnReplacement counts the mesh's own turn_connection_detected events for
// the replacement since the survey.
func (t *turnRecover) seenOnReplacement(ctx context.Context) (int, error) {
	events, err := t.mesh.Witness.Query(ctx, witnessclient.Query{
		Match: map[string]any{"event": "turn_connection_detected"},
		From:  t.facts.SurveyedAt.Format(time.RFC3339), To: "now",
	})
	if err != nil {
		return 0, err
	}
	seen := 0
	for _, e := range events {
		server, _ := e.Metadata["turn_server"].(string)
		if !wire.OwnAgent(e.AgentID) && !e.Timestamp.Before(t.facts.SurveyedAt) && onServer(server, t.replacement.Name()) {
			seen++
		}
	}
	return seen, nil
}

// relayMessage sends messages between two throw-away agents of ours through
// the replacement alone.
func (t *turnRecover) relayMessage(ctx context.Context) (Observation, error) {
	deadline := t.mesh.Timings.StepDeadline
	result, err := t.mesh.deliver(ctx, t.newRelay(), mesh.DeliveryOptions{
		Run: t.rec.Run, Agents: 2, Duration: min(time.Second, deadline/4), Interval: min(50*time.Millisecond, deadline/20), Setup: deadline / 4, Drain: deadline / 4,
	})
	if err != nil {
		return Observation{}, err
	}
	o := Observation{Summary: fmt.Sprintf("%d of %d messages through %s", result.Received, result.Sent, t.replacement.Name())}
	o.Met = result.Complete() && result.Sent > 0 && result.Lost == 0 && result.Corrupt == 0
	return o, nil
}

// newRelay is the entry of the new list that stands for the replacement.
func (t *turnRecover) newRelay() []wire.ServerURI {
	servers, _ := t.desired()
	for _, uri := range servers {
		if uri.Matches(t.replacement.Name()) {
			return []wire.ServerURI{uri}
		}
	}
	return []wire.ServerURI{t.replacement}
}

// sample is one look while the recovery is monitored.
func (t *turnRecover) sample(ctx context.Context) Sample {
	people, err := readPopulation(ctx, t.mesh.Controller)
	if err != nil {
		return Sample{probes.Unknown, err.Error()}
	}
	failed, limit := people.count(wire.StateFailed), t.mesh.Thresholds.FailedConnections
	users, _ := people.users(t.params.Failed)
	summary := fmt.Sprintf("%d of %d links connected, %d failed", people.count(wire.StateConnected), len(people.links), failed)
	switch {
	case len(users) > 0:
		return Sample{probes.Fail, fmt.Sprintf("%d links are on %s again", len(users), t.params.Failed)}
	case failed > limit:
		return Sample{probes.Fail, fmt.Sprintf("%s (limit %d)", summary, limit)}
	case len(people.links) == 0 && people.agents < 2 && len(t.facts.Baseline) == 0:
		return Sample{probes.Unknown, fmt.Sprintf("no links to watch, with %d agents", people.agents)}
	}
	verdict := t.mesh.Thresholds.successRate(people.successRate())
	if failed > 0 {
		verdict = verdict.Worse(probes.Warn)
	}
	return Sample{verdict, summary}
}

// deliver runs a delivery test with throw-away agents, as agents of this mesh
// connect, over the given TURN servers.
func (m *Mesh) deliver(ctx context.Context, servers []wire.ServerURI, o mesh.DeliveryOptions) (mesh.DeliveryResult, error) {
	o.SignalingURLs, o.TURNServers, o.Username, o.Password = m.SignalingURLs, servers, m.TURN.Username, m.TURN.Password
	o.RelayOnly = m.RelayOnly || len(servers) == 1
	o.Loopback, o.Timing, o.CAFile, o.Check = m.Loopback, m.Agent, m.CAFile, m.CheckTURN
	return mesh.TestDelivery(ctx, o)
}

// CheckTURN is how our own agents check a TURN server: by an allocation.
func (m *Mesh) CheckTURN(ctx context.Context, server wire.ServerURI) (time.Duration, error) {
	probe := m.turnProbe(server)
	if m.MintTURN != nil {
		username, password, _, err := m.MintTURN(ctx)
		if err != nil {
			return 0, err
		}
		probe.Credentials.Username, probe.Credentials.Password = username, password
	}
	return probe.Check(ctx)
}

// CheckSTUN is how our own agents check a STUN server.
func CheckSTUN(ctx context.Context, server wire.ServerURI) error {
	report := probes.STUN{Target: server}.Run(ctx)
	if worst, bad := report.Problem(); bad && report.Verdict == probes.Fail {
		return errors.New(worst.Summary)
	}
	return ctx.Err()
}

// TURNPool is the pool of TURN servers as agents of this mesh have it.
func (m *Mesh) TURNPool(ctx context.Context) (mesh.AgentOptions, error) {
	servers, err := m.TURNServers(ctx)
	if err != nil {
		return mesh.AgentOptions{}, err
	}
	return mesh.AgentOptions{
		TURNServers: servers, Username: m.TURN.Username, Password: m.TURN.Password, Credentials: m.MintTURN,
		Check: m.CheckTURN, STUNCheck: CheckSTUN, Timing: mesh.DefaultTiming(),
	}, nil
}
