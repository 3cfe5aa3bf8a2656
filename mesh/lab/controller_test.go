package lab

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
)

const adminKey = "admin-key"

// fakeFleet records what a controller does to it.
type fakeFleet struct {
	bandwidth  mesh.Bandwidth
	mu         sync.Mutex
	links      []wire.Link
	servers    []wire.ServerURI
	reconnects int
}

func (f *fakeFleet) Links() []wire.Link { return f.links }

func (f *fakeFleet) TURNServers() []wire.ServerURI {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.servers
}

func (f *fakeFleet) SetTURNServers(servers []wire.ServerURI) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.servers = servers
}

func (f *fakeFleet) Bandwidth() mesh.Bandwidth { return f.bandwidth }

func (f *fakeFleet) SetBandwidth(b mesh.Bandwidth) { f.bandwidth = b }

func (f *fakeFleet) Paths(string, string) (wire.PathReport, bool) { return wire.PathReport{}, false }

func (f *fakeFleet) ReconnectTURN() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reconnects++
}

type testController struct {
	*controller
	fleet *fakeFleet
	url   string
}

func startController(t *testing.T, seedOnly bool) *testController {
	t.Helper()
	server := "turn:127.0.0.1:1"
	servers, err := wire.ParseServerList("turn:127.0.0.1:1,turn:127.0.0.1:2?transport=udp")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeFleet{servers: servers, links: []wire.Link{
		{ID: "x", Local: "agent-1", Peer: "agent-2", State: wire.StateConnected, Path: wire.PathRelay, TURNServer: &server},
		{ID: "y", Local: "agent-2", Peer: "agent-1", State: wire.StateFailed},
	}}
	c := &controller{
		agents: f, registered: func() []string { return []string{"agent-1", "agent-2", "meshctl-R1-1"} },
		key: secret.New(adminKey), seedOnly: seedOnly,
	}
	return &testController{c, f, openTestSite(t, c.handler()).url()}
}

