package runbooks

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks/targets"
)

const envBeforeEdit = "# t1 is old\nTURN_SERVERS=\"turn:t1:3478,turn:t2\" # t1 first\nSTUN_SERVERS='stun:t1'\nTURN_SERVERS=turn:t1\n"

// envRecovery replaces t1 by t3 in a file of its own.
func envRecovery(t *testing.T) *turnRecover {
	t.Helper()
	path := t.TempDir() + "/mesh.env"
	writeFile(t, path, envBeforeEdit)
	r := &turnRecover{mesh: &Mesh{EnvFile: path}, params: TurnRecoverParams{Failed: "t1", Replacement: "turn:t3"}, replacement: uri(t, "turn:t3")}
	r.edit = r.replaceFailed
	return r
}

// Edit and undo give the old file, and either notices a foreign edit between.
func TestEditAndUndoEnvFile(t *testing.T) {
	r := envRecovery(t)
	before, err := r.observeEnv(t.Context())
	if err != nil || before.Met || before.Diff == "" || before.Match == "" {
		t.Fatalf("observed %+v, %v", before, err)
	}
	if err := r.undoEnv(t.Context(), "", before.Before); err != nil { // the intent was written, and the edit not made
		t.Fatal(err)
	}
	if err := r.applyEnv(t.Context(), "", before); err != nil {
		t.Fatal(err)
	}
	want := "# t1 is old\nTURN_SERVERS=\"turn:t3:3478,turn:t2\" # t1 first\nSTUN_SERVERS='stun:t3'\nTURN_SERVERS=turn:t3\n"
	if got := readFile(t, r.mesh.EnvFile); got != want {
		t.Fatalf("got\n%s", got)
	}
	if after, err := r.observeEnv(t.Context()); err != nil || !after.Met {
		t.Errorf("after the edit: %+v, %v", after, err)
	}
	var changed *targets.ChangedError
	if err := r.applyEnv(t.Context(), "", before); !errors.As(err, &changed) {
		t.Errorf("applied twice: %v", err)
	}
	if err := r.undoEnv(t.Context(), "", before.Before); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, r.mesh.EnvFile); got != envBeforeEdit {
		t.Errorf("undone to\n%s", got)
	}
	writeFile(t, r.mesh.EnvFile, want+"X=1\n")
	if err := r.undoEnv(t.Context(), "", before.Before); !errors.As(err, &changed) {
		t.Errorf("undone over a foreign edit: %v", err)
	}
}

// A record that does not fit the file is never written.
func TestUndoEnvFileRefuses(t *testing.T) {
	r := envRecovery(t)
	before, err := r.observeEnv(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.applyEnv(t.Context(), "", before); err != nil {
		t.Fatal(err)
	}
	edited := readFile(t, r.mesh.EnvFile)
	var record envBefore
	if err := json.Unmarshal(before.Before, &record); err != nil {
		t.Fatal(err)
	}
	record.Values[keyTURN][0][0] = "turn:elsewhere"
	forged, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.undoEnv(t.Context(), "", forged); err == nil || !strings.Contains(err.Error(), "the old values do not give the old file") {
		t.Errorf("a forged record: %v", err)
	}
	if err := r.undoEnv(t.Context(), "", json.RawMessage(`"x"`)); err == nil {
		t.Error("an unreadable record was undone")
	}
	if got := readFile(t, r.mesh.EnvFile); got != edited {
		t.Errorf("the file was changed:\n%s", got)
	}
}

// The validation's question about users, without a plan of its own.
func TestTurnUnused(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	t1, t2 := uriOf(l, "turn-1"), uriOf(l, "turn-2")
	for _, tt := range []struct {
		name, stats string
		want        probes.Verdict
		summary     string
	}{
		{"nobody", stats(2, conn("a", "b", "connected", t2)), probes.Pass, "nobody was using"},
		{"somebody", stats(2, conn("a", "b", "connected", t1)), probes.Fail, "1 links are still on"},
		{"not shown", stats(2, conn("a", "b", "connected", "")), probes.Unknown, "does not show relays"},
		{"not readable", "<html>", probes.Unknown, "a page of HTML"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, _ := judging(t, l, map[string]string{"GET /stats": tt.stats})
			judged(t, v.turnUnused(t.Context()), tt.want, tt.summary)
		})
	}
}

// A fault that was left has no replacement, which is said and not passed over.
func TestTurnReplacementMissing(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	v, _ := judging(t, l, map[string]string{})
	v.subject = *NewSubject("fo", l.TURN[0].URI.Address(), []string{"a->b"}, v.subject.EndedAt)
	judged(t, v.turnReplacement(t.Context()), probes.Fail, "was not replaced")
}

// Test agents get what agents of the mesh get: the controller's list, else
// that of the file; with neither there is no test.
func TestServersOfTestAgents(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	for _, tt := range []struct{ name, config, file, want string }{
		{"controller's", config("turn:c"), "TURN_SERVERS=turn:f", "turn:c"},
		{"file's, where the controller shows none", `{"turnFallbackTimeout":1}`, "TURN_SERVERS=turn:f", "turn:f"},
		{"file's, where the controller cannot be read", "<html>", "TURN_SERVERS=turn:f", "turn:f"},
		{"neither", `{"turnFallbackTimeout":1}`, "TURN_SERVERS=http://x", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := scripted(t, l, map[string]string{"GET /config": tt.config})
			r.mesh.EnvFile = t.TempDir() + "/mesh.env"
			writeFile(t, r.mesh.EnvFile, tt.file+"\n")
			got, err := r.mesh.TURNServers(t.Context())
			if (err == nil) != (tt.want != "") || strings.Join(serverTexts(got), ",") != tt.want {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	r, _ := scripted(t, l, map[string]string{})
	r.mesh.EnvFile += ".gone"
	if got, err := r.mesh.TURNServers(t.Context()); err == nil {
		t.Errorf("got %v from nothing", got)
	}
}
