// Package lab answers: does this really work on a mesh that breaks?
//
// It runs a whole mesh on 127.0.0.1: three TURN servers, signaling, controller,
// witness and agents that send each other numbered messages. Every part can be
// broken on demand, and the receivers count what the users of a mesh would
// have felt.
package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/lab/network"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
)

const (
	defaultAgents   = 4
	maxAgents       = 30
	defaultInterval = 50 * time.Millisecond
	minInterval     = 10 * time.Millisecond
	username        = "lab"
)

// Options say what kind of mesh to start.
type Options struct {
	Dir             string        // for the env file and logs; "" = a temporary one that Close removes
	Agents          int           // 0 = 4
	NoAgents        bool          // servers only
	TURN            string        // "pion" in this process, or "coturn" as child processes; "" = pion
	AllocationLife  time.Duration // of pion's TURN servers, in whole seconds; 0 = 10 min
	Registry        string        // of the signaling servers: "shared", or "separate"; "" = shared
	LB              string        // in front of signaling: "none", or "nginx" as a child process; "" = none
	Metrics         string        // "none", or "prometheus" as a child process; "" = none
	Direct          bool          // agents may use direct paths; else relays only
	Media           bool          // agents also send each other an Opus track of silence
	SeedOnly        bool          // controller and signaling offer only what the oldest servers in the field do
	NoDedup         bool          // the witness stores an event again that it has already
	TrafficInterval time.Duration // between two messages of a direction; 0 = 50 ms
	// Check makes the check of TURN servers that agents use, from the lab's
	// credentials; nil: they do not check.
	Check func(username string, password secret.Secret) mesh.TURNCheck
	// Agent changes what an agent is started with, whose ID is set; nil: nothing,
	// and mesh.LabTiming.
	Agent func(*mesh.AgentOptions)
}

// Lab is a running mesh. Its fields do not change.
type Lab struct {
	Dir              string
	EnvFile          string // the mesh's configuration, KEY=value
	ControllerURL    string
	Signaling        []SignalingServer
	Balancer         Balancer // empty without
	SignalingURL     string   // where the lab's agents register: of the balancer or the first signaling server, ws
	SignalingHTTPURL string
	WitnessURL       string
	PrometheusURL    string // "" without
	ControlURL       string // of the lab itself: /lab/state, /lab/faults
	WitnessFile      string // all events, JSON lines
	AdminKey         secret.Secret
	WitnessKey       secret.Secret
	Username         string // for every TURN server
	Password         secret.Secret
	TURN             []TURNServer // turn-1 and turn-2 in rotation, turn-3 spare
	Agents           []string     // ids

	options Options
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc

	network        *network.Network
	servers        []*turnServer
	witness        *witness
	signaling      []*signalingServer
	controller     *controller
	fleet          *fleet
	metrics        *metrics
	nginx          *nginx      // nil without
	prometheus     *prometheus // nil without
	witnessSite    *site
	controllerSite *site

	flaps   flapping
	faultMu sync.Mutex // one fault is injected or healed at a time
	active  []Fault

	closers   []func() error // run in reverse
	closeOnce sync.Once
	closeErr  error
}

// Start brings the mesh up: when it returns, all agents are registered. Steady
// waits until they are connected. The lab closes when ctx ends.
func Start(ctx context.Context, o Options) (*Lab, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("start lab: %w", err)
	}
	l := &Lab{options: o, network: network.New(networkSeed), Username: username, Password: newKey(), AdminKey: newKey(), WitnessKey: newKey()}
	for i := 1; i <= o.Agents; i++ {
		l.Agents = append(l.Agents, agentID(i))
	}
	l.onClose(l.network.Close)
	l.ctx, l.cancel = context.WithCancel(ctx)
	for _, part := range []func() error{
		l.openDir, l.startTURN, l.startWitness, l.startServers, l.startNginx, l.writeEnvFile, l.startAgents, l.startPrometheus,
	} {
		if err := part(); err != nil {
			return nil, errors.Join(fmt.Errorf("start lab: %w", err), l.Close())
		}
	}
	context.AfterFunc(l.ctx, func() { _ = l.Close() })
	return l, nil
}

