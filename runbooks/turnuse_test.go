package runbooks

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

// conn is a link as /stats has it; "" leaves a field out.
func conn(local, peer, state, server string) string {
	text := fmt.Sprintf(`{"state":%q`, state)
	if local != "" {
		text += fmt.Sprintf(`,"local":%q,"peer":%q`, local, peer)
	}
	if server != "" {
		text += fmt.Sprintf(`,"path":"relay","turn_server":%q`, server)
	}
	return text + "}"
}

func stats(agents int, conns ...string) string {
	return fmt.Sprintf(`{"total_agents":%d,"connections":[%s]}`, agents, strings.Join(conns, ","))
}

// repeated is n links of one state that say no more about themselves.
func repeated(n int, state string) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = conn("", "", state, "")
	}
	return list
}

// scripted is a recovery from turn-1 to turn-3 of a lab, in front of a
// controller whose answers the test decides.
func scripted(t *testing.T, l *lab.Lab, replies map[string]string) (*turnRecover, *script) {
	t.Helper()
	s := newScript(t, replies)
	m := newMesh(t, s.url, l.AdminKey, l.WitnessURL, l.WitnessKey)
	m.EnvFile, m.SignalingURLs, m.RelayOnly = l.EnvFile, []string{l.SignalingURL}, true
	m.TURN = probes.Credentials{Username: l.Username, Password: l.Password}
	r := &turnRecover{
		mesh: m, params: TurnRecoverParams{Failed: l.TURN[0].URI.Address(), Replacement: l.TURN[2].URI.String()},
		replacement: l.TURN[2].URI, rec: &Recovery{Run: NewRunID()},
	}
	r.edit = r.replaceFailed
	r.facts = turnFacts{
		Failed: r.params.Failed, Replacement: r.params.Replacement, UsersKnown: true, SurveyedAt: time.Now().UTC(),
		ServersBefore: serverTexts([]wire.ServerURI{l.TURN[0].URI, l.TURN[1].URI}),
		ServersAfter:  serverTexts([]wire.ServerURI{l.TURN[2].URI, l.TURN[1].URI}),
	}
	return r, s
}

// How the use of a failed server is proved to be over, where the mesh says
// through which server each link goes.
func TestUseWithField(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	t1, t2, t3 := l.TURN[0].URI.String(), l.TURN[1].URI.String(), l.TURN[2].URI.String()
	users := []string{"a->b", "b->a"}
	for _, tt := range []struct {
		name    string
		users   []string
		conns   []string
		met     bool
		summary string
	}{
		{"all on the replacement", users, []string{conn("a", "b", "connected", t3), conn("b", "a", "connected", t3)}, true, "2 of the 2 links that were on"},
		{"one on the replacement, one elsewhere", users, []string{conn("a", "b", "connected", t3), conn("b", "a", "connected", t2)}, true, "1 on the replacement"},
		{"one direct", users, []string{conn("a", "b", "connected", t3), `{"state":"connected","local":"b","peer":"a","path":"host"}`}, true, ""},
		{"none on the replacement", users, []string{conn("a", "b", "connected", t2), conn("b", "a", "connected", t2)}, false, "are connected, 0 on the replacement"},
		{"one still on it", users, []string{conn("a", "b", "connected", t3), conn("b", "a", "connected", t1)}, false, "1 links are still on"},
		{"one still on it and failed", users, []string{conn("a", "b", "connected", t3), conn("b", "a", "failed", t1)}, false, "1 links are still on"},
		{"one is gone", users, []string{conn("a", "b", "connected", t3)}, false, "1 of the 2 links"},
		{"one is down", users, []string{conn("a", "b", "connected", t3), conn("b", "a", "disconnected", t3)}, false, "1 of the 2 links"},
		{"all are gone", users, nil, false, "0 of the 2 links"},
		{"another one is on it", users, []string{conn("a", "b", "connected", t3), conn("b", "a", "connected", t3), conn("c", "a", "connected", t1)}, false, "1 links are still on"},
		{"it is our own that is on it", users, []string{conn("a", "b", "connected", t3), conn("b", "a", "connected", t3), conn("meshctl-X-1", "meshctl-X-2", "connected", t1)}, true, ""},
		{"our own do not count as moved", users, []string{conn("meshctl-X-1", "meshctl-X-2", "connected", t3)}, false, "0 of the 2 links"},
		{"nobody was", nil, []string{conn("a", "b", "connected", t2)}, true, "nobody was using"},
		{"nobody was and now one is", nil, []string{conn("a", "b", "connected", t1)}, false, "1 links are still on"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := scripted(t, l, map[string]string{"GET /stats": stats(3, tt.conns...)})
			r.facts.Users = tt.users
			o, err := r.observeUse(t.Context())
			if err != nil || o.Met != tt.met || o.Blind != "" || !strings.Contains(o.Summary, tt.summary) {
				t.Errorf("got %+v, %v; want met %v, %q", o, err, tt.met, tt.summary)
			}
		})
	}
}

