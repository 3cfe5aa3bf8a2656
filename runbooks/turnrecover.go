package runbooks

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/witnessclient"
)

// TurnRecoverName is the runbook of scenario A's manual recovery.
const TurnRecoverName = "turn recover"

// TurnRecoverParams name the servers: Failed is HOST or HOST:PORT,
// Replacement a TURN URI, Monitor how long connections are watched afterwards.
type TurnRecoverParams struct {
	Failed      string        `json:"failed"`
	Replacement string        `json:"replacement"`
	Force       bool          `json:"force,omitempty"`
	Monitor     time.Duration `json:"monitor"`
}

// ParamError is a parameter that cannot be meant.
type ParamError struct{ Name, Reason string }

func (e *ParamError) Error() string { return fmt.Sprintf("--%s: %s", e.Name, e.Reason) }

// turnFacts is what the survey of a TURN recovery saw. It is journalled: a
// resumed run judges by it, and a validation takes servers and baseline from it.
type turnFacts struct {
	Failed        string    `json:"failed"`
	Replacement   string    `json:"replacement"`
	ServersBefore []string  `json:"servers_before"`
	ServersAfter  []string  `json:"servers_after"`
	Users         []string  `json:"users"`       // links on the failed server
	UsersKnown    bool      `json:"users_known"` // every link said its server
	FailedDead    bool      `json:"failed_dead"` // our own probe got no answer at all
	Baseline      []string  `json:"baseline"`    // every named link there was
	BaselineKnown bool      `json:"baseline_known"`
	Agents        int       `json:"agents"`
	SurveyedAt    time.Time `json:"surveyed_at"`
}

// turnRecover is one recovery of a TURN server.
type turnRecover struct {
	mesh        *Mesh
	params      TurnRecoverParams
	replacement wire.ServerURI
	edit        func(key, list string) string // of the env file
	rec         *Recovery
	facts       turnFacts
	reconnected bool
}

// NewTurnRecover checks the parameters and makes the recovery.
func NewTurnRecover(m *Mesh, p TurnRecoverParams) (*Recovery, error) {
	replacement, err := wire.ParseServerURI(p.Replacement)
	if err != nil {
		return nil, &ParamError{"replacement", err.Error()}
	}
	if !replacement.IsTURN() {
		return nil, &ParamError{"replacement", fmt.Sprintf("%s is not a turn: or turns: URI", p.Replacement)}
	}
	failed, err := parseServer(p.Failed)
	if err != nil {
		return nil, err
	}
	if replacement.Matches(failed) {
		return nil, &ParamError{"replacement", fmt.Sprintf("%s is on the failed server %s itself", p.Replacement, failed)}
	}
	p.Failed = failed
	params, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	t := &turnRecover{mesh: m, params: p, replacement: replacement}
	t.edit = t.replaceFailed
	t.rec = &Recovery{
		Run: NewRunID(), Runbook: TurnRecoverName, Scenario: "A", Params: params, Objective: ManualObjectiveA,
		Survey: t.survey, Restore: t.restore, Steps: t.steps(), Completed: t.completed,
	}
	return t.rec, nil
}

// replaceFailed edits a list of the env file.
func (t *turnRecover) replaceFailed(_, list string) string {
	return replaceServer(list, t.params.Failed, t.replacement)
}

// The recovery objectives of scenario A.
const (
	AutomaticObjectiveA = 30 * time.Second
	ManualObjectiveA    = 5 * time.Minute
)

func buildTurnRecover(m *Mesh, params json.RawMessage) (*Recovery, error) {
	var p TurnRecoverParams
	if err := json.Unmarshal(params, &p); err != nil {
		return nil, fmt.Errorf("read parameters of %s: %w", TurnRecoverName, err)
	}
	return NewTurnRecover(m, p)
}

// parseServer accepts HOST, HOST:PORT or a whole URI and gives HOST or HOST:PORT.
func parseServer(text string) (string, error) {
	uri, err := wire.ParseServerURI(text)
	if err != nil {
		uri, err = wire.ParseServerURI("turn:" + text)
	}
	if err != nil || text == "" {
		return "", &ParamError{"failed", fmt.Sprintf("%q is not HOST or HOST:PORT", text)}
	}
	return uri.Name(), nil
}

func (t *turnRecover) restore(facts json.RawMessage) error {
	if err := json.Unmarshal(facts, &t.facts); err != nil {
		return fmt.Errorf("read facts of %s: %w", TurnRecoverName, err)
	}
	return nil
}

func (t *turnRecover) completed(operator string) witnessclient.Event {
	return witnessclient.Event{Name: "turn_server_failover_complete", Metadata: map[string]any{
		"failed_server": t.params.Failed, "replacement_server": t.params.Replacement, "operator": operator,
	}}
}

func (t *turnRecover) steps() []Step {
	deadline := t.mesh.Timings.StepDeadline
	monitor := t.params.Monitor
	every := min(10*time.Second, max(monitor/10, 100*time.Millisecond))
	return []Step{
		{
			ID: "edit-env", Title: "replace the server in " + t.mesh.EnvFile, Effect: Idempotent, Timeout: deadline,
			Observe: t.observeEnv, Apply: t.applyEnv, Undo: t.undoEnv,
		},
		{
			ID: "reload-config", Title: "give the controller the whole new list", Effect: Idempotent, Timeout: deadline,
			Observe: t.observeReload, Apply: t.applyReload, Undo: t.undoReload,
		},
		{
			ID: "reconnect-turn-peers", Title: "reconnect peers that still use the failed server", Effect: Idempotent, Timeout: deadline,
			Observe: t.observeReconnect, Apply: t.applyReconnect,
			NothingToUndo: "links that have reconnected stay connected as they are",
		},
		{
			ID: "verify-use", Title: "prove that nobody is on the failed server", Effect: ReadOnly, Timeout: deadline,
			Observe: t.observeUse,
		},
		{
			ID: "relay-message", Title: "send our own message through the replacement", Effect: ReadOnly, Timeout: deadline,
			Observe: t.relayMessage,
		},
		{
			ID: "monitor", Title: fmt.Sprintf("watch connections for %s", monitor), Effect: ReadOnly, After: true,
			Timeout: 3*monitor + deadline,
			Watch:   &Watch{Every: every, For: monitor, NeedInARow: 3, MaxUnknown: 2, Sample: t.sample},
		},
	}
}
