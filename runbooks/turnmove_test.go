package runbooks

import (
	"errors"
	"strings"
	"testing"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/lab"
)

// TestDrainAndRestore: users move off a server that works and back, no message
// is lost, and the audit log has both runs.
func TestDrainAndRestore(t *testing.T) {
	for _, test := range []struct {
		name, backend string
		standby       bool
	}{{"pion", "pion", false}, {"coturn", "coturn", false}, {"coturn with second paths", "coturn", true}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.backend == "coturn" {
				need(t, "turnserver")
			}
			drainAndRestore(t, lab.Options{Agents: 3, TURN: test.backend, Agent: func(o *mesh.AgentOptions) { o.Standby = test.standby }})
		})
	}
}

func drainAndRestore(t *testing.T, o lab.Options) {
	l, m, e := labWith(t, "", o)
	first, second := l.TURN[0].URI, l.TURN[1].URI
	env := readFile(t, l.EnvFile)

	drain := func() *Recovery { return move(t, m, NewTurnDrain, TurnMoveParams{Server: first.Address()}) }
	result := mustRun(t, e, Request{Recovery: drain()})
	expect(t, result, Done)
	if on, all := linksConnected(l, second); on != all {
		t.Errorf("%d of %d links are on %s", on, all, second)
	}
	if got := configured(t, m); len(got) != 1 || got[0] != second.String() {
		t.Errorf("the controller gives agents %v, want only %s", got, second)
	}
	now := readFile(t, l.EnvFile)
	if line := envLine(now, keyTURN); strings.Contains(line, first.Address()) || !strings.Contains(line, second.Address()) {
		t.Errorf("the env file says %s", line)
	}
	if envLine(now, keySTUN) != envLine(env, keySTUN) {
		t.Error("the STUN servers were changed")
	}
	if _, events := journal(t, e, result.Run); len(events) == 0 {
		t.Error("no audit events")
	}
	expect(t, mustRun(t, e, Request{Recovery: drain()}), NothingToDo)

	restored := mustRun(t, e, Request{Recovery: move(t, m, NewTurnRestore, TurnMoveParams{Server: first.String()})})
	expect(t, restored, Done)
	if on, all := linksConnected(l, first); on != all {
		t.Errorf("%d of %d links are on %s again", on, all, first)
	}
	for _, run := range []string{result.Run, restored.Run} {
		if len(atWitness(t, m, run, "run_finished")) != 1 {
			t.Errorf("the witness has no run_finished of %s", run)
		}
	}
	eventually(t, "everything that was sent arrives", func() bool {
		c := l.Delivery()
		return c.Lost == 0 && c.Corrupt == 0 && c.Duplicated == 0 && c.Reordered == 0 && c.Received > 0
	})
}

func envLine(env, key string) string {
	for line := range strings.Lines(env) {
		if strings.HasPrefix(line, key+"=") {
			return line
		}
	}
	return ""
}

func TestDrainAndRestoreRefuse(t *testing.T) {
	t.Parallel()
	l := startLab(t, lab.Options{NoAgents: true})
	m := meshOf(t, l)
	e := engineOf(t, m)
	env := readFile(t, l.EnvFile)
	for _, test := range []struct {
		name, says string
		fault      string
		build      func() (*Recovery, error)
	}{
		{"the others are dead", "not proved to relay", "turn-2", func() (*Recovery, error) {
			return NewTurnDrain(m, TurnMoveParams{Server: l.TURN[0].URI.Address()})
		}},
		{"the restored one is dead", "not proved to relay", "turn-3", func() (*Recovery, error) {
			return NewTurnRestore(m, TurnMoveParams{Server: l.TURN[2].URI.String(), New: true})
		}},
		{"nothing would be left", "is the only TURN server", "", func() (*Recovery, error) {
			return NewTurnDrain(m, TurnMoveParams{Server: "127.0.0.1"})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.fault != "" {
				inject(t, l, "turn-killed", test.fault)
				defer heal(t, l, "turn-killed", test.fault)
			}
			rec, err := test.build()
			if err != nil {
				t.Fatal(err)
			}
			result := mustRun(t, e, Request{Recovery: rec})
			expect(t, result, Refused)
			if len(result.Plan.Problems) == 0 || !strings.Contains(result.Plan.Problems[0].Summary, test.says) {
				t.Errorf("problems %+v, want one that says %q", result.Plan.Problems, test.says)
			}
			unchanged(t, l, env, 0)
		})
	}
	for _, build := range []func(*Mesh, TurnMoveParams) (*Recovery, error){NewTurnDrain, NewTurnRestore} {
		if _, err := build(m, TurnMoveParams{Server: "http://x y"}); !errors.As(err, new(*ParamError)) {
			t.Errorf("a server that is none: %v, want a ParamError", err)
		}
	}
}

func TestEditsOfServerLists(t *testing.T) {
	for _, test := range []struct{ name, got, want string }{
		{"remove", removeServer("turn:a:1, turn:b:1?transport=tcp,turns:b", "b:1"), "turn:a:1,turns:b"},
		{"remove by host", removeServer("turn:a:1, turn:b:1,turns:b", "b"), "turn:a:1"},
		{"remove what is not there", removeServer("turn:a:1 , x y", "c"), "turn:a:1 , x y"},
		{"prepend", prependServer("turn:a:1, turn:b:1", uri(t, "turn:c:1")), "turn:c:1,turn:a:1, turn:b:1"},
		{"prepend what is there", prependServer("turn:a:1,turn:c:1?transport=udp", uri(t, "turn:c:1")), "turn:c:1,turn:a:1"},
		{"prepend to nothing", prependServer("", uri(t, "turn:c:1")), "turn:c:1"},
	} {
		if test.got != test.want {
			t.Errorf("%s: %q, want %q", test.name, test.got, test.want)
		}
	}
}
