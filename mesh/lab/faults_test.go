package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/infrafabric/meshctl/witnessclient"
)

func TestFaultsAreDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range Faults() {
		if f.Name == "" || f.Summary == "" || f.DefaultTarget == "" || seen[f.Name] {
			t.Errorf("%+v", f)
		}
		seen[f.Name] = true
	}
}

func TestInjectRefuses(t *testing.T) {
	tests := []struct {
		name  string
		fault Fault
		want  string
	}{
		{"no such fault", Fault{Name: "turn-on-fire"}, "no such fault"},
		{"no such TURN server", Fault{"turn-killed", "turn-4"}, "only turn-1, turn-2, turn-3"},
		{"no such agent", Fault{"agent-gone", "agent-3"}, "only agent-1, agent-2"},
		{"another server", Fault{"witness-down", "controller"}, "only witness"},
		{"no such signaling server", Fault{"signaling-401", "signaling-4"}, "only signaling-1, signaling-2, signaling-3"},
		{"what is not there", Fault{"prometheus-down", ""}, "no target"},
		{"nginx that is not there", Fault{"nginx-reload", ""}, "no target"},
	}
	l := startLab(t, Options{Agents: 2})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, apply := range []func(context.Context, Fault) error{l.Inject, l.Heal} {
				if err := apply(t.Context(), tt.fault); err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %v, want one with %q", err, tt.want)
				}
			}
		})
	}
	if active := l.Active(); len(active) > 0 {
		t.Errorf("active: %v", active)
	}
}

func TestActive(t *testing.T) {
	l := startLab(t, Options{NoAgents: true})
	inject(t, l, "turn-killed", "")
	inject(t, l, "controller-lies", "")
	inject(t, l, "turn-killed", "turn-1")
	inject(t, l, "turn-silent", "turn-3")
	if err := l.Inject(t.Context(), Fault{"turn-silent", "turn-1"}); err == nil {
		t.Error("a killed server fell silent")
	}
	want := []Fault{{"controller-lies", "controller"}, {"turn-killed", "turn-1"}, {"turn-silent", "turn-3"}}
	if diff := cmp.Diff(want, l.Active()); diff != "" {
		t.Error(diff)
	}
	heal(t, l, "turn-killed", "")
	heal(t, l, "controller-lies", "controller")
	if diff := cmp.Diff(want[2:], l.Active()); diff != "" {
		t.Error(diff)
	}
}

func TestSitesGoDown(t *testing.T) {
	l := startLab(t, Options{NoAgents: true})
	tests := []struct{ fault, url string }{
		{"controller-down", l.ControllerURL},
		{"witness-down", l.WitnessURL},
		{"signaling-down", l.Signaling[0].HTTPURL},
	}
	for _, tt := range tests {
		t.Run(tt.fault, func(t *testing.T) {
			inject(t, l, tt.fault, "")
			if err := (call{method: http.MethodGet, url: tt.url + "/health"}).fails(t); !refused(err) {
				t.Errorf("%v, want connection refused", err)
			}
			heal(t, l, tt.fault, "")
			if status, _ := get(t, tt.url+"/health"); status != http.StatusOK {
				t.Errorf("healed: HTTP %d", status)
			}
		})
	}
}

func TestControllerOfTheLabBreaks(t *testing.T) {
	l := startLab(t, Options{NoAgents: true})
	admin := l.admin(t)
	spare := []string{l.TURN[2].URI.String()}
	for _, fault := range []string{"controller-html", "controller-truncated", "controller-wrong-types"} {
		t.Run(fault, func(t *testing.T) {
			inject(t, l, fault, "")
			_, err := admin.Stats(t.Context())
			checkReply(t, "stats", err, false)
			heal(t, l, fault, "")
			_, err = admin.Stats(t.Context())
			checkReply(t, "stats when healed", err, true)
		})
	}
	inject(t, l, "controller-lies", "")
	if err := admin.ReloadConfig(t.Context(), "", spare); err != nil {
		t.Fatal(err)
	}
	config, err := admin.Config(t.Context())
	if err != nil || cmp.Equal(config.TURNServers, spare) {
		t.Errorf("a lie came true: %v, error %v", config.TURNServers, err)
	}
	heal(t, l, "controller-lies", "")
	if err := admin.ReloadConfig(t.Context(), "", spare); err != nil {
		t.Fatal(err)
	}
	if config, err := admin.Config(t.Context()); err != nil || !cmp.Equal(config.TURNServers, spare) {
		t.Errorf("healed: %v, error %v", config.TURNServers, err)
	}
}