func (c *testController) client(t *testing.T) *control.Client {
	t.Helper()
	client, err := control.New(control.Options{URL: c.url, AdminKey: secret.New(adminKey)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func TestControllerReads(t *testing.T) {
	const full = `[{"id":"x","local":"agent-1","peer":"agent-2","state":"connected","path":"relay","turn_server":"turn:127.0.0.1:1"},
		{"id":"y","local":"agent-2","peer":"agent-1","state":"failed"}]`
	tests := []struct {
		name, path string
		want, seed string // "" = 404
	}{
		{"health", "/health", `{"status":"ok"}`, `{"status":"ok"}`},
		{"stats", "/stats", `{"total_agents":3,"connections":` + full + `}`,
			`{"total_agents":3,"connections":[{"state":"connected"},{"state":"failed"}]}`},
		{"agents", "/agents", `{"agents":[{"agent_id":"agent-1"},{"agent_id":"agent-2"},{"agent_id":"meshctl-R1-1"}]}`, ""},
		{"connections", "/connections", `{"connections":` + full + `}`, ""},
		{"config", "/config", `{"turnFallbackTimeout":5000,"turn_servers":["turn:127.0.0.1:1","turn:127.0.0.1:2?transport=udp"],` +
			`"bandwidth":{"enableBandwidthAdaptation":false,"maxBitrateMbps":0}}`, ""},
		{"unknown", "/peers/agent-1", "", ""},
	}
	for _, seedOnly := range []bool{false, true} {
		c := startController(t, seedOnly)
		for _, tt := range tests {
			name, want := tt.name, tt.want
			if seedOnly {
				name, want = "seed only "+name, tt.seed
			}
			t.Run(name, func(t *testing.T) {
				status, body := get(t, c.url+tt.path)
				if want == "" {
					if status != http.StatusNotFound {
						t.Errorf("HTTP %d %s, want 404", status, body)
					}
					return
				}
				if diff := cmp.Diff(parsed(t, want), parsed(t, body)); status != http.StatusOK || diff != "" {
					t.Errorf("HTTP %d: %s", status, diff)
				}
			})
		}
	}
}

func TestControllerOrders(t *testing.T) {
	const list = `{"turn_servers":["turn:127.0.0.1:3","turns:turn.example.com"]}`
	tests := []struct {
		name, path, body, bearer string
		want                     int
		servers                  string // "" = unchanged
		reconnects               int
	}{
		{"reload", "/admin/reload-config", list, adminKey, 200, "turn:127.0.0.1:3,turns:turn.example.com", 0},
		{"reload without key", "/admin/reload-config", list, "", 401, "", 0},
		{"reload with another key", "/admin/reload-config", list, "admin-kez", 401, "", 0},
		{"reload with dots", "/admin/reload-config", `{"turn_servers":["turn:127.0.0.1:3", ...]}`, adminKey, 400, "", 0},
		{"reload with nothing", "/admin/reload-config", ``, adminKey, 400, "", 0},
		{"reload without list", "/admin/reload-config", `{}`, adminKey, 400, "", 0},
		{"reload with an empty list", "/admin/reload-config", `{"turn_servers":[]}`, adminKey, 400, "", 0},
		{"reload with a string", "/admin/reload-config", `{"turn_servers":"turn:127.0.0.1:3"}`, adminKey, 400, "", 0},
		{"reload with a bad uri", "/admin/reload-config", `{"turn_servers":["turn:127.0.0.1:3","127.0.0.1:4"]}`, adminKey, 400, "", 0},
		{"reload with a STUN server", "/admin/reload-config", `{"turn_servers":["stun:127.0.0.1:3"]}`, adminKey, 400, "", 0},
		{"reload with two documents", "/admin/reload-config", list + list, adminKey, 400, "", 0},
		{"reconnect", "/admin/reconnect-turn-peers", "", adminKey, 200, "", 1},
		{"reconnect without key", "/admin/reconnect-turn-peers", "", "", 401, "", 0},
		{"unknown order", "/admin/rotate-keys", "{}", adminKey, 404, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := startController(t, false)
			before := c.fleet.TURNServers()
			status, body := call{http.MethodPost, c.url + tt.path, tt.body, tt.bearer, "R1/1"}.do(t)
			if status != tt.want {
				t.Errorf("HTTP %d %s, want %d", status, body, tt.want)
			}
			want := strings.Join(texts(before), ",")
			if tt.servers != "" {
				want = tt.servers
			}
			if got := strings.Join(texts(c.fleet.TURNServers()), ","); got != want {
				t.Errorf("agents use %s, want %s", got, want)
			}
			if c.fleet.reconnects != tt.reconnects {
				t.Errorf("%d reconnects, want %d", c.fleet.reconnects, tt.reconnects)
			}
			wantLog := []Request{{Method: "POST", Path: tt.path, Status: tt.want, Key: "R1/1", Body: tt.body}}
			if diff := cmp.Diff(wantLog, c.log.all(), cmpopts.IgnoreFields(Request{}, "At")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestControllerLogsReadsToo(t *testing.T) {
	c := startController(t, false)
	get(t, c.url+"/stats")
	get(t, c.url+"/nothing")
	log := c.log.all()
	want := []Request{{Method: "GET", Path: "/stats", Status: 200}, {Method: "GET", Path: "/nothing", Status: 404}}
	if diff := cmp.Diff(want, log, cmpopts.IgnoreFields(Request{}, "At")); diff != "" {
		t.Fatal(diff)
	}
	if log[0].Write() || !(Request{Method: "POST"}).Write() {
		t.Error("a GET counts as write, or a POST does not")
	}
	for range maxRequests {
		c.log.add(Request{})
	}
	if n := len(c.log.all()); n > maxRequests {
		t.Errorf("%d requests kept", n)
	}
}

func TestControllerLogsLargeBodies(t *testing.T) {
	tests := []struct {
		name               string
		size, status, kept int
	}{
		{"cut", maxLogged + 1, 400, maxLogged},
		{"refused", maxBody + 1, 413, 0},
	}
	c := startController(t, false)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			call{http.MethodPost, c.url + "/admin/reload-config", strings.Repeat(" ", tt.size), adminKey, ""}.do(t)
			all := c.log.all()
			if last := all[len(all)-1]; last.Status != tt.status || len(last.Body) != tt.kept {
				t.Errorf("HTTP %d with %d bytes kept, want %d and %d", last.Status, len(last.Body), tt.status, tt.kept)
			}
		})
	}
}

func TestControllerFaults(t *testing.T) {
	orders := func(c *testController) (changed bool) {
		return c.fleet.TURNServers()[0].Port == 3 || c.fleet.reconnects > 0
	}
	tests := []struct {
		name, fault string
		readable    bool // GET /stats is understood
		accepted    bool // orders are understood as accepted
		changed     bool // orders are carried out
	}{
		{"none", "", true, true, true},
		{"lies", "controller-lies", true, true, false},
		{"HTML", "controller-html", false, false, false},
		{"truncated", "controller-truncated", false, false, true},
		{"wrong types", "controller-wrong-types", false, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := startController(t, false)
			client := c.client(t)
			c.faults.set(tt.fault, true)
			_, err := client.Stats(t.Context())
			checkReply(t, "stats", err, tt.readable)
			_, err = client.Config(t.Context())
			checkReply(t, "config", err, tt.readable)
			_, err = client.Agents(t.Context())
			checkReply(t, "agents", err, tt.readable)
			checkReply(t, "reload", client.ReloadConfig(t.Context(), "R1/1", []string{"turn:127.0.0.1:3"}), tt.accepted)
			checkReply(t, "reconnect", client.ReconnectTURNPeers(t.Context(), "R1/2"), tt.accepted)
			if changed := orders(c); changed != tt.changed {
				t.Errorf("carried out: %v, want %v", changed, tt.changed)
			}
			c.faults.set(tt.fault, false)
			_, err = client.Stats(t.Context())
			checkReply(t, "stats when healed", err, true)
			checkReply(t, "reload when healed", client.ReloadConfig(t.Context(), "R1/1", []string{"turn:127.0.0.1:3"}), true)
			if !orders(c) {
				t.Error("healed, and not carried out")
			}
		})
	}
}

// checkReply wants no error, or one about a 2xx reply that cannot be used.
func checkReply(t *testing.T, what string, err error, usable bool) {
	t.Helper()
	var reply *control.ReplyError
	if usable != (err == nil) || (err != nil && !errors.As(err, &reply)) {
		t.Errorf("%s: error %v, want usable %v", what, err, usable)
	}
}

func TestConfuse(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"stats", `{"total_agents":3,"connections":[{"state":"connected"}]}`, `{"total_agents":"3","connections":{"0":{"state":"connected"}}}`},
		{"list", `{"turn_servers":["turn:a"]}`, `{"turn_servers":{"0":"turn:a"}}`},
		{"empty list", `{"connections":[]}`, `{"connections":{}}`},
		{"fraction", `{"rtt_ms":0.25}`, `{"rtt_ms":"0.25"}`},
		{"no numbers", `{"status":"ok"}`, `{"status":"ok"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(parsed(t, tt.want), parsed(t, string(confuse([]byte(tt.body))))); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := string(confuse([]byte("404 page not found\n"))); got != "404 page not found\n" || json.Valid([]byte(got)) {
		t.Errorf("text became %q", got)
	}
}
