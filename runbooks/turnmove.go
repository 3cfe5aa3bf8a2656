package runbooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks/targets"
)

// The runbooks that move users while servers are well.
const (
	TurnDrainName   = "turn drain"
	TurnRestoreName = "turn restore"
)

// TurnMoveParams name the server: HOST or HOST:PORT to drain, a TURN URI to
// restore. Monitor is how long connections are watched afterwards, and New says
// that the mesh has not had the restored server before.
type TurnMoveParams struct {
	Server  string        `json:"server"`
	New     bool          `json:"new,omitempty"`
	Monitor time.Duration `json:"monitor"`
}

// turnMove takes a TURN server out of the lists or puts it back at their head,
// and has agents move. It is a recovery with another edit: Failed is what
// nobody shall use, replacement where users go.
type turnMove struct {
	*turnRecover
	back bool // restore
	new  bool // restore of a server that the mesh has not had
}

// NewTurnDrain moves everybody off a server that works.
func NewTurnDrain(m *Mesh, p TurnMoveParams) (*Recovery, error) {
	server, err := parseServer(p.Server)
	if err != nil {
		return nil, &ParamError{"server", fmt.Sprintf("%q is not HOST or HOST:PORT", p.Server)}
	}
	p.Server = server
	d := &turnMove{turnRecover: &turnRecover{mesh: m, params: TurnRecoverParams{Failed: server, Monitor: p.Monitor}}}
	d.edit = turnServersOnly(func(list string) string { return removeServer(list, server) })
	return d.recovery(TurnDrainName, p)
}

// NewTurnRestore returns a server to use, as the one that agents prefer.
func NewTurnRestore(m *Mesh, p TurnMoveParams) (*Recovery, error) {
	uri, err := wire.ParseServerURI(p.Server)
	if err != nil || !uri.IsTURN() {
		return nil, &ParamError{"server", fmt.Sprintf("%q is not a URI as it stood in the list, such as turn:turn1.example.com:3478?transport=udp", p.Server)}
	}
	d := &turnMove{turnRecover: &turnRecover{mesh: m, params: TurnRecoverParams{Monitor: p.Monitor}, replacement: uri}, back: true, new: p.New}
	d.edit = turnServersOnly(func(list string) string { return prependServer(list, uri) })
	return d.recovery(TurnRestoreName, p)
}

// turnServersOnly leaves the STUN servers alone.
func turnServersOnly(edit func(list string) string) func(key, list string) string {
	return func(key, list string) string {
		if key != keyTURN {
			return list
		}
		return edit(list)
	}
}

func buildTurnMove(build func(*Mesh, TurnMoveParams) (*Recovery, error)) func(*Mesh, json.RawMessage) (*Recovery, error) {
	return func(m *Mesh, params json.RawMessage) (*Recovery, error) {
		var p TurnMoveParams
		if err := json.Unmarshal(params, &p); err != nil {
			return nil, fmt.Errorf("read parameters: %w", err)
		}
		return build(m, p)
	}
}

func (d *turnMove) recovery(name string, p TurnMoveParams) (*Recovery, error) {
	params, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	d.rec = &Recovery{
		Run: NewRunID(), Runbook: name, Params: params, Survey: d.survey, Restore: d.restore, Steps: d.steps(),
	}
	return d.rec, nil
}

// restore also remembers where users go.
func (d *turnMove) restore(facts json.RawMessage) error {
	if err := d.turnRecover.restore(facts); err != nil {
		return err
	}
	var err error
	d.replacement, err = wire.ParseServerURI(d.facts.Replacement)
	return err
}

func (d *turnMove) steps() []Step {
	steps := d.turnRecover.steps()
	for i := range steps {
		switch s := &steps[i]; s.ID {
		case "edit-env":
			s.Title, s.Observe = "change "+keyTURN+" in "+d.mesh.EnvFile, d.observeEnv
		case "reconnect-turn-peers":
			s.Title, s.Observe = "have agents move, new path first", d.observeMove
		case "verify-use":
			s.Title, s.Observe = "prove that everybody has moved and nobody was cut off", d.observeMoved
		case "relay-message":
			s.Title = "send our own message through the server that users have now"
		}
	}
	return steps
}

// survey asks file, controller, links and every server that is to be used.
func (d *turnMove) survey(ctx context.Context, past []RunSummary) (Situation, error) {
	s := &turnSurvey{past: past}
	s.env, s.envErr = targets.ReadEnvFile(d.mesh.EnvFile)
	if s.envErr == nil {
		s.envErr = d.readLists(s)
		s.mentioned = !sameServers(s.before, s.after) // there is something to edit
	}
	wanted := s.after
	if d.back {
		wanted = []wire.ServerURI{d.replacement}
	}
	s.target = make([]probes.Report, len(wanted))
	var g errgroup.Group
	g.Go(func() error { s.config, s.configErr = d.mesh.Controller.Config(ctx); return nil })
	g.Go(func() error { s.people, s.peopleErr = readPopulation(ctx, d.mesh.Controller); return nil })
	for i, uri := range wanted {
		g.Go(func() error { s.target[i] = d.probe(ctx, uri); return nil })
	}
	_ = g.Wait() // every question keeps its own error
	if err := ctx.Err(); err != nil {
		return Situation{}, err
	}
	problems := d.problems(s, wanted)
	d.facts = d.gather(s)
	d.facts.Replacement = d.replacement.String()
	facts, err := json.Marshal(d.facts)
	if err != nil {
		return Situation{}, err
	}
	situation := Situation{Facts: facts, Blast: d.blast(s), Problems: problems}
	situation.GoalMet = len(problems) == 0 && d.holds(s)
	if s.configErr != nil || !s.config.Offered {
		situation.Notes = append(situation.Notes, "the controller does not show its turn_servers: that agents got the new list can only be proved by what they do")
	}
	return situation, nil
}