func (o *Options) complete() error {
	switch {
	case o.NoAgents:
		o.Agents = 0
	case o.Agents == 0:
		o.Agents = defaultAgents
	case o.Agents < 0 || o.Agents > maxAgents:
		return fmt.Errorf("%d agents: not 1 to %d", o.Agents, maxAgents)
	}
	for _, choice := range []struct {
		what   string
		chosen *string
		of     []string // the first is the default
	}{
		{"TURN server", &o.TURN, []string{"pion", "coturn"}},
		{"registry", &o.Registry, []string{"shared", "separate"}},
		{"balancer", &o.LB, []string{"none", nameNginx}},
		{"metrics", &o.Metrics, []string{"none", "prometheus"}},
	} {
		if *choice.chosen == "" {
			*choice.chosen = choice.of[0]
		}
		if !slices.Contains(choice.of, *choice.chosen) {
			return fmt.Errorf("%s %q: neither %s nor %s", choice.what, *choice.chosen, choice.of[0], choice.of[1])
		}
	}
	if o.TrafficInterval == 0 {
		o.TrafficInterval = defaultInterval
	}
	if o.TrafficInterval < minInterval {
		return fmt.Errorf("traffic interval %s: less than %s", o.TrafficInterval, minInterval)
	}
	return nil
}

func agentID(n int) string { return "agent-" + strconv.Itoa(n) }

func turnName(i int) string { return "turn-" + strconv.Itoa(i+1) }

func (l *Lab) onClose(f func() error) { l.closers = append(l.closers, f) }

func (l *Lab) openDir() (err error) {
	l.Dir = l.options.Dir
	if l.Dir == "" {
		if l.Dir, err = os.MkdirTemp("", "meshctl-lab-"); err != nil {
			return err
		}
		l.onClose(func() error { return os.RemoveAll(l.Dir) })
	}
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return err
	}
	l.EnvFile = filepath.Join(l.Dir, "webrtc-production.env")
	l.WitnessFile = filepath.Join(l.Dir, "witness.jsonl")
	return nil
}

func (l *Lab) startTURN() error {
	firstPort := 12_000 + 3*relayPorts*rand.IntN(6) // below the ports that the kernel gives out
	for i := range 3 {
		name := turnName(i)
		r, err := l.newRelay(name, firstPort+i*relayPorts)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		l.onClose(r.close)
		uri, err := wire.ParseServerURI("turn:" + r.address() + "?transport=udp")
		if err != nil {
			return err
		}
		t := TURNServer{Name: name, URI: uri, InRotation: i < 2}
		l.TURN = append(l.TURN, t)
		if addr, err := netip.ParseAddrPort(r.address()); err == nil {
			l.network.LearnServer(addr, name)
		}
		l.servers = append(l.servers, &turnServer{TURNServer: t, relay: r})
	}
	return nil
}

func (l *Lab) newRelay(name string, firstPort int) (relay, error) {
	c := credentials{l.Username, l.Password}
	if l.options.TURN == "pion" {
		return newPionRelay(c, l.options.AllocationLife, l.network)
	}
	dir, err := os.MkdirTemp(l.Dir, name+"-")
	if err != nil {
		return nil, err
	}
	l.onClose(func() error { return os.RemoveAll(dir) })
	return newCoturnRelay(l.ctx, dir, c, firstPort)
}

func (l *Lab) startWitness() (err error) {
	if l.witness, err = newWitness(l.WitnessFile, l.WitnessKey, l.options.NoDedup); err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	l.onClose(l.witness.file.Close)
	l.witnessSite, err = openSite(l.witness.handler())
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	l.onClose(l.witnessSite.down)
	l.WitnessURL = l.witnessSite.url()
	return nil
}

