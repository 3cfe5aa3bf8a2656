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
	"github.com/infrafabric/meshctl/witnessclient"
)

// The keys of the env file that name STUN and TURN servers.
const (
	keyTURN = "TURN_SERVERS"
	keySTUN = "STUN_SERVERS"
)

// turnSurvey is everything one survey read, all of it in parallel.
type turnSurvey struct {
	env            targets.EnvFile
	envErr         error
	before, after  []wire.ServerURI // TURN_SERVERS
	listed         []wire.ServerURI // TURN_SERVERS and STUN_SERVERS, before
	mentioned      bool             // the failed server stands in either key
	config         control.Config
	configErr      error
	people         population
	peopleErr      error
	past           []RunSummary
	failed, target []probes.Report
}

// survey asks what a recovery needs to know before anything is changed.
func (t *turnRecover) survey(ctx context.Context, past []RunSummary) (Situation, error) {
	s := t.ask(ctx)
	s.past = past
	if err := ctx.Err(); err != nil {
		return Situation{}, err
	}
	t.facts = t.gather(s)
	facts, err := json.Marshal(t.facts)
	if err != nil {
		return Situation{}, err
	}
	situation := Situation{Facts: facts, Blast: t.blast(s)}
	situation.Problems = append(t.envProblems(s), t.targetProblems(s)...)
	if len(situation.Problems) == 0 && (t.goalMet(s) || t.goalByEvents(ctx, s)) {
		situation.GoalMet = true
		return situation, nil
	}
	situation.Problems = append(situation.Problems, t.failedProblems(s)...)
	situation.Notes = t.notes(s)
	return situation, nil
}

func (t *turnRecover) ask(ctx context.Context) *turnSurvey {
	s := &turnSurvey{}
	s.env, s.envErr = targets.ReadEnvFile(t.mesh.EnvFile)
	if s.envErr == nil {
		s.envErr = t.readLists(s)
	}
	var g errgroup.Group
	g.Go(func() error { s.config, s.configErr = t.mesh.Controller.Config(ctx); return nil })
	g.Go(func() error { s.people, s.peopleErr = readPopulation(ctx, t.mesh.Controller); return nil })
	failed, replaced := t.failedServers(s.before), t.newServers(s)
	s.failed, s.target = make([]probes.Report, len(failed)), make([]probes.Report, len(replaced))
	for i, uri := range failed {
		g.Go(func() error { s.failed[i] = t.probe(ctx, uri); return nil })
	}
	for i, uri := range replaced {
		g.Go(func() error { s.target[i] = t.probe(ctx, uri); return nil })
	}
	_ = g.Wait() // every question keeps its own error
	return s
}

func (t *turnRecover) probe(ctx context.Context, uri wire.ServerURI) probes.Report {
	return t.mesh.turnProbe(uri).Run(ctx)
}

// readLists parses the lists of the env file, before and after the edit.
func (t *turnRecover) readLists(s *turnSurvey) error {
	value, ok := s.env.Value(keyTURN)
	if !ok {
		return fmt.Errorf("read env file %s: no %s", s.env.Path, keyTURN)
	}
	var err error
	if s.before, err = wire.ParseServerList(value); err != nil {
		return fmt.Errorf("read env file %s: %s: %w", s.env.Path, keyTURN, err)
	}
	if s.after, err = wire.ParseServerList(t.edit(keyTURN, value)); err != nil {
		return fmt.Errorf("read env file %s: %s: %w", s.env.Path, keyTURN, err)
	}
	s.listed, err = listedServers(s.env)
	s.mentioned = listed(s.listed, t.params.Failed)
	return err
}

// failedServers are the URIs of a list that are on the failed server, or else
// the address that it goes by. A mere host could have any port.
func (t *turnRecover) failedServers(list []wire.ServerURI) []wire.ServerURI {
	var on []wire.ServerURI
	for _, uri := range list {
		if uri.Matches(t.params.Failed) {
			on = append(on, uri)
		}
	}
	if uri, err := wire.ParseServerURI("turn:" + t.params.Failed); err == nil && uri.Port != 0 && len(on) == 0 {
		on = append(on, uri)
	}
	return on
}

