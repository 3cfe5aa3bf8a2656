package main

import (
	"context"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/metrics"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks"
	"github.com/infrafabric/meshctl/runbooks/notify"
	"github.com/infrafabric/meshctl/runbooks/targets"
	"github.com/infrafabric/meshctl/witnessclient"
)

// session is a command's view of one mesh.
type session struct {
	config config
	mesh   *runbooks.Mesh
	engine *runbooks.Engine
	notes  *progress
	// notifier tells people of the events of a run.
	notifier *notify.Notifier
	// ended tells that the command was interrupted or had its time.
	ended func() bool
}

// open reads the configuration and makes the clients; nothing is sent yet.
func (a *app) open() (*session, error) {
	c, err := a.loadConfig()
	if err != nil {
		return nil, err
	}
	a.stateDir, a.noConfig = c.StateDir, a.configFile() == ""
	m, err := a.newMesh(c)
	if err != nil {
		return nil, err
	}
	notes := a.progress()
	notifier := a.notifier(c)
	return &session{
		config: c, mesh: m, notes: notes, notifier: notifier,
		ended:  func() bool { return a.ctx != nil && a.ctx.Err() != nil },
		engine: &runbooks.Engine{StateDir: c.stateDir(), Mesh: m, Stamp: a.stamp(), Notify: notes.note, Journalled: notifier.Event},
	}, nil
}

// close drops idle connections and ends a changing line of progress.
func (s *session) close() {
	s.notes.close()
	s.told()
	s.mesh.Controller.Close()
	s.mesh.SignalingStats.Close()
	s.mesh.Witness.Close()
	closeSites(s.mesh.Sites)
	if s.mesh.Metrics != nil {
		s.mesh.Metrics.Close()
	}
}

func (a *app) newMesh(c config) (*runbooks.Mesh, error) {
	m := &runbooks.Mesh{
		Name: c.Mesh, EnvFile: c.TURN.EnvFile, CAFile: c.CAFile, Loopback: c.Agents.Loopback,
		Agent: mesh.DefaultTiming(), Thresholds: c.Thresholds.hold(), Timings: runbooks.DefaultTimings(),
	}
	m.Standby = c.Agents.Standby
	for _, text := range c.Agents.STUNSpare {
		if u, err := wire.ParseServerURI(text); err == nil { // was checked
			m.STUNSpare = append(m.STUNSpare, u)
		}
	}
	if c.Agents.Loopback {
		m.Agent = mesh.LabTiming()
	}
	c.Timings.apply(&m.Timings)
	for _, s := range c.Signaling {
		m.SignalingURLs = append(m.SignalingURLs, s.URL)
	}
	if err := a.addClients(c, m); err != nil {
		return nil, err
	}
	var err error
	if m.Sites, err = a.sites(c); err != nil {
		return nil, err
	}
	return m, a.addTURN(c, m)
}

func (a *app) addClients(c config, m *runbooks.Mesh) error {
	adminKey, err := a.readSecret(c.Controller.KeyEnv, c.Controller.KeyFile)
	if err != nil {
		return err
	}
	witnessKey, err := a.readSecret(c.Witness.KeyEnv, c.Witness.KeyFile)
	if err != nil {
		return err
	}
	if m.Controller, err = control.New(control.Options{URL: c.Controller.URL, AdminKey: adminKey, Insecure: c.Controller.Insecure, CAFile: c.CAFile}); err != nil {
		return usageError("configuration %s: %w", c.path, err)
	}
	if m.SignalingStats, err = control.New(control.Options{Service: "signaling server", URL: c.statsURL(), CAFile: c.CAFile}); err != nil {
		return usageError("configuration %s: %w", c.path, err)
	}
	m.Witness, err = witnessclient.New(witnessclient.Options{URL: c.Witness.URL, APIKey: witnessKey, Insecure: c.Witness.Insecure, CAFile: c.CAFile})
	if err != nil {
		return usageError("configuration %s: %w", c.path, err)
	}
	return a.addPrometheus(c, m)
}

func (a *app) addPrometheus(c config, m *runbooks.Mesh) error {
	if c.Prometheus.URL == "" {
		return nil
	}
	key, err := a.readSecret(c.Prometheus.KeyEnv, c.Prometheus.KeyFile)
	if err != nil {
		return err
	}
	m.Metrics, err = metrics.New(metrics.Options{URL: c.Prometheus.URL, Bearer: key, Insecure: c.Prometheus.Insecure, CAFile: c.CAFile})
	if err != nil {
		return usageError("configuration %s: %w", c.path, err)
	}
	return nil
}

// addTURN takes credentials from the configuration, else from the mesh's own
// env file. A missing file is an answer of the commands that need it.
func (a *app) addTURN(c config, m *runbooks.Mesh) error {
	password, err := a.readSecret(c.TURN.PasswordEnv, c.TURN.PasswordFile)
	if err != nil {
		return err
	}
	username := c.TURN.Username
	if username == "" {
		username = a.getenv("MESHCTL_TURN_USERNAME")
	}
	env, err := targets.ReadEnvFile(c.TURN.EnvFile)
	if err == nil {
		if username == "" {
			username, _ = env.Value("TURN_USERNAME")
		}
		if value, _ := env.Value("TURN_PASSWORD"); password.Empty() {
			password = secret.New(value)
		}
		policy, _ := env.Value("ICE_TRANSPORT_POLICY")
		m.RelayOnly = policy == "relay"
	}
	if c.Agents.RelayOnly != nil {
		m.RelayOnly = *c.Agents.RelayOnly
	}
	m.TURN = probes.Credentials{Username: username, Password: password}
	return a.mintTURN(c, m)
}

// mintTURN makes fresh credentials where a REST secret is configured and the
// environment does not name a user.
func (a *app) mintTURN(c config, m *runbooks.Mesh) error {
	if len(c.TURN.REST.Secrets) == 0 || a.getenv("MESHCTL_TURN_USERNAME") != "" {
		return nil
	}
	keys, err := a.restKeys(c, credentialOptions{})
	if err != nil {
		return err
	}
	m.MintTURN = func(context.Context) (string, secret.Secret, time.Time, error) {
		expires := time.Now().Add(time.Duration(c.TURN.REST.TTL))
		username, password := secret.MintREST(keys[0].key, c.TURN.REST.User, expires)
		return username, password, expires, nil
	}
	m.TURN.Username, m.TURN.Password, _, err = m.MintTURN(context.Background())
	return err
}

// stamp says who acts, and how that is known.
func (a *app) stamp() witnessclient.Stamp {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	name, source := a.operatorName()
	if !strings.Contains(name, "@") {
		name += "@" + host
	}
	return witnessclient.Stamp{Operator: name, OperatorSource: source, Host: host, Version: buildVersion()}
}

func (a *app) operatorName() (name, source string) {
	for _, from := range []struct{ name, source string }{
		{a.operator, "--operator"},
		{a.getenv("MESHCTL_OPERATOR"), "MESHCTL_OPERATOR"},
		{a.getenv("SUDO_USER"), "SUDO_USER"},
	} {
		if from.name != "" {
			return from.name, from.source
		}
	}
	if u, err := user.Current(); err == nil {
		return u.Username, "login"
	}
	return "unknown", "none"
}
