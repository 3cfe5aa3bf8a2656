package runbooks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/infrafabric/meshctl/mesh/lab"
)

// Preconditions that do not hold refuse the run, and nothing is touched.
func TestRecoverIsRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, l *lab.Lab)
		params  func(l *lab.Lab, p *TurnRecoverParams)
		reason  string
	}{
		{name: "replacement refuses allocations", prepare: fault("turn-refuses-allocate", "turn-3"), reason: "is not proved to relay"},
		{name: "replacement is closed", prepare: fault("turn-killed", "turn-3"), reason: "(turn.closed)"},
		{name: "replacement is silent", prepare: fault("turn-silent", "turn-3"), reason: "is not proved to relay"},
		{name: "failed server is not listed", params: func(_ *lab.Lab, p *TurnRecoverParams) { p.Failed = "127.0.0.1:9" }, reason: "127.0.0.1:9 is no server of this mesh, which has or had "},
		{name: "failed server is a longer name", params: func(_ *lab.Lab, p *TurnRecoverParams) {
			p.Failed = strings.TrimSuffix(p.Failed, p.Failed[len(p.Failed)-1:])
		}, reason: "is no server of this mesh"},
		{name: "failed server is healthy", params: func(l *lab.Lab, p *TurnRecoverParams) { p.Failed = l.TURN[1].URI.Address() }, reason: "is healthy"},
		{name: "controller answers with a page", prepare: fault("controller-html", ""), reason: "a page of HTML"},
		{name: "controller answers half", prepare: fault("controller-truncated", ""), reason: "unusable reply"},
		{name: "controller answers wrong types", prepare: fault("controller-wrong-types", ""), reason: "unusable reply"},
		{name: "controller is down", prepare: fault("controller-down", ""), reason: "connection refused"},
		{name: "env file is gone", prepare: func(t *testing.T, l *lab.Lab) {
			if err := os.Remove(l.EnvFile); err != nil {
				t.Fatal(err)
			}
		}, reason: "no such file or directory"},
		{name: "env file without the key", prepare: rewrite("TURN_SERVERS=", "TURN_SERVERS_OLD="), reason: "no TURN_SERVERS"},
		{name: "env file with a server that is none", prepare: rewrite("TURN_SERVERS=\"", "TURN_SERVERS=\"http://x,"), reason: "TURN_SERVERS: entry 1"},
		{name: "env file that a shell expands", prepare: rewrite("STUN_SERVERS=\"", "STUN_SERVERS=\"$MORE,"), reason: "STUN_SERVERS"},
		{name: "env file with a quote inside", prepare: rewrite("\"   # first", "\",\"turn:x\"   # first"), reason: "TURN_SERVERS"},
		{name: "env file with an appended list", prepare: rewrite("TURN_USERNAME=", "TURN_SERVERS+=,turn:x\nTURN_USERNAME="), reason: "TURN_SERVERS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, l := witnessMesh(t, lab.Options{})
			inject(t, l, "turn-killed", "turn-1")
			if tt.prepare != nil {
				tt.prepare(t, l)
			}
			p := TurnRecoverParams{Failed: l.TURN[0].URI.Address(), Replacement: l.TURN[2].URI.String()}
			if tt.params != nil {
				tt.params(l, &p)
			}
			rec, err := NewTurnRecover(e.Mesh, p)
			if err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(l.EnvFile)
			result := mustRun(t, e, Request{Recovery: rec})
			expect(t, result, Refused)
			if !strings.Contains(result.Reason, tt.reason) || result.Hint == "" || result.Run != "" {
				t.Errorf("reason %q, hint %q, want %q", result.Reason, result.Hint, tt.reason)
			}
			if after, _ := os.ReadFile(l.EnvFile); string(after) != string(before) || len(writes(l)) != 0 || l.WitnessCount().Requests != 0 {
				t.Errorf("something was changed: %v, %+v", writes(l), l.WitnessCount())
			}
			if runs, err := Runs(e.StateDir); err != nil || len(runs) != 0 {
				t.Errorf("runs %v, %v", runs, err)
			}
		})
	}
}

func fault(name, target string) func(*testing.T, *lab.Lab) {
	return func(t *testing.T, l *lab.Lab) { inject(t, l, name, target) }
}