func TestWitnessOfTheLabBreaks(t *testing.T) {
	l := startLab(t, Options{NoAgents: true})
	log := call{http.MethodPost, l.WitnessURL + "/api/log", event("x", time.Now()), l.WitnessKey.Reveal(), ""}
	inject(t, l, "witness-401", "")
	if status, _ := log.do(t); status != http.StatusUnauthorized {
		t.Errorf("witness-401: HTTP %d", status)
	}
	heal(t, l, "witness-401", "")
	inject(t, l, "witness-loses-reply", "")
	_ = log.fails(t)
	heal(t, l, "witness-loses-reply", "")
	inject(t, l, "witness-slow", "")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if reply, err := client.Do(log.request(t).WithContext(ctx)); err == nil {
		_ = reply.Body.Close()
		t.Error("witness-slow: answered at once")
	}
	heal(t, l, "witness-slow", "")
	if status, _ := log.do(t); status != http.StatusOK {
		t.Errorf("healed: HTTP %d", status)
	}
	if c := l.WitnessCount(); c.Requests != 2 || c.Accepted != 2 {
		t.Errorf("counted %+v", c)
	}
}

// An agent of the lab gets no event to a witness that is down.
func TestWitnessDownLosesEvents(t *testing.T) {
	l := startLab(t, Options{NoAgents: true})
	inject(t, l, "witness-down", "")
	l.witness.add(witnessclient.Event{Name: "lost", Timestamp: time.Now()})
	heal(t, l, "witness-down", "")
	l.witness.add(witnessclient.Event{Name: "kept", Timestamp: time.Now()})
	var names []any
	for _, e := range l.witness.events {
		names = append(names, e.fields["event"])
	}
	if diff := cmp.Diff([]any{"kept"}, names); diff != "" {
		t.Error(diff)
	}
}

// A link that works survives the loss of all signaling; when a server is back,
// so are the agents.
func TestSignalingDown(t *testing.T) {
	l := startLab(t, Options{Agents: 2})
	l.mustBeSteady(t, 0)
	for i := range l.Signaling {
		inject(t, l, "signaling-down", signalingName(len(l.Signaling)-1-i)) // the one in use last: nobody moves
	}
	stats, err := l.admin(t).Stats(t.Context())
	if err != nil || stats.TotalAgents != 0 {
		t.Errorf("%d agents registered, error %v", stats.TotalAgents, err)
	}
	before := l.Delivery().Received
	eventually(t, "messages still arrive", func() error {
		if now := l.Delivery().Received; now < before+20 {
			return fmt.Errorf("%d more", now-before)
		}
		return nil
	})
	if err := l.allOn(l.TURN[0].URI); err != nil {
		t.Error(err)
	}
	heal(t, l, "signaling-down", "signaling-2")
	eventually(t, "all are registered again", func() error {
		if ids := l.signaling[1].local(); !cmp.Equal(ids, l.Agents) {
			return fmt.Errorf("registered: %q", ids)
		}
		return nil
	})
}

func TestAgentGone(t *testing.T) {
	l := startLab(t, Options{Agents: 3})
	l.mustBeSteady(t, 0)
	inject(t, l, "agent-gone", "agent-3")
	eventually(t, "agent-3 is missed", func() error {
		var silent int
		for _, o := range l.Outages(time.Now()) {
			if !o.Recovered && (o.From == "agent-3" || o.To == "agent-3") {
				silent++
			}
		}
		if ids := l.registered(); len(ids) != 2 || silent != 4 {
			return fmt.Errorf("%q registered, %d directions silent", ids, silent)
		}
		return nil
	})
	for _, link := range l.Links() {
		if link.Local == "agent-3" {
			t.Errorf("link of an agent that is gone: %+v", link)
		}
	}
	heal(t, l, "agent-gone", "agent-3")
	l.mustBeSteady(t, 100*time.Millisecond)
}

