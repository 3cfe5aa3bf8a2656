package runbooks

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/httpapi"
	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

func service(t *testing.T, url string, key secret.Secret) probes.Service {
	t.Helper()
	api, err := httpapi.New(httpapi.Options{URL: url, Bearer: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	return probes.Service{API: api, URL: url, Authorised: !key.Empty()}
}

// statusOf is a lab as a mesh whose every part has an address.
func statusOf(t *testing.T, l *lab.Lab) *Engine {
	t.Helper()
	m := meshOf(t, l)
	m.Sites.Controller, m.Sites.Witness = service(t, l.ControllerURL, l.AdminKey), service(t, l.WitnessURL, l.WitnessKey)
	for _, s := range l.Signaling {
		m.Sites.Signaling = append(m.Sites.Signaling, SignalingSite{s.Name, s.URL})
	}
	return engineOf(t, m)
}

func (s Status) part(t *testing.T, id string) Part {
	t.Helper()
	for _, p := range s.Parts {
		if p.ID() == id {
			return p
		}
	}
	t.Fatalf("no part %q in %+v", id, s.Parts)
	return Part{}
}

// says fails unless the part has the verdict and its summary the text.
func (s Status) says(t *testing.T, id string, verdict probes.Verdict, text string) {
	t.Helper()
	if p := s.part(t, id); p.Verdict != verdict || !strings.Contains(p.Summary, text) {
		t.Errorf("%s: %s %q, want %s with %q", id, p.Verdict, p.Summary, verdict, text)
	}
}

// statusUntil asks again until a part has the verdict: on a busy machine a link
// can be down for a moment.
func statusUntil(t *testing.T, e *Engine, id string, verdict probes.Verdict) (s Status) {
	t.Helper()
	eventually(t, id+": "+string(verdict), func() bool {
		s = e.Status(t.Context())
		return s.part(t, id).Verdict == verdict
	})
	return s
}

func TestStatus(t *testing.T) {
	t.Parallel()
	l := steadyLab(t, lab.Options{Agents: 3})
	e := statusOf(t, l)
	var healthy Status
	eventually(t, "all is well", func() bool { healthy = e.Status(t.Context()); return healthy.Verdict == probes.Pass })
	if got := healthy.part(t, PartAgents).Facts["registered"]; got != 3 {
		t.Errorf("%v agents", got)
	}
	healthy.says(t, "signaling signaling-2", probes.Pass, "3 agents known")
	healthy.says(t, PartRegistry, probes.Pass, "crosses")
	healthy.says(t, "turn "+l.TURN[1].URI.String(), probes.Pass, "both ways")
	stun := func(i int) string { return "stun stun:" + l.TURN[i].URI.Address() }
	healthy.says(t, stun(1), probes.Pass, "answers")
	healthy.says(t, PartConnections, probes.Pass, "6 of 6 connected (6 relay)")
	healthy.says(t, PartLatency, probes.Pass, "relay p50")
	healthy.says(t, PartPrometheus, probes.Skip, "not configured")
	healthy.says(t, "drift env file", probes.Pass, "same 2 TURN servers")
	eventually(t, "nothing has changed", func() bool { return len(Compare(healthy, e.Status(t.Context()))) == 0 })

	inject(t, l, "turn-killed", "turn-2")
	inject(t, l, "signaling-401", "signaling-3")
	inject(t, l, "controller-html", "")
	broken := e.Status(t.Context())
	if broken.Verdict != probes.Fail {
		t.Errorf("verdict %s", broken.Verdict)
	}
	broken.says(t, "turn "+l.TURN[1].URI.String(), probes.Fail, "port is closed")
	broken.says(t, "turn "+l.TURN[0].URI.String(), probes.Pass, "both ways")
	broken.says(t, stun(1), probes.Fail, "closed")
	broken.says(t, stun(0), probes.Pass, "answers")
	broken.says(t, "signaling signaling-3", probes.Fail, "401")
	broken.says(t, PartRegistry, probes.Pass, "crosses")
	broken.says(t, PartController, probes.Fail, "HTML")
	broken.says(t, PartConnections, probes.Unknown, "no usable statistics")
	broken.says(t, "drift env file", probes.Unknown, "not readable")
	broken.says(t, "drift agents", probes.Unknown, "not readable")
}

// An old env file, links on a server that no list has, and an upstream with
// another server.
func TestStatusSeesDrift(t *testing.T) {
	t.Parallel()
	l := steadyLab(t, lab.Options{Agents: 2})
	e := statusOf(t, l)
	nginx := filepath.Join(t.TempDir(), "nginx.conf")
	e.Mesh.Sites.Upstream = Upstream{File: nginx, Name: "signaling"}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	upstream := "upstream signaling {"
	for _, s := range l.Signaling {
		upstream += " server " + strings.TrimPrefix(s.URL, "ws://") + ";"
	}
	write(nginx, upstream+" }")
	e.Status(t.Context()).says(t, "drift nginx", probes.Pass, "same 3 signaling servers")

	write(nginx, "upstream signaling { server 10.0.0.9:8443; }")
	write(l.EnvFile, "TURN_SERVERS="+l.TURN[2].URI.String()+"\nTURN_USERNAME=lab\n")
	s := e.Status(t.Context())
	s.says(t, "drift env file", probes.Warn, "the env file has "+l.TURN[2].URI.String())
	s.says(t, "drift nginx", probes.Warn, "the upstream has 10.0.0.9:8443")
	if err := e.Mesh.Controller.ReloadConfig(t.Context(), "k", []string{l.TURN[2].URI.String()}); err != nil {
		t.Fatal(err)
	}
	s = statusUntil(t, e, "drift agents", probes.Warn) // links move only when told to
	s.says(t, "drift env file", probes.Pass, "same 1 TURN server")
	s.says(t, "drift agents", probes.Warn, "links use servers that no list has")

	write(l.EnvFile, "TURN_SERVERS="+l.TURN[2].URI.String()+"\nSTUN_SERVERS=turn:127.0.0.1:9,nonsense\n")
	e.Status(t.Context()).says(t, PartSTUN, probes.Unknown, "STUN_SERVERS: entry 2")

	write(nginx, "upstream signaling {")
	if err := os.Remove(l.EnvFile); err != nil {
		t.Fatal(err)
	}
	s = e.Status(t.Context())
	s.says(t, "drift env file", probes.Unknown, "no such file")
	s.says(t, "drift nginx", probes.Unknown, "does not end")
	e.Mesh.Sites.Upstream.Host = "ops@edge1"
	e.Status(t.Context()).says(t, "drift nginx", probes.Skip, "is on ops@edge1")
}

func TestStatusOfSeparateRegistries(t *testing.T) {
	t.Parallel()
	l := startLab(t, lab.Options{NoAgents: true, Registry: "separate"})
	e := statusOf(t, l)
	s := e.Status(t.Context())
	s.says(t, PartRegistry, probes.Warn, "do not share")
	s.says(t, PartAgents, probes.Fail, "no agents")
	s.says(t, PartConnections, probes.Unknown, "no connections, with 0 agents")
	s.says(t, PartLatency, probes.Skip, "no connected links")
	for _, server := range l.Signaling[1:] {
		inject(t, l, "signaling-down", server.Name)
	}
	e.Status(t.Context()).says(t, PartRegistry, probes.Skip, "fewer than two")
}

// What only the oldest servers offer is enough for a status that does not
// guess the rest.
func TestStatusOfABareMesh(t *testing.T) {
	t.Parallel()
	l := steadyLab(t, lab.Options{Agents: 2, SeedOnly: true})
	s := statusUntil(t, statusOf(t, l), PartConnections, probes.Pass)
	if s.Verdict != probes.Unknown {
		t.Errorf("verdict %s", s.Verdict)
	}
	s.says(t, PartAgents, probes.Pass, "2 agents")
	s.says(t, PartConnections, probes.Pass, "2 of 2 connected (2 unsaid)")
	s.says(t, PartLatency, probes.Unknown, "no Prometheus")
	s.says(t, "drift env file", probes.Skip, "does not say")
	s.says(t, "drift agents", probes.Skip, "do not say")
}

// deadMesh is one in which every address takes connections and nothing ever
// answers.
func deadMesh(t *testing.T) *Engine {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0") // nobody accepts: the kernel does
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	address := listener.Addr().String()
	m := newMesh(t, "http://"+address, secret.New("k"), "http://"+address, secret.New("k"))
	m.EnvFile = filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(m.EnvFile, []byte("TURN_SERVERS=turn:"+silent.LocalAddr().String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.TURN = probes.Credentials{Username: "u", Password: secret.New("p")}
	m.Sites.Signaling = []SignalingSite{{"one", "ws://" + address}, {"two", "ws://" + address}}
	m.Sites.Balancer = "ws://" + address
	m.Sites.Controller, m.Sites.Witness, m.Sites.Prometheus = service(t, "http://"+address, secret.New("k")), service(t, "http://"+address, secret.New("k")), service(t, "http://"+address, secret.Secret{})
	_, port, _ := strings.Cut(address, ":")
	uri, err := wire.ParseServerURI("turns:127.0.0.1:" + port)
	if err != nil {
		t.Fatal(err)
	}
	uri.Scheme = probes.SchemeTLS
	m.Sites.TLS = []wire.ServerURI{uri}
	return engineOf(t, m)
}

// With everything dead a status ends at its limit, and every part is in it.
func TestStatusOfADeadMesh(t *testing.T) {
	t.Parallel()
	e := deadMesh(t)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 500*time.Millisecond, errors.New("no answer within 500ms"))
	defer cancel()
	s := e.Status(ctx)
	if s.Verdict != probes.Fail && s.Verdict != probes.Unknown {
		t.Errorf("verdict %s", s.Verdict)
	}
	kinds := map[string]bool{}
	for _, p := range s.Parts {
		kinds[p.Kind] = true
		good := p.Verdict == probes.Pass && p.Kind != PartRuns && p.Kind != PartAudit
		if good || p.Summary == "" || strings.Contains(p.Summary, "context deadline exceeded") {
			t.Errorf("%+v", p)
		}
	}
	if len(kinds) != 13 {
		t.Errorf("parts %v", kinds)
	}
}

func TestStatusOfRuns(t *testing.T) {
	t.Parallel()
	e, l := witnessMesh(t, lab.Options{})
	inject(t, l, "witness-down", "")
	if _, err := e.Validate(t.Context(), ValidateRequest{Scenario: "A", Phase: PhaseImmediate}); err != nil {
		t.Fatal(err)
	}
	s := (&survey{engine: e, mesh: e.Mesh}).runParts(t.Context())
	if s[0].Verdict != probes.Pass || s[1].Verdict != probes.Warn || !strings.Contains(s[1].Summary, "events are not delivered") {
		t.Errorf("%+v", s)
	}
	stamp := e.Stamp
	stamp.Run = NewRunID()
	j, err := witnessclient.CreateJournal(journalPath(e.StateDir, stamp.Run), stamp)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(witnessclient.Event{Name: witnessclient.RunStarted, Metadata: fields(startRecord{Runbook: TurnRecoverName, Changes: true})}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	s = (&survey{engine: e, mesh: e.Mesh}).runParts(t.Context())
	if s[0].Verdict != probes.Warn || !strings.Contains(s[0].Summary, "1 unfinished run: "+stamp.Run) {
		t.Errorf("%+v", s[0])
	}
}
