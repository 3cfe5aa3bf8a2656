package runbooks

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/witnessclient"
)

func config(servers ...string) string {
	data, _ := json.Marshal(map[string]any{"turnFallbackTimeout": 5000, "turn_servers": servers})
	return string(data)
}

// report has an agent of the mesh say that it uses a server.
func report(t *testing.T, m *Mesh, server string) {
	t.Helper()
	err := m.Witness.Log(t.Context(), witnessclient.Event{
		Name: "turn_connection_detected", AgentID: "agent-1", Timestamp: time.Now(), Metadata: map[string]any{"turn_server": server},
	}, "")
	if err != nil {
		t.Fatal(err)
	}
}

// The list that agents get is compared, where the controller shows it.
func TestReloadIsSeenInConfig(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	t1, t2, t3 := l.TURN[0].URI.String(), l.TURN[1].URI.String(), l.TURN[2].URI.String()
	for _, tt := range []struct {
		name, config string
		met          bool
		err          string
	}{
		{"the whole new list", config(t3, t2), true, ""},
		{"the old list", config(t1, t2), false, ""},
		{"another order", config(t2, t3), false, ""},
		{"the replacement only", config(t3), false, ""},
		{"one too many", config(t3, t2, t1), false, ""},
		{"empty list", config(), false, "turn_servers"},
		{"no URIs", `{"turn_servers":["elsewhere"]}`, false, "read configuration of the controller"},
		{"wrong type", `{"turn_servers":"` + t3 + `"}`, false, "turn_servers is a JSON string"},
		{"a page", "<html>", false, "unusable reply"},
		{"truncated", config(t3, t2)[:20], false, "unusable reply"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := scripted(t, l, map[string]string{"GET /config": tt.config})
			o, err := r.observeReload(t.Context())
			if o.Met != tt.met || o.Blind != "" || (err != nil && tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %+v, %v", o, err)
			}
			if err == nil && !tt.met && (o.Diff == "" || o.Match == "" && tt.name != "empty list") {
				t.Errorf("diff %q, match %q", o.Diff, o.Match)
			}
		})
	}
}

// A controller that shows nothing leaves the events of agents as a proof, but
// not of a server that they had before.
func TestReloadIsSeenInEvents(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		replies map[string]string
		before  []string // nil: turn-1 and turn-2
		report  string
		met     bool
		blind   string
	}{
		{name: "no /config, no event", replies: map[string]string{}, blind: "no turn_connection_detected event"},
		{name: "no /config, an event", replies: map[string]string{}, report: "turn-3", met: true},
		{name: "no /config, an event of another", replies: map[string]string{}, report: "turn-2", blind: "no turn_connection_detected event"},
		{name: "no turn_servers, an event", replies: map[string]string{"GET /config": `{"turnFallbackTimeout":5000}`}, report: "turn-3", met: true},
		{name: "an event of a server listed before", replies: map[string]string{}, before: []string{"turn-1", "turn-3"}, report: "turn-3", blind: "had the replacement in their list before"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, l := witnessMesh(t, lab.Options{})
			r, _ := scripted(t, l, tt.replies)
			if tt.before != nil {
				r.facts.ServersBefore = []string{uriOf(l, tt.before[0]), uriOf(l, tt.before[1])}
			}
			r.facts.SurveyedAt = time.Now().Add(-time.Second)
			if tt.report != "" {
				report(t, r.mesh, uriOf(l, tt.report))
			}
			o, err := r.observeReload(t.Context())
			if err != nil || o.Met != tt.met || (o.Blind == "") != tt.met || !strings.Contains(o.Blind, tt.blind) {
				t.Errorf("got %+v, %v", o, err)
			}
		})
	}
}

