package runbooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/witnessclient"
)

// lamp is a thing that made-up steps switch on.
type lamp struct {
	mu              sync.Mutex
	on              bool
	applied, undone int
	keys            []string
	match           string
	blinded         error     // what observing gives
	order           *[]string // of what was applied and undone, by several lamps
}

func (l *lamp) lit() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.on
}

func (l *lamp) observe(ctx context.Context) (Observation, error) {
	if err := ctx.Err(); err != nil {
		return Observation{}, err // as a call over the network would
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.blinded != nil {
		return Observation{}, l.blinded
	}
	return Observation{
		Met: l.on, Summary: fmt.Sprintf("on: %v", l.on), Diff: "- off\n+ on", Match: l.match, Before: json.RawMessage(`{"was":"off"}`),
	}, nil
}

func (l *lamp) apply(_ context.Context, key string, _ Observation) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.on, l.applied, l.keys = true, l.applied+1, append(l.keys, key)
	l.tell("apply " + key[strings.LastIndexByte(key, '/')+1:])
	return nil
}

func (l *lamp) undo(_ context.Context, key string, before json.RawMessage) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if string(before) != `{"was":"off"}` {
		return fmt.Errorf("before is %s", before)
	}
	l.on, l.undone, l.keys = false, l.undone+1, append(l.keys, key)
	l.tell("undo " + strings.Split(key, "/")[1])
	return nil
}

func (l *lamp) tell(what string) {
	if l.order != nil {
		*l.order = append(*l.order, what)
	}
}

func (l *lamp) step(id string) Step {
	return Step{ID: id, Title: "switch on " + id, Effect: Idempotent, Timeout: 500 * time.Millisecond, Observe: l.observe, Apply: l.apply, Undo: l.undo}
}

// readOnly is a check that answers the same for ever.
func readOnly(id string, o Observation, err error) Step {
	return Step{
		ID: id, Title: "check " + id, Effect: ReadOnly, Timeout: 300 * time.Millisecond,
		Observe: func(context.Context) (Observation, error) { return o, err },
	}
}

const completion = "turn_server_failover_complete"

// fakeRecovery is a recovery of made-up steps.
func fakeRecovery(steps ...Step) *Recovery {
	return &Recovery{
		Run: NewRunID(), Runbook: "fake", Scenario: "A", Params: json.RawMessage(`{}`), Objective: time.Minute, Steps: steps,
		Survey: func(context.Context, []RunSummary) (Situation, error) {
			return Situation{Facts: json.RawMessage(`{"seen":1}`)}, nil
		},
		Restore: func(json.RawMessage) error { return nil },
		Completed: func(operator string) witnessclient.Event {
			return witnessclient.Event{Name: completion, Metadata: map[string]any{"operator": operator}}
		},
	}
}

var errBroken = errors.New("it broke")