func TestControl(t *testing.T) {
	l := startLab(t, Options{NoAgents: true})
	faults := l.ControlURL + "/lab/faults"
	tests := []struct {
		name, method, url string
		want              int
		active            []Fault
	}{
		{"inject", http.MethodPost, faults + "/turn-killed?target=turn-2", 200, []Fault{{"turn-killed", "turn-2"}}},
		{"inject on the default target", http.MethodPost, faults + "/witness-401", 200, []Fault{{"turn-killed", "turn-2"}, {"witness-401", "witness"}}},
		{"unknown fault", http.MethodPost, faults + "/nothing", 400, []Fault{{"turn-killed", "turn-2"}, {"witness-401", "witness"}}},
		{"unknown target", http.MethodPost, faults + "/turn-killed/heal?target=turn-9", 400, []Fault{{"turn-killed", "turn-2"}, {"witness-401", "witness"}}},
		{"heal", http.MethodPost, faults + "/turn-killed/heal?target=turn-2", 200, []Fault{{"witness-401", "witness"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if status, body := (call{method: tt.method, url: tt.url}).do(t); status != tt.want {
				t.Errorf("HTTP %d %s, want %d", status, body, tt.want)
			}
			var reply struct {
				Faults []FaultInfo
				Active []Fault
			}
			_, body := get(t, faults)
			if err := json.Unmarshal([]byte(body), &reply); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.active, reply.Active); diff != "" || !cmp.Equal(reply.Faults, Faults()) {
				t.Error(diff)
			}
		})
	}
}

func TestControlKeepsWebPagesOut(t *testing.T) {
	l := startLab(t, Options{NoAgents: true})
	r := call{method: http.MethodPost, url: l.ControlURL + "/lab/faults/turn-killed"}.request(t)
	r.Header.Set("Origin", "https://example.com")
	reply, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = reply.Body.Close()
	if reply.StatusCode != http.StatusForbidden || len(l.Active()) > 0 {
		t.Errorf("HTTP %s, faults %v", reply.Status, l.Active())
	}
}

func TestControlState(t *testing.T) {
	l := startLab(t, Options{Agents: 2})
	l.mustBeSteady(t, 0)
	inject(t, l, "controller-lies", "")
	admin := l.admin(t)
	if err := admin.ReconnectTURNPeers(t.Context(), "R1/1"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Stats(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, body := get(t, l.ControlURL+"/lab/state")
	for _, s := range []string{l.AdminKey.Reveal(), l.WitnessKey.Reveal(), l.Password.Reveal()} {
		if strings.Contains(body, s) {
			t.Error("a secret in the state")
		}
	}
	var got State
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if d := got.Delivery; d.Sent == 0 || d.Received == 0 {
		t.Errorf("delivery %+v", d)
	}
	want := State{
		TURN: []TURNState{
			{"turn-1", l.TURN[0].URI.String(), true}, {"turn-2", l.TURN[1].URI.String(), true}, {"turn-3", l.TURN[2].URI.String(), false},
		},
		Agents:   []string{"agent-1", "agent-2"},
		Faults:   []Fault{{"controller-lies", "controller"}},
		Requests: []Request{{Method: "POST", Path: "/admin/reconnect-turn-peers", Status: 200, Key: "R1/1"}},
		Witness:  WitnessCount{ByKey: map[string]int{}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(State{}, "Delivery"), cmpopts.IgnoreFields(Request{}, "At")); diff != "" {
		t.Error(diff)
	}
}

// Closing must not wait for ever for somebody who asks the lab just then.
func TestCloseWhileAsked(t *testing.T) {
	l := startLab(t, Options{NoAgents: true})
	stop := make(chan struct{})
	asked := make(chan error)
	go func() {
		defer close(asked)
		for {
			err := l.Inject(t.Context(), Fault{Name: "turn-killed"})
			if err == nil {
				err = l.Heal(t.Context(), Fault{Name: "turn-killed"})
			}
			select {
			case <-stop:
				return
			case asked <- err:
			}
		}
	}()
	if err := <-asked; err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	close(stop)
	for err := range asked {
		if err != nil && !errors.Is(err, errClosed) {
			t.Error(err)
		}
	}
}
