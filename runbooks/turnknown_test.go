package runbooks

import (
	"strings"
	"testing"

	"github.com/infrafabric/meshctl/mesh/lab"
)

// A name that this mesh has never had is a typing error, and not a server that
// is out of use already.
func TestServersThatTheMeshHasNeverHad(t *testing.T) {
	t.Parallel()
	e, l := witnessMesh(t, lab.Options{})
	env := readFile(t, l.EnvFile)
	first, second, spare := l.TURN[0].URI, l.TURN[1].URI, l.TURN[2].URI
	mistyped := strings.Replace(second.Address(), "127.0.0.1", "127.0.0.2", 1)
	drain := func(server string) *Recovery { return move(t, e.Mesh, NewTurnDrain, TurnMoveParams{Server: server}) }
	restore := func(p TurnMoveParams) *Recovery { return move(t, e.Mesh, NewTurnRestore, p) }
	recovery, err := NewTurnRecover(e.Mesh, TurnRecoverParams{Failed: mistyped, Replacement: second.String()})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, hint string
		rec        *Recovery
	}{
		{"drain", "did you mean " + second.Address() + "?", drain(mistyped)},
		{"drain of another name", "`meshctl turn list`", drain("relay.example.com")},
		{"recover onto a server that is in use", "did you mean " + second.Address() + "?", recovery},
		{"restore", "--new", restore(TurnMoveParams{Server: spare.String()})},
	} {
		t.Run(test.name, func(t *testing.T) {
			result := mustRun(t, e, Request{Recovery: test.rec})
			expect(t, result, Refused)
			if !strings.Contains(result.Reason, "no server of this mesh") || !strings.Contains(result.Reason, first.Address()) || !strings.Contains(result.Reason, second.Address()) {
				t.Errorf("reason %q, want the servers that there are", result.Reason)
			}
			if !strings.Contains(result.Hint, test.hint) {
				t.Errorf("hint %q, want %q", result.Hint, test.hint)
			}
			unchanged(t, l, env, 0)
		})
	}
	expect(t, mustRun(t, e, Request{Recovery: restore(TurnMoveParams{Server: spare.String(), New: true}), DryRun: true}), Planned)
}

// What an earlier run took out is known, here and on another machine, also
// when no list has it any more.
func TestServersThatTheMeshHasHad(t *testing.T) {
	t.Parallel()
	e, l := witnessMesh(t, lab.Options{})
	writeFile(t, l.EnvFile, "TURN_SERVERS="+l.TURN[0].URI.String()+","+l.TURN[1].URI.String()+"\n")
	e.Mesh.Timings.StepDeadline = patience
	drain := func() *Recovery {
		return move(t, e.Mesh, NewTurnDrain, TurnMoveParams{Server: l.TURN[0].URI.Address()})
	}
	if result := mustRun(t, e, Request{Recovery: drain()}); len(writes(l)) == 0 {
		t.Fatalf("nothing was drained: %s", result.Reason)
	}
	other := engineOf(t, e.Mesh) // with another state directory
	for name, engine := range map[string]*Engine{"here": e, "elsewhere": other} {
		expect(t, mustRun(t, engine, Request{Recovery: drain(), DryRun: true}), NothingToDo)
		restore := move(t, e.Mesh, NewTurnRestore, TurnMoveParams{Server: l.TURN[0].URI.String()})
		if result := mustRun(t, engine, Request{Recovery: restore, DryRun: true}); result.Outcome != Planned {
			t.Errorf("%s: restore is %s: %s", name, result.Outcome, result.Reason)
		}
	}
}

func TestNearestName(t *testing.T) {
	names := []string{"turn1.example.com:3478", "turn2.example.com:3478", "10.0.0.7:3478"}
	for name, want := range map[string]string{
		"turn1":                  names[0],
		"turn2.example.org":      names[1],
		"TURN2.eaxmple.com:3478": names[1],
		"10.0.0.7:5349":          names[2],
		"10.0.0.17":              names[2],
		"relay.other.net":        "",
		"t":                      "",
		"":                       "",
	} {
		if got := nearest(name, names); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func move(t *testing.T, m *Mesh, build func(*Mesh, TurnMoveParams) (*Recovery, error), p TurnMoveParams) *Recovery {
	t.Helper()
	if p.Monitor == 0 {
		p.Monitor = m.Timings.Monitor
	}
	rec, err := build(m, p)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}