// newServers are the entries that the edit adds, or else the replacement as
// it was given: what has to relay before anything is changed.
func (t *turnRecover) newServers(s *turnSurvey) []wire.ServerURI {
	known := map[string]bool{}
	for _, uri := range s.before {
		known[serverKey(uri)] = true
	}
	var added []wire.ServerURI
	for _, uri := range s.after {
		if !known[serverKey(uri)] {
			added = append(added, uri)
		}
	}
	if len(added) == 0 {
		return []wire.ServerURI{t.replacement}
	}
	return added
}

func (t *turnRecover) gather(s *turnSurvey) turnFacts {
	f := turnFacts{
		Failed: t.params.Failed, Replacement: t.params.Replacement, SurveyedAt: time.Now().UTC(),
		ServersBefore: serverTexts(s.before), ServersAfter: serverTexts(s.after), FailedDead: dead(s.failed),
	}
	if s.peopleErr != nil {
		return f
	}
	users, known := s.people.users(t.params.Failed)
	f.UsersKnown, f.Agents = known, s.people.agents
	for _, l := range users {
		name, named := linkName(l)
		f.UsersKnown = f.UsersKnown && named
		f.Users = append(f.Users, name)
	}
	byName, known := s.people.names()
	f.BaselineKnown = known
	for name := range byName {
		f.Baseline = append(f.Baseline, name)
	}
	return f
}

// dead tells whether every probe of a server got no answer at all, so that
// nobody can be relayed by it. A refusing server may still carry old links.
func dead(reports []probes.Report) bool {
	for _, r := range reports {
		worst, ok := r.Problem()
		if !ok || (worst.Code != probes.CodeTURNSilent && worst.Code != probes.CodeTURNClosed) {
			return false
		}
	}
	return len(reports) > 0
}

func (t *turnRecover) envProblems(s *turnSurvey) []Problem {
	if s.envErr != nil {
		return []Problem{{Summary: s.envErr.Error(), Hint: "name the env file in the configuration (turn.env_file)"}}
	}
	if !s.mentioned {
		return nil
	}
	if err := targets.Writable(t.mesh.EnvFile); err != nil {
		return []Problem{{Summary: err.Error(), Hint: "run as a user who may write the file and its directory"}}
	}
	if _, err := t.editEnv(s.env); err != nil {
		return []Problem{{Summary: err.Error(), Hint: "edit that line by hand"}}
	}
	return nil
}

// targetProblems: at least one entry must be proved to relay, and none may be
// seen not to.
func (t *turnRecover) targetProblems(s *turnSurvey) []Problem {
	var problems []Problem
	proved := false
	for _, r := range s.target {
		proved = proved || r.Healthy()
	}
	for _, r := range s.target {
		worst, bad := r.Problem()
		if r.Healthy() || !bad || (proved && r.Verdict == probes.Unknown) {
			continue
		}
		problems = append(problems, Problem{
			Summary: fmt.Sprintf("replacement %s is not proved to relay: %s (%s)", r.Target, worst.Summary, worst.Code), Hint: worst.Hint,
		})
	}
	var missing *control.NotOfferedError
	if s.configErr != nil && !errors.As(s.configErr, &missing) {
		problems = append(problems, Problem{Summary: s.configErr.Error(), Hint: "the new list could not be loaded; repair the controller first"})
	}
	return problems
}