// rewrite changes the first occurrence in the env file.
func rewrite(from, to string) func(*testing.T, *lab.Lab) {
	return func(t *testing.T, l *lab.Lab) {
		before := readFile(t, l.EnvFile)
		if !strings.Contains(before, from) {
			t.Fatalf("no %q in the env file", from)
		}
		writeFile(t, l.EnvFile, strings.Replace(before, from, to, 1))
	}
}

// A directory that an env file links out of is what has to be writable.
func TestRecoverFollowsTheLink(t *testing.T) {
	t.Parallel()
	e, l := witnessMesh(t, lab.Options{})
	inject(t, l, "turn-killed", "turn-1")
	link := filepath.Join(t.TempDir(), "link.env")
	if err := os.Symlink(filepath.Join(t.TempDir(), "nowhere"), link); err != nil {
		t.Fatal(err)
	}
	e.Mesh.EnvFile = link
	result := mustRun(t, e, Request{Recovery: turnRecovery(t, e.Mesh, l, "turn-3")})
	expect(t, result, Refused)
}

// Whoever edits the file between plan and run keeps the edit.
func TestEnvFileChangesAfterThePlan(t *testing.T) {
	t.Parallel()
	e, l := witnessMesh(t, lab.Options{})
	inject(t, l, "turn-killed", "turn-1")
	theirs := readFile(t, l.EnvFile) + "# noted by bob\n"
	result := mustRun(t, e, Request{
		Recovery: turnRecovery(t, e.Mesh, l, "turn-3"),
		Confirm:  func(Plan) (bool, error) { writeFile(t, l.EnvFile, theirs); return true, nil },
	})
	expect(t, result, Refused)
	if result.FailedStep != "edit-env" || !strings.Contains(result.Reason, "changed since the plan was made") {
		t.Errorf("step %s, reason %q", result.FailedStep, result.Reason)
	}
	unchanged(t, l, theirs, 0)
}

// The controller's list changes between plan and run: the file is edited by
// then, so the run has failed, and says what stands.
func TestControllerChangesAfterThePlan(t *testing.T) {
	t.Parallel()
	e, l := witnessMesh(t, lab.Options{})
	inject(t, l, "turn-killed", "turn-1")
	env := readFile(t, l.EnvFile)
	result := mustRun(t, e, Request{
		Recovery: turnRecovery(t, e.Mesh, l, "turn-3"), UndoOnFailure: true,
		Confirm: func(Plan) (bool, error) {
			return true, e.Mesh.Controller.ReloadConfig(t.Context(), "bob/1", []string{uriOf(l, "turn-2")})
		},
	})
	expect(t, result, Undone)
	if result.FailedStep != "reload-config" {
		t.Errorf("failed at %s: %s", result.FailedStep, result.Reason)
	}
	unchanged(t, l, env, 1) // theirs
	if now := configured(t, e.Mesh); len(now) != 1 || now[0] != uriOf(l, "turn-2") {
		t.Errorf("their list is gone: %v", now)
	}
}

// Entries over TCP are probed over TCP: one that is seen not to relay refuses
// the recovery, also beside one that does, and the operator is told which.
func TestReplacementThatDoesNotRelayOverTCP(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		list func(failed string) string
		want Outcome
	}{
		{"alone", func(failed string) string { return "turn:" + failed + "?transport=tcp" }, Refused},
		{"beside one that relays", func(failed string) string { return "turn:" + failed + "?transport=tcp,turn:" + failed }, Refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, l := witnessMesh(t, lab.Options{})
			inject(t, l, "turn-killed", "turn-1")
			writeFile(t, l.EnvFile, "TURN_SERVERS="+tt.list(l.TURN[0].URI.Address())+"\n")
			result := mustRun(t, e, Request{Recovery: turnRecovery(t, e.Mesh, l, "turn-3"), DryRun: true})
			expect(t, result, tt.want)
			said := result.Reason + strings.Join(result.Plan.Notes, "\n")
			if !strings.Contains(said, "?transport=tcp") || !strings.Contains(said, "not proved to relay") {
				t.Errorf("reason %q, notes %v", result.Reason, result.Plan.Notes)
			}
		})
	}
}