// Without the field two other proofs count, and nothing else does.
func TestUseWithoutField(t *testing.T) {
	t.Parallel()
	silent := []string{conn("", "", "connected", ""), conn("", "", "connected", "")}
	type event struct {
		agent, server string
		age           time.Duration
	}
	for _, tt := range []struct {
		name   string
		fault  string // of turn-1
		events []event
		conns  []string
		met    bool
		blind  string
	}{
		{name: "the server is closed", fault: "turn-killed", conns: silent, met: true},
		{name: "it still answers", conns: silent, blind: "the failed server still answers"},
		{name: "it refuses, and may carry old links", fault: "turn-refuses-allocate", conns: silent, blind: "the failed server still answers"},
		{name: "agents report the replacement", conns: silent, events: []event{{"agent-1", "turn-3", 0}}, met: true},
		{name: "our own agents do", conns: silent, events: []event{{"meshctl-X-1", "turn-3", 0}}, blind: "no agent reported the replacement"},
		{name: "agents did before the plan", conns: silent, events: []event{{"agent-1", "turn-3", time.Minute}}, blind: "no agent reported"},
		{name: "agents report another server", conns: silent, events: []event{{"agent-1", "turn-2", 0}}, blind: "no agent reported"},
		{name: "agents report it, and a link says that it is not moved", conns: append([]string{"on-1"}, silent...), events: []event{{"agent-1", "turn-3", 0}}},
		{name: "the server is closed, and a link says that it is on it", fault: "turn-killed", conns: append([]string{"on-1"}, silent...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, l := witnessMesh(t, lab.Options{})
			if tt.fault != "" {
				inject(t, l, tt.fault, "turn-1")
			}
			for i, c := range tt.conns {
				if c == "on-1" {
					tt.conns[i] = conn("x", "y", "connected", l.TURN[0].URI.String())
				}
			}
			r, _ := scripted(t, l, map[string]string{"GET /stats": stats(2, tt.conns...)})
			r.facts.UsersKnown = false
			for _, e := range tt.events {
				logged := witnessclient.Event{
					Name: "turn_connection_detected", AgentID: e.agent, Timestamp: time.Now().Add(time.Second - e.age),
					Metadata: map[string]any{"turn_server": uriOf(l, e.server)},
				}
				if e.age == 0 { // the witness does not hold events of the future
					r.facts.SurveyedAt = time.Now().Add(-time.Second).UTC()
					logged.Timestamp = time.Now()
				}
				if err := r.mesh.Witness.Log(t.Context(), logged, ""); err != nil {
					t.Fatal(err)
				}
			}
			o, err := r.observeUse(t.Context())
			if err != nil || o.Met != tt.met || (o.Blind != "") != (tt.blind != "") || !strings.Contains(o.Blind, tt.blind) {
				t.Errorf("got %+v, %v; want met %v, blind %q", o, err, tt.met, tt.blind)
			}
		})
	}
}

// Queries have whole seconds, events have milliseconds.
func TestUseBeforeTheSurveyInTheSameSecond(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	r, _ := scripted(t, l, map[string]string{})
	second := time.Now().Add(-2 * time.Second).Truncate(time.Second)
	r.facts.SurveyedAt = second.Add(900 * time.Millisecond).UTC()
	for _, tt := range []struct {
		at   time.Duration
		want int
	}{{100 * time.Millisecond, 0}, {950 * time.Millisecond, 1}} {
		event := witnessclient.Event{
			Name: "turn_connection_detected", AgentID: "agent-1", Timestamp: second.Add(tt.at), Metadata: map[string]any{"turn_server": uriOf(l, "turn-3")},
		}
		if err := r.mesh.Witness.Log(t.Context(), event, ""); err != nil {
			t.Fatal(err)
		}
		if seen, err := r.seenOnReplacement(t.Context()); err != nil || seen != tt.want {
			t.Errorf("event at %s: %d seen, %v", tt.at, seen, err)
		}
	}
}