// The undo of a reload is judged by what the controller gives agents then.
func TestUndoReload(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	t1, t2, t3 := l.TURN[0].URI.String(), l.TURN[1].URI.String(), l.TURN[2].URI.String()
	before := json.RawMessage(fmt.Sprintf(`[%q,%q]`, t1, t2))
	for _, tt := range []struct {
		name, config string
		takes        bool // the controller does what it is told
		shows        bool
		calls        int
		err          string
	}{
		{"works", config(t3, t2), true, true, 1, ""},
		{"is there already", config(t1, t2), true, true, 0, ""},
		{"is told and does nothing", config(t3, t2), false, true, 1, "still has another list"},
		{"is told and does not show it", `{"turnFallbackTimeout":1}`, true, false, 1, "does not show whether it took effect"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, s := scripted(t, l, map[string]string{"GET /config": tt.config, "POST /admin/reload-config": `{"status":"ok"}`})
			s.onReload = func(s *script, servers []string) {
				if tt.takes && tt.shows {
					s.replies["GET /config"] = config(servers...)
				}
			}
			err := r.undoReload(t.Context(), "run/reload-config/undo", before)
			if (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got error %v, want %q", err, tt.err)
			}
			if calls := s.asked("POST /admin/reload-config"); len(calls) != tt.calls || (tt.calls == 1 && !strings.Contains(calls[0], t1)) {
				t.Errorf("calls %v", calls)
			}
		})
	}
	r, _ := scripted(t, l, map[string]string{})
	if err := r.undoReload(t.Context(), "k", before); err == nil {
		t.Error("a controller without reload counts as undone")
	}
	if err := r.undoReload(t.Context(), "k", json.RawMessage(`{`)); err == nil {
		t.Error("an unreadable list counts as undone")
	}
}

// On a mesh that shows nothing the goal is met only when the audit log holds
// the completion of this replacement and the failed server is dead.
func TestGoalByEvents(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, l *lab.Lab, r *turnRecover, metadata map[string]any)
		want   bool
	}{
		{"all of it", func(*testing.T, *lab.Lab, *turnRecover, map[string]any) {}, true},
		{"another server was replaced", func(_ *testing.T, l *lab.Lab, _ *turnRecover, m map[string]any) {
			m["failed_server"] = uriOf(l, "turn-2")
		}, false},
		{"by another one", func(_ *testing.T, l *lab.Lab, _ *turnRecover, m map[string]any) {
			m["replacement_server"] = uriOf(l, "turn-2")
		}, false},
		{"the failed server is back", func(t *testing.T, l *lab.Lab, _ *turnRecover, _ map[string]any) { heal(t, l, "turn-killed", "turn-1") }, false},
		{"it is still in the file", func(t *testing.T, l *lab.Lab, _ *turnRecover, _ map[string]any) {
			writeFile(t, l.EnvFile, "TURN_SERVERS="+uriOf(l, "turn-3")+","+uriOf(l, "turn-1")+"\n")
		}, false},
		{"the replacement is not in the file", func(t *testing.T, l *lab.Lab, _ *turnRecover, _ map[string]any) {
			writeFile(t, l.EnvFile, "TURN_SERVERS="+uriOf(l, "turn-2")+"\n")
		}, false},
		{"agents use the replacement, and nothing was completed", func(t *testing.T, l *lab.Lab, r *turnRecover, m map[string]any) {
			report(t, r.mesh, uriOf(l, "turn-3"))
			m["failed_server"] = "another:1"
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, l := witnessMesh(t, lab.Options{})
			inject(t, l, "turn-killed", "turn-1")
			writeFile(t, l.EnvFile, "TURN_SERVERS="+uriOf(l, "turn-3")+","+uriOf(l, "turn-2")+"\n")
			r, _ := scripted(t, l, map[string]string{"GET /stats": stats(2, repeated(2, "connected")...)})
			m := map[string]any{"failed_server": r.params.Failed, "replacement_server": r.params.Replacement}
			tt.change(t, l, r, m)
			if err := r.mesh.Witness.Log(t.Context(), witnessclient.Event{Name: completion, Timestamp: time.Now(), Metadata: m}, ""); err != nil {
				t.Fatal(err)
			}
			situation, err := r.survey(t.Context(), nil)
			if err != nil || situation.GoalMet != tt.want {
				t.Errorf("got %+v, %v", situation, err)
			}
		})
	}
}