// problems refuse a move that would leave users without a server. Where they
// go is the first of the wanted servers that is proved to relay.
func (d *turnMove) problems(s *turnSurvey, wanted []wire.ServerURI) []Problem {
	if s.envErr != nil {
		return []Problem{{Summary: s.envErr.Error(), Hint: "name the env file in the configuration (turn.env_file)"}}
	}
	if p := d.unknown(s); p != nil {
		return p
	}
	if len(wanted) == 0 {
		return []Problem{{
			Summary: d.params.Failed + " is the only TURN server of " + d.mesh.EnvFile,
			Hint:    "`meshctl turn restore` another one first",
		}}
	}
	problems := d.envProblems(s)
	if first := slices.IndexFunc(s.target, probes.Report.Healthy); first >= 0 {
		d.replacement = wanted[first]
	} else {
		for _, r := range s.target {
			worst, _ := r.Problem()
			problems = append(problems, Problem{
				Summary: fmt.Sprintf("%s is not proved to relay: %s (%s)", r.Target, worst.Summary, worst.Code), Hint: worst.Hint,
			})
		}
	}
	if s.configErr != nil && !errors.As(s.configErr, new(*control.NotOfferedError)) {
		problems = append(problems, Problem{Summary: s.configErr.Error(), Hint: "the new list could not be loaded; repair the controller first"})
	}
	if s.peopleErr != nil {
		problems = append(problems, Problem{Summary: s.peopleErr.Error(), Hint: "without /stats nobody could tell whether users have moved"})
	}
	return problems
}

// unknown refuses a server that the mesh has never had.
func (d *turnMove) unknown(s *turnSurvey) []Problem {
	switch known := s.known(); {
	case !d.back && !listed(known, d.params.Failed):
		return []Problem{s.stranger(d.params.Failed, wire.ServerURI.Address)}
	case d.back && !d.new && !listed(known, d.replacement.Name()):
		p := s.stranger(d.replacement.String(), turnText)
		p.Hint += "; --new adds a server that the mesh has not had"
		return []Problem{p}
	}
	return nil
}

// turnText is "" for what is no TURN server.
func turnText(uri wire.ServerURI) string {
	if !uri.IsTURN() {
		return ""
	}
	return uri.String()
}

// holds: file and controller have the new list, and links are where they shall be.
func (d *turnMove) holds(s *turnSurvey) bool {
	if s.configErr != nil || !s.config.Offered || !sameServers(s.before, s.after) {
		return false
	}
	configured, err := wireServers(s.config.TURNServers)
	if err != nil || !sameServers(configured, s.after) {
		return false
	}
	return d.judge(s.people).Met
}

func (d *turnMove) blast(s *turnSurvey) string {
	if !d.back {
		return d.turnRecover.blast(s)
	}
	relayed := 0
	for _, l := range s.people.links {
		if l.Path == wire.PathRelay {
			relayed++
		}
	}
	return fmt.Sprintf("%d of %d links are relayed; these move to %s, the new path before the old one is left", relayed, len(s.people.links), d.replacement.Name())
}

func (d *turnMove) observeEnv(ctx context.Context) (Observation, error) {
	o, err := d.turnRecover.observeEnv(ctx)
	if d.back && err == nil {
		o.Summary = d.replacement.Name() + map[bool]string{true: " is", false: " is not"}[o.Met] + " the first server of " + keyTURN
	}
	return o, err
}

func (d *turnMove) observeMove(ctx context.Context) (Observation, error) {
	o, err := d.observeMoved(ctx)
	if !o.Met {
		o.Diff = "! relayed links move to the first server of the list, " + d.replacement.Name()
	}
	if o.Blind != "" && d.reconnected { // whether it worked is for the next step
		return Observation{Met: true, Summary: "agents were told"}, nil
	}
	return o, err
}

func (d *turnMove) observeMoved(ctx context.Context) (Observation, error) {
	people, err := readPopulation(ctx, d.mesh.Controller)
	if err != nil {
		return Observation{}, err
	}
	return d.judge(people), nil
}

// judge looks where the links are: nobody on a drained server, relayed ones on
// a restored server, and every link of the baseline connected.
func (d *turnMove) judge(people population) Observation {
	byName, named := people.names()
	for _, name := range d.facts.Baseline {
		if l, there := byName[name]; named && (!there || l.State != wire.StateConnected) {
			return Observation{Summary: "the link " + name + " is not connected"}
		}
	}
	if d.back {
		return d.judgeBack(people)
	}
	users, known := people.users(d.params.Failed)
	switch {
	case len(users) > 0:
		return Observation{Summary: fmt.Sprintf("%d links are still on %s", len(users), d.params.Failed)}
	case !known:
		return Observation{Blind: "the controller does not say through which server links go"}
	}
	return Observation{Met: true, Summary: fmt.Sprintf("nobody is on %s, %d of %d links are connected",
		d.params.Failed, people.count(wire.StateConnected), len(people.links))}
}

func (d *turnMove) judgeBack(people population) Observation {
	on, relayed := 0, 0
	for _, l := range people.links {
		relay, known := l.Relay()
		if !known {
			return Observation{Blind: "the controller does not say through which server links go"}
		}
		if relay == "" {
			continue
		}
		relayed++
		if onServer(relay, d.replacement.Name()) {
			on++
		}
	}
	return Observation{Met: on == relayed, Summary: fmt.Sprintf("%d of %d relayed links are on %s", on, relayed, d.replacement.Name())}
}