func uriOf(l *lab.Lab, name string) string {
	for _, s := range l.TURN {
		if s.Name == name {
			return s.URI.String()
		}
	}
	return ""
}

// What the plan saw is not what is now: a dead server can come back.
func TestUseAsksTheFailedServerAgain(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	r, _ := scripted(t, l, map[string]string{"GET /stats": stats(2, conn("", "", "connected", ""))})
	r.facts.UsersKnown, r.facts.FailedDead = false, true
	if o, err := r.observeUse(t.Context()); err != nil || o.Met || o.Blind == "" {
		t.Errorf("alive again: %+v, %v", o, err)
	}
	inject(t, l, "turn-killed", "turn-1")
	if o, err := r.observeUse(t.Context()); err != nil || !o.Met {
		t.Errorf("dead: %+v, %v", o, err)
	}
}

func TestUseThatCannotBeRead(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	r, s := scripted(t, l, map[string]string{"GET /stats": `{"total_agents":2}`})
	if o, err := r.observeUse(t.Context()); err == nil || o.Met {
		t.Errorf("no connections in /stats: %+v, %v", o, err)
	}
	s.set("GET /stats", stats(2, conn("", "", "connected", "")))
	r.facts.UsersKnown = false
	inject(t, l, "witness-down", "")
	if o, err := r.observeUse(t.Context()); err != nil || o.Met || !strings.Contains(o.Blind, "the witness could not be asked") {
		t.Errorf("no witness: %+v, %v", o, err)
	}
}

// One look while a recovery is monitored.
func TestMonitorSample(t *testing.T) {
	t.Parallel()
	_, l := witnessMesh(t, lab.Options{})
	for _, tt := range []struct {
		name     string
		stats    string
		baseline []string
		want     probes.Verdict
		summary  string
	}{
		{"all connected", stats(3, repeated(6, "connected")...), nil, probes.Pass, "6 of 6 links connected, 0 failed"},
		{"one failed of many", stats(9, append(repeated(40, "connected"), repeated(1, "failed")...)...), nil, probes.Warn, "1 failed"},
		{"ten failed of many", stats(50, append(repeated(1000, "connected"), repeated(10, "failed")...)...), nil, probes.Warn, "10 failed"},
		{"eleven failed of many", stats(50, append(repeated(1000, "connected"), repeated(11, "failed")...)...), nil, probes.Fail, "11 failed (limit 10)"},
		{"below 95 %", stats(9, append(repeated(18, "connected"), repeated(2, "connecting")...)...), nil, probes.Warn, "18 of 20"},
		{"below 80 %", stats(9, append(repeated(7, "connected"), repeated(3, "disconnected")...)...), nil, probes.Fail, "7 of 10"},
		{"all failed, and they are few", stats(3, repeated(6, "failed")...), nil, probes.Fail, "0 of 6"},
		{"no links, and agents", stats(3), nil, probes.Fail, "0 of 0"},
		{"no links any more", stats(0), []string{"a->b"}, probes.Fail, "0 of 0"},
		{"no links, and nobody to have any", stats(1), nil, probes.Unknown, "no links to watch, with 1 agents"},
		{"only our own", stats(2, conn("meshctl-X-1", "meshctl-X-2", "connected", "")), []string{"a->b"}, probes.Fail, "0 of 0"},
		{"one on the failed server", stats(2, conn("a", "b", "connected", l.TURN[0].URI.String()), conn("b", "a", "connected", "")), nil, probes.Fail, "1 links are on"},
		{"an error", `{"error":"no"}`, nil, probes.Unknown, "total_agents is missing"},
		{"a page", "<html>", nil, probes.Unknown, "a page of HTML"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := scripted(t, l, map[string]string{"GET /stats": tt.stats})
			r.facts.Baseline = tt.baseline
			if got := r.sample(t.Context()); got.Verdict != tt.want || !strings.Contains(got.Summary, tt.summary) {
				t.Errorf("got %+v, want %s %q", got, tt.want, tt.summary)
			}
		})
	}
}