// startServers starts signaling, the controller and the lab's own control.
func (l *Lab) startServers() (err error) {
	l.fleet = newFleet(l.ctx, l.Agents, l.agentOptions(), l.options.TrafficInterval, l.network)
	l.fleet.edit = l.options.Agent
	if err := l.startSignaling(); err != nil {
		return err
	}
	l.controller = &controller{
		agents: l.fleet, registered: l.registered, key: l.AdminKey, seedOnly: l.options.SeedOnly,
	}
	if l.controllerSite, err = openSite(l.controller.handler()); err != nil {
		return fmt.Errorf("controller: %w", err)
	}
	l.onClose(l.controllerSite.down)
	l.ControllerURL = l.controllerSite.url()
	l.metrics = newMetrics(l.fleet.Links)
	control, err := openSite(l.controlHandler())
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	l.onClose(control.down)
	l.ControlURL = control.url()
	l.observe()
	return nil
}

// observe feeds the metrics until the lab closes.
func (l *Lab) observe() {
	var running sync.WaitGroup
	running.Go(func() { l.metrics.run(l.ctx) })
	l.onClose(func() error { running.Wait(); return nil })
}

func (l *Lab) agentOptions() mesh.AgentOptions {
	o := mesh.AgentOptions{
		Username: l.Username, Password: l.Password, RelayOnly: !l.options.Direct, Loopback: true, Media: l.options.Media,
		Timing: mesh.LabTiming(), Emit: l.witness.add,
	}
	if l.options.Check != nil {
		o.Check = l.options.Check(l.Username, l.Password)
	}
	for _, t := range l.TURN {
		if t.InRotation {
			o.TURNServers = append(o.TURNServers, t.URI)
		}
	}
	return o
}

func (l *Lab) startAgents() error {
	l.onClose(l.flaps.close)
	l.onClose(l.fleet.close)
	for _, id := range l.Agents {
		if err := l.fleet.start(id); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) turnServer(name string) *turnServer {
	i := slices.IndexFunc(l.servers, func(t *turnServer) bool { return t.Name == name })
	return l.servers[i] // the name was checked
}

// Close ends agents, servers and child processes and waits for them. A
// temporary directory is removed.
func (l *Lab) Close() error {
	l.closeOnce.Do(func() {
		l.cancel()
		l.faultMu.Lock() // a fault that is being injected ends now, and none begins
		l.active = nil
		l.faultMu.Unlock()
		var errs []error
		for _, f := range slices.Backward(l.closers) {
			errs = append(errs, f())
		}
		if err := errors.Join(errs...); err != nil {
			l.closeErr = fmt.Errorf("close lab: %w", err)
		}
	})
	return l.closeErr
}

// Requests are the calls that the controller got, oldest first.
func (l *Lab) Requests() []Request { return l.controller.log.all() }

// WitnessCount counts what came to the witness over HTTP.
func (l *Lab) WitnessCount() WitnessCount { return l.witness.count() }

// Links are the links of the lab's agents, each from both ends.
func (l *Lab) Links() []wire.Link { return l.fleet.Links() }

// Delivery counts the traffic between the lab's agents.
func (l *Lab) Delivery() DeliveryCount { return l.fleet.traffic.delivery() }

// Outages gives for every direction between two agents the longest silence at
// the receiver that ended after since. One that lasts for more than a second
// counts as not recovered.
func (l *Lab) Outages(since time.Time) []PairOutage { return l.fleet.traffic.outages(since) }

// Steady waits until every agent is connected to every other and hears from
// it, for d without interruption. The error says what was missing last.
func (l *Lab) Steady(ctx context.Context, d time.Duration) error {
	start := time.Now()
	var since time.Time // zero: not steady
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		missing := l.fleet.unsteady()
		switch {
		case missing != nil:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		}
		if missing == nil && time.Since(since) >= d {
			return nil
		}
		select {
		case <-ctx.Done():
			if missing == nil {
				missing = fmt.Errorf("steady for %s only", time.Since(since).Round(time.Millisecond))
			}
			return fmt.Errorf("mesh not steady after %s: %w (%w)", time.Since(start).Round(time.Millisecond), missing, context.Cause(ctx))
		case <-l.ctx.Done():
			return errClosed
		case <-ticker.C:
		}
	}
}
