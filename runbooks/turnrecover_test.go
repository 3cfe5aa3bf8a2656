package runbooks

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// turnRecovery is the recovery of turn-1 by another server of a lab.
func turnRecovery(t *testing.T, m *Mesh, l *lab.Lab, replacement string) *Recovery {
	t.Helper()
	return forced(t, m, l, replacement, false)
}

func forced(t *testing.T, m *Mesh, l *lab.Lab, replacement string, force bool) *Recovery {
	t.Helper()
	rec, err := NewTurnRecover(m, TurnRecoverParams{
		Failed: l.TURN[0].URI.Address(), Replacement: uriOf(l, replacement), Force: force, Monitor: m.Timings.Monitor,
	})
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// replaced is the lab's env file with turn-3 in the place of turn-1 in both
// lists, and nothing else changed.
func replaced(l *lab.Lab, before string) string {
	var lines []string
	for _, line := range strings.SplitAfter(before, "\n") {
		if strings.HasPrefix(line, keyTURN+"=") || strings.HasPrefix(line, keySTUN+"=") {
			line = strings.ReplaceAll(line, l.TURN[0].URI.Address(), l.TURN[2].URI.Address())
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

func configured(t *testing.T, m *Mesh) []string {
	t.Helper()
	c, err := m.Controller.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.TURNServers
}

// linksOn counts the links of the lab that are connected through a server.
func linksConnected(l *lab.Lab, through wire.ServerURI) (on, all int) {
	for _, link := range l.Links() {
		if relay, _ := link.Relay(); link.State == wire.StateConnected && relay == through.String() {
			on++
		}
		all++
	}
	return on, all
}

// unchanged checks that a recovery touched nothing.
func unchanged(t *testing.T, l *lab.Lab, env string, writesBefore int) {
	t.Helper()
	if now := readFile(t, l.EnvFile); now != env {
		t.Errorf("the env file was changed:\n%s", cmp.Diff(env, now))
	}
	if w := writes(l); len(w) != writesBefore {
		t.Errorf("writes to the controller: %+v", w[writesBefore:])
	}
}

// The whole of scenario A: a server dies, is replaced, and that is proved.
func TestRecoverDeadServer(t *testing.T) {
	t.Parallel()
	l, m, e := labWith(t, "turn-killed", lab.Options{Agents: 3})
	env := readFile(t, l.EnvFile)

	planned := mustRun(t, e, Request{Recovery: turnRecovery(t, m, l, "turn-3"), DryRun: true})
	expect(t, planned, Planned)
	if !planned.Plan.Changes() || !strings.Contains(planned.Plan.Steps[0].Diff, "+ TURN_SERVERS="+l.TURN[2].URI.String()) {
		t.Errorf("plan %+v", planned.Plan)
	}
	if planned.Plan.Blast != "0 of 3 agents relay through "+l.TURN[0].URI.Address()+"; these reconnect" {
		t.Errorf("blast radius %q", planned.Plan.Blast)
	}
	unchanged(t, l, env, 0)
	if _, err := os.Stat(e.StateDir); err == nil {
		t.Error("the dry run made a state directory")
	}

	result := mustRun(t, e, Request{Recovery: turnRecovery(t, m, l, "turn-3"), FailoverID: "fo-7", Reason: "it is dead"})
	expect(t, result, Done)
	if diff := cmp.Diff(replaced(l, env), readFile(t, l.EnvFile)); diff != "" {
		t.Error(diff)
	}
	want := []string{l.TURN[2].URI.String(), l.TURN[1].URI.String()}
	if diff := cmp.Diff(want, configured(t, m)); diff != "" {
		t.Error(diff)
	}
	calls := writes(l)
	if len(calls) != 1 || calls[0].Path != "/admin/reload-config" || calls[0].Key != result.Run+"/reload-config" {
		t.Errorf("healthy links were cut, or the reload has no key: %+v", calls)
	}
	done := atWitness(t, m, "fo-7", completion)
	if len(done) != 1 || done[0].Metadata["replacement_server"] != l.TURN[2].URI.String() || done[0].Metadata["failed_server"] != l.TURN[0].URI.Address() || done[0].Metadata["operator"] != "ann@bastion" {
		t.Errorf("completion events %+v", done)
	}
	if result.Audit.Delivered != result.Audit.Events || result.Objective != ManualObjectiveA {
		t.Errorf("audit %+v, objective %s", result.Audit, result.Objective)
	}

	after := readFile(t, l.EnvFile)
	again := mustRun(t, e, Request{Recovery: turnRecovery(t, m, l, "turn-3")})
	expect(t, again, NothingToDo)
	unchanged(t, l, after, 1)

	validation, err := e.Validate(t.Context(), ValidateRequest{Scenario: "A", Phase: PhaseAll, FailoverID: "fo-7"})
	if err != nil {
		t.Fatal(err)
	}
	if validation.Verdict != "pass" {
		t.Errorf("validation %+v", validation)
	}
	if events := atWitness(t, m, "fo-7", "failover_recovery_validated"); len(events) != 1 || events[0].Metrics["registered_agents"] != 3.0 || events[0].Metrics["connection_success_rate"] != 100.0 {
		t.Errorf("validation events %+v", events)
	}
}

// A server that refuses new users keeps the old ones: they have to be moved,
// and it is proved that every one was.
func TestRecoverServerWithUsers(t *testing.T) {
	t.Parallel()
	l, m, e := labWith(t, "turn-refuses-allocate", lab.Options{Agents: 3})
	if on, all := linksConnected(l, l.TURN[0].URI); on != 6 || all != 6 {
		t.Fatalf("%d of %d links on turn-1", on, all)
	}
	result := mustRun(t, e, Request{Recovery: turnRecovery(t, m, l, "turn-3")})
	expect(t, result, Done)
	if result.Plan.Blast != "3 of 3 agents relay through "+l.TURN[0].URI.Address()+"; these reconnect" {
		t.Errorf("blast radius %q", result.Plan.Blast)
	}
	if !slices.Equal(result.Changed(), []string{"edit-env", "reload-config", "reconnect-turn-peers"}) {
		t.Errorf("changed %v", result.Changed())
	}
	if on, all := linksConnected(l, l.TURN[2].URI); on == 0 || all != 6 {
		t.Errorf("%d of %d links on the replacement", on, all)
	}
	if on, _ := linksConnected(l, l.TURN[0].URI); on != 0 {
		t.Errorf("%d links are still on turn-1", on)
	}
	for _, s := range result.Steps {
		if s.ID == "verify-use" && !strings.HasPrefix(s.Summary, "6 of the 6 links that were on") {
			t.Errorf("verify-use: %s", s.Summary)
		}
	}
}

// A healthy server is not replaced, unless by force.
func TestRecoverHealthyServer(t *testing.T) {
	t.Parallel()
	l, m, e := labWith(t, "", lab.Options{Agents: 2})
	env := readFile(t, l.EnvFile)
	result := mustRun(t, e, Request{Recovery: turnRecovery(t, m, l, "turn-3")})
	expect(t, result, Refused)
	if !strings.Contains(result.Reason, "is healthy: it relayed an echo in") || !strings.Contains(result.Hint, "--force") {
		t.Errorf("reason %q, hint %q", result.Reason, result.Hint)
	}
	unchanged(t, l, env, 0)
	result = mustRun(t, e, Request{Recovery: forced(t, m, l, "turn-3", true)})
	expect(t, result, Done)
	if on, all := linksConnected(l, l.TURN[2].URI); on == 0 || all != 2 {
		t.Errorf("%d of %d links on the replacement", on, all)
	}
}

// With the witness down the mesh is recovered all the same, and the evidence
// is kept until it can be delivered.
func TestRecoverWithoutWitness(t *testing.T) {
	t.Parallel()
	l, m, e := labWith(t, "turn-killed", lab.Options{Agents: 2})
	inject(t, l, "witness-down", "")
	result := mustRun(t, e, Request{Recovery: turnRecovery(t, m, l, "turn-3")})
	expect(t, result, Done)
	if a := result.Audit; a.Delivered != 0 || a.Events == 0 || a.Problem == "" {
		t.Errorf("audit %+v", a)
	}
	heal(t, l, "witness-down", "")
	if flushed, err := e.Flush(t.Context()); err != nil || flushed.Sent != result.Audit.Events {
		t.Errorf("flushed %+v, %v", flushed, err)
	}
	exactlyOnce(t, l, e, result.Run)
}

// interruptAt ends a run's context when it comes to a step.
func interruptAt(t *testing.T, e *Engine, req Request, step string) Result {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	e.Notify = func(n Note) {
		if n.Step == step {
			interrupt()
		}
	}
	defer func() { e.Notify = nil }()
	result, err := e.Run(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, result, Interrupted)
	return result
}

// Another process can go on with an interrupted recovery: it knows from the
// journal what is wanted and what was, and does nothing twice.
func TestResumeTurnRecovery(t *testing.T) {
	t.Parallel()
	l, m, first := labWith(t, "turn-refuses-allocate", lab.Options{Agents: 2})
	env := readFile(t, l.EnvFile)
	result := interruptAt(t, first, Request{Recovery: turnRecovery(t, m, l, "turn-3"), FailoverID: "fo-9"}, "reconnect-turn-peers")
	if w := writes(l); len(w) != 1 || readFile(t, l.EnvFile) != replaced(l, env) {
		t.Fatalf("before the interrupt: writes %+v", w)
	}
	second := &Engine{StateDir: first.StateDir, Mesh: meshOf(t, l), Stamp: first.Stamp}
	resumed := mustResume(t, second, result.Run)
	expect(t, resumed, Done)
	var paths []string
	for _, w := range writes(l) {
		paths = append(paths, w.Path)
	}
	if diff := cmp.Diff([]string{"/admin/reload-config", "/admin/reconnect-turn-peers"}, paths); diff != "" {
		t.Error(diff)
	}
	if on, _ := linksConnected(l, l.TURN[0].URI); on != 0 || resumed.FailoverID != "fo-9" {
		t.Errorf("%d links are still on turn-1, failover %s", on, resumed.FailoverID)
	}
	for _, s := range resumed.Steps { // by what the plan saw, not by what is now
		if s.ID == "verify-use" && !strings.HasPrefix(s.Summary, "2 of the 2 links that were on") {
			t.Errorf("verify-use: %s", s.Summary)
		}
	}
}

// An aborted recovery leaves file and controller as they were, to the byte.
func TestAbortTurnRecovery(t *testing.T) {
	t.Parallel()
	l, m, e := labWith(t, "turn-refuses-allocate", lab.Options{Agents: 2})
	env, servers := readFile(t, l.EnvFile), configured(t, m)
	result := interruptAt(t, e, Request{Recovery: turnRecovery(t, m, l, "turn-3")}, "reconnect-turn-peers")
	aborted, err := e.Abort(t.Context(), result.Run, true)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, aborted, Undone)
	if diff := cmp.Diff(env, readFile(t, l.EnvFile)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(servers, configured(t, m)); diff != "" {
		t.Error(diff)
	}
	if w := writes(l); len(w) != 2 || w[1].Key != result.Run+"/reload-config/undo" {
		t.Errorf("writes %+v", w)
	}
}

// Somebody edits the file after the run did: their edit is not undone away.
func TestUndoLeavesForeignEdit(t *testing.T) {
	t.Parallel()
	l, m, e := labWith(t, "turn-refuses-allocate", lab.Options{Agents: 2})
	result := interruptAt(t, e, Request{Recovery: turnRecovery(t, m, l, "turn-3")}, "reload-config")
	theirs := readFile(t, l.EnvFile) + "ALERT_EMAIL=oncall@example.com\n"
	writeFile(t, l.EnvFile, theirs)
	aborted, err := e.Abort(t.Context(), result.Run, true)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, aborted, Failed)
	if now := readFile(t, l.EnvFile); now != theirs || len(aborted.Undo) != 1 || !strings.Contains(aborted.Undo[0].Summary, "changed since the plan was made") {
		t.Errorf("undo %+v, file\n%s", aborted.Undo, now)
	}
}

func TestFactsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "http://127.0.0.1:1", secretKey, "http://127.0.0.1:1", secretKey)
	if _, err := buildTurnRecover(m, json.RawMessage(`{"failed":1}`)); err == nil {
		t.Error("built from parameters of a wrong type")
	}
	rec, err := buildTurnRecover(m, json.RawMessage(`{"failed":"t1","replacement":"turn:t2","monitor":1000}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := rec.Restore(json.RawMessage(`{"users":"all"}`)); err == nil {
		t.Error("restored facts of a wrong type")
	}
}