// failedProblems are asked only while there is something to do.
func (t *turnRecover) failedProblems(s *turnSurvey) []Problem {
	if s.envErr != nil {
		return nil
	}
	if !listed(s.known(), t.params.Failed) {
		return []Problem{s.stranger(t.params.Failed, wire.ServerURI.Address)}
	}
	if !s.mentioned && !t.stillConfigured(s) && !t.replacementListed(s) {
		return []Problem{{
			Summary: fmt.Sprintf("%s is not listed in %s or %s of %s", t.params.Failed, keyTURN, keySTUN, t.mesh.EnvFile),
			Hint:    "`meshctl turn list` shows the servers that are",
		}}
	}
	for _, r := range s.failed {
		if r.Healthy() && s.mentioned && !t.params.Force {
			return []Problem{{
				Summary: fmt.Sprintf("%s is healthy: it relayed an echo in %s", r.Target, r.Took.Round(time.Millisecond)),
				Hint:    "--force replaces a healthy server",
			}}
		}
	}
	return nil
}

func (t *turnRecover) stillConfigured(s *turnSurvey) bool {
	servers, err := wireServers(s.config.TURNServers)
	return s.configErr == nil && err == nil && listed(servers, t.params.Failed)
}

func (t *turnRecover) replacementListed(s *turnSurvey) bool {
	return listed(s.before, t.replacement.Name())
}

// goalByEvents is the goal on a mesh whose controller shows nothing: the failed
// server is dead, and the audit log holds the completion of its replacement.
// That agents use the replacement would prove nothing about the controller's
// list: it may have been their second choice before.
func (t *turnRecover) goalByEvents(ctx context.Context, s *turnSurvey) bool {
	blind := errors.As(s.configErr, new(*control.NotOfferedError)) || (s.configErr == nil && !s.config.Offered)
	if s.envErr != nil || s.mentioned || !t.replacementListed(s) || !blind || !t.facts.FailedDead {
		return false
	}
	done := t.completed("").Name
	events, err := t.mesh.Witness.Query(ctx, witnessclient.Query{
		Match: map[string]any{"event": done, "metadata.failed_server": t.params.Failed}, From: "-1d", To: "now",
	})
	return err == nil && slices.ContainsFunc(events, func(e witnessclient.Event) bool {
		replacement, _ := e.Metadata["replacement_server"].(string)
		return e.Name == done && e.Metadata["failed_server"] == t.params.Failed && onServer(replacement, t.replacement.Name())
	})
}

// goalMet: the failed server was one of this mesh and is out of file and
// configuration, the replacement is in both, and nobody is seen on the failed
// server.
func (t *turnRecover) goalMet(s *turnSurvey) bool {
	if s.envErr != nil || s.mentioned || !t.replacementListed(s) || s.configErr != nil || !s.config.Offered || !listed(s.known(), t.params.Failed) {
		return false
	}
	configured, err := wireServers(s.config.TURNServers)
	if err != nil || !sameServers(configured, s.before) || s.peopleErr != nil {
		return false
	}
	users, known := s.people.users(t.params.Failed)
	return known && len(users) == 0
}

func wireServers(texts []string) ([]wire.ServerURI, error) {
	servers := make([]wire.ServerURI, 0, len(texts))
	for _, text := range texts {
		uri, err := wire.ParseServerURI(text)
		if err != nil {
			return nil, err
		}
		servers = append(servers, uri)
	}
	return servers, nil
}

func (t *turnRecover) blast(s *turnSurvey) string {
	if s.peopleErr != nil {
		return "unknown: " + s.peopleErr.Error()
	}
	users, known := s.people.users(t.params.Failed)
	if !known {
		return fmt.Sprintf("unknown: the controller does not say through which server the %d links of %d agents go; all relayed links may reconnect", len(s.people.links), s.people.agents)
	}
	return fmt.Sprintf("%d of %d agents relay through %s; these reconnect", endpoints(users), s.people.agents, t.params.Failed)
}

func (t *turnRecover) notes(s *turnSurvey) []string {
	var notes []string
	for _, r := range s.target {
		if worst, bad := r.Problem(); bad && r.Verdict == probes.Unknown {
			notes = append(notes, fmt.Sprintf("%s was not proved to relay: %s", r.Target, worst.Summary))
		}
	}
	if s.configErr != nil || !s.config.Offered {
		notes = append(notes, "the controller does not offer turn_servers in GET /config: that the reload took effect can only be proved by turn_connection_detected events")
	}
	return notes
}
