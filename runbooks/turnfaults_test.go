package runbooks

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/probes"
)

// at injects faults when a run comes to a step.
func at(t *testing.T, e *Engine, l *lab.Lab, step string, faults ...lab.Fault) {
	t.Helper()
	var once sync.Once
	e.Notify = func(n Note) {
		if n.Step == step {
			once.Do(func() {
				for _, f := range faults {
					inject(t, l, f.Name, f.Target)
				}
			})
		}
	}
}

// A controller that says yes and does nothing is found out, and what was done
// before is taken back to the byte.
func TestLyingController(t *testing.T) {
	t.Parallel()
	l, m, e := labWith(t, "turn-killed", lab.Options{Agents: 2})
	m.Timings.StepDeadline = time.Second
	inject(t, l, "controller-lies", "")
	env, servers := readFile(t, l.EnvFile), configured(t, m)

	result := mustRun(t, e, Request{Recovery: turnRecovery(t, m, l, "turn-3"), UndoOnFailure: true})
	expect(t, result, Undone)
	if result.FailedStep != "reload-config" || !strings.Contains(result.Reason, "not so after 1s: the controller gives agents "+l.TURN[0].URI.String()) {
		t.Errorf("failed at %s: %s", result.FailedStep, result.Reason)
	}
	if diff := cmp.Diff(env, readFile(t, l.EnvFile)); diff != "" {
		t.Error(diff)
	}

	result = mustRun(t, e, Request{Recovery: turnRecovery(t, m, l, "turn-3")})
	expect(t, result, Failed)
	if !slices.Equal(result.Changed(), []string{"edit-env", "reload-config"}) {
		t.Errorf("changed %v", result.Changed())
	}
	if diff := cmp.Diff(servers, configured(t, m)); diff != "" {
		t.Error(diff)
	}
	if events := atWitness(t, m, result.FailoverID, completion); len(events) != 0 {
		t.Errorf("completed: %+v", events)
	}
	heal(t, l, "controller-lies", "")
	expect(t, mustResume(t, e, result.Run), Done)
}

// A controller that stops telling the truth on the way never gives a green run.
func TestControllerBreaksOnTheWay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, step, fault string
		want              Outcome
	}{
		{"page before the reload", "reload-config", "controller-html", Failed},
		{"down before the reload", "reload-config", "controller-down", Failed},
		{"wrong types before the reload", "reload-config", "controller-wrong-types", Failed},
		{"page before the reconnect", "reconnect-turn-peers", "controller-html", Failed},
		{"page before the proof of use", "verify-use", "controller-html", Undetermined},
		{"truncated before the proof of use", "verify-use", "controller-truncated", Undetermined},
		{"down before the proof of use", "verify-use", "controller-down", Undetermined},
		{"wrong types while watched", "monitor", "controller-wrong-types", Undetermined},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, m, e := labWith(t, "turn-killed", lab.Options{Agents: 2})
			m.Timings.StepDeadline = 1500 * time.Millisecond
			at(t, e, l, tt.step, lab.Fault{Name: tt.fault})
			result := mustRun(t, e, Request{Recovery: turnRecovery(t, m, l, "turn-3")})
			expect(t, result, tt.want)
			if events := atWitness(t, m, result.FailoverID, completion); len(events) != 0 {
				t.Errorf("completed: %+v", events)
			}
		})
	}
}

// What breaks after the plan fails the step that it is for.
func TestMeshBreaksOnTheWay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, step string
		faults     []lab.Fault
	}{
		{"our own message does not get through", "relay-message", []lab.Fault{{Name: "turn-refuses-allocate", Target: "turn-3"}}},
		{"nothing connected is not nothing failed", "monitor", []lab.Fault{{Name: "agent-gone", Target: "agent-1"}, {Name: "agent-gone", Target: "agent-2"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, m, e := labWith(t, "turn-killed", lab.Options{Agents: 2})
			m.Timings.StepDeadline = time.Second
			at(t, e, l, tt.step, tt.faults...)
			result := mustRun(t, e, Request{Recovery: turnRecovery(t, m, l, "turn-3")})
			expect(t, result, Failed)
			if result.FailedStep != tt.step {
				t.Errorf("failed at %s: %s", result.FailedStep, result.Reason)
			}
		})
	}
}

// On a mesh that has only what the oldest servers offer, done needs a proof.
func TestRecoverOnSeedOnlyMesh(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, fault, replacement string
		witnessDown              bool
		want                     Outcome
	}{
		{"dead, and agents report the replacement", "turn-killed", "turn-3", false, Done},
		{"refusing, and agents report the replacement", "turn-refuses-allocate", "turn-3", false, Done},
		{"agents had the replacement before", "turn-killed", "turn-2", false, Undetermined},
		{"nobody can be asked", "turn-refuses-allocate", "turn-3", true, Undetermined},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, m, e := labWith(t, tt.fault, lab.Options{Agents: 2, SeedOnly: true})
			if tt.witnessDown {
				inject(t, l, "witness-down", "")
				m.Timings.StepDeadline = 5 * time.Second // it stays unknown
			}
			result := mustRun(t, e, Request{Recovery: turnRecovery(t, m, l, tt.replacement)})
			expect(t, result, tt.want)
			if w := writes(l); len(w) != 2 {
				t.Errorf("the reload or the reconnect was left out: %+v", w)
			}
			if tt.want == Undetermined && !slices.ContainsFunc(result.Steps, func(s StepResult) bool { return s.Verdict == probes.Unknown }) {
				t.Errorf("no step is unknown: %+v", result.Steps)
			}
			if tt.witnessDown {
				return
			}
			if done := len(atWitness(t, m, result.FailoverID, completion)) == 1; done != (tt.want == Done) {
				t.Errorf("completion event: %v", done)
			}
			// The second time only a server that is dead leaves no doubt.
			again := mustRun(t, e, Request{Recovery: turnRecovery(t, m, l, tt.replacement)})
			if green := again.Outcome == NothingToDo || again.Outcome == Done; green != (tt.want == Done && tt.fault == "turn-killed") {
				t.Errorf("again: %s, %s", again.Outcome, again.Reason)
			}
		})
	}
}
