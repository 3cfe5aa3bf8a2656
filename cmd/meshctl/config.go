package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/runbooks"
)

// config is one mesh's configuration file. Addresses left out are the ones
// the mesh's procedures were written with.
type config struct {
	Mesh       string            `yaml:"mesh"`
	StateDir   string            `yaml:"state_dir"`
	CAFile     string            `yaml:"ca_file"`
	Signaling  []signalingConfig `yaml:"signaling"`
	Controller endpointConfig    `yaml:"controller"`
	Witness    endpointConfig    `yaml:"witness"`
	TURN       turnConfig        `yaml:"turn"`
	Agents     agentsConfig      `yaml:"agents"`
	Thresholds thresholdsConfig  `yaml:"thresholds"`
	Timings    timingsConfig     `yaml:"timings"`
	Lab        labConfig         `yaml:"lab"`

	path string // where it was read, for errors
}

// signalingConfig is one signaling server by its own address, not the balancer's.
type signalingConfig struct {
	Name     string `yaml:"name"`
	URL      string `yaml:"url"`
	StatsURL string `yaml:"stats_url"`
}

// endpointConfig is an HTTP service and where its key is; the key itself
// never stands in the file.
type endpointConfig struct {
	URL      string `yaml:"url"`
	KeyEnv   string `yaml:"key_env"`
	KeyFile  string `yaml:"key_file"`
	Insecure bool   `yaml:"insecure"`
}

type turnConfig struct {
	EnvFile      string `yaml:"env_file"`
	Username     string `yaml:"username"`
	PasswordEnv  string `yaml:"password_env"`
	PasswordFile string `yaml:"password_file"`
}

type agentsConfig struct {
	RelayOnly *bool `yaml:"relay_only"`
	Loopback  bool  `yaml:"loopback"`
}

// thresholdsConfig overrides single defaults.
type thresholdsConfig struct {
	SuccessRateWarn     *float64 `yaml:"success_rate_warn_percent"`
	SuccessRateFail     *float64 `yaml:"success_rate_fail_percent"`
	FailedConnections   *int     `yaml:"failed_connections"`
	ErrorsPerWindow     *int     `yaml:"errors_per_window"`
	RTTDirectWarn       *float64 `yaml:"rtt_direct_warn_ms"`
	RTTDirectFail       *float64 `yaml:"rtt_direct_fail_ms"`
	RTTRelayWarn        *float64 `yaml:"rtt_relay_warn_ms"`
	RTTRelayFail        *float64 `yaml:"rtt_relay_fail_ms"`
	MessageLossWarn     *float64 `yaml:"message_loss_warn_percent"`
	MessageLossFail     *float64 `yaml:"message_loss_fail_percent"`
	DeliveryLatencyWarn *float64 `yaml:"delivery_latency_warn_ms"`
	DeliveryLatencyFail *float64 `yaml:"delivery_latency_fail_ms"`
}

// timingsConfig overrides single windows. Scale shrinks all of them, for
// rehearsals only.
type timingsConfig struct {
	Scale        float64       `yaml:"scale"`
	Monitor      time.Duration `yaml:"monitor"`
	ErrorWindow  time.Duration `yaml:"error_window"`
	Delivery     time.Duration `yaml:"delivery"`
	StepDeadline time.Duration `yaml:"step_deadline"`
}

// labConfig is set by `meshctl lab up` for `meshctl lab fault`.
type labConfig struct {
	ControlURL string `yaml:"control_url"`
}

const maxConfig = 1 << 20

func defaultConfig() config {
	return config{
		Mesh:       "infrafabric",
		Signaling:  []signalingConfig{{Name: "signaling", URL: "wss://signaling.infrafabric.local:8443"}},
		Controller: endpointConfig{URL: "https://webrtc.infrafabric.local:8443", KeyEnv: "ADMIN_API_KEY"},
		Witness:    endpointConfig{URL: "https://witness.infrafabric.local", KeyEnv: "IF_WITNESS_API_KEY"},
		TURN:       turnConfig{EnvFile: "config/webrtc-production.env", PasswordEnv: "MESHCTL_TURN_PASSWORD"},
	}
}

// configFile is the file to read: the flag, the environment, the working
// directory, the user's; "" when there is none.
func (a *app) configFile() string {
	for _, path := range []string{a.configPath, a.getenv("MESHCTL_CONFIG")} {
		if path != "" {
			return path
		}
	}
	for _, path := range []string{"meshctl.yaml", filepath.Join(a.configHome(), "meshctl", "config.yaml")} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

func (a *app) configHome() string {
	if dir := a.getenv("XDG_CONFIG_HOME"); dir != "" {
		return dir
	}
	return filepath.Join(a.getenv("HOME"), ".config")
}

// loadConfig reads the configuration; without a file the defaults hold.
func (a *app) loadConfig() (config, error) {
	c := defaultConfig()
	c.path = "(defaults)"
	if path := a.configFile(); path != "" {
		if err := readConfig(path, &c); err != nil {
			return c, err
		}
		c.path = path
	}
	if err := c.check(); err != nil {
		return c, err
	}
	if c.StateDir == "" {
		c.StateDir = filepath.Join(a.stateHome(), "meshctl")
	}
	return c, nil
}

func (a *app) stateHome() string {
	if dir := a.getenv("XDG_STATE_HOME"); dir != "" {
		return dir
	}
	return filepath.Join(a.getenv("HOME"), ".local", "state")
}

// readConfig is strict: an unknown key is an error with its line and column.
func readConfig(path string, c *config) error {
	info, err := os.Stat(path)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return usageError("read configuration %s: %w", path, err)
	}
	if info.Size() > maxConfig {
		return usageError("read configuration %s: larger than 1 MiB", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return usageError("read configuration: %w", err)
	}
	// Lists replace the defaults, they do not add to them.
	read := *c
	read.Signaling, read.TURN.EnvFile, read.path = nil, "", ""
	if err := yaml.UnmarshalWithOptions(data, &read, yaml.Strict()); err != nil {
		return yamlError(path, err)
	}
	if reflect.ValueOf(read).IsZero() {
		return nil // an empty file leaves every default
	}
	read.resolve(filepath.Dir(path))
	if read.Signaling == nil {
		read.Signaling = c.Signaling
	}
	if read.TURN.EnvFile == "" {
		read.TURN.EnvFile = c.TURN.EnvFile
	}
	*c = read
	return nil
}

// yamlError names the place and shows no line of the file: a key that does
// not belong there may be a secret that does not either.
func yamlError(path string, err error) error {
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		p := at.GetToken().Position
		return usageError("read configuration: %s:%d:%d: %s", path, p.Line, p.Column, at.GetMessage())
	}
	return usageError("read configuration: %s: %w", path, err)
}

// resolve takes relative paths from the directory of the configuration.
func (c *config) resolve(dir string) {
	for _, path := range []*string{
		&c.StateDir, &c.CAFile, &c.Controller.KeyFile, &c.Witness.KeyFile, &c.TURN.EnvFile, &c.TURN.PasswordFile,
	} {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
}

// check refuses what cannot be meant.
func (c *config) check() error {
	switch {
	case c.Mesh == "" || strings.ContainsAny(c.Mesh, `/\`) || strings.HasPrefix(c.Mesh, "."):
		return usageError("configuration %s: mesh: %q is not a name", c.path, c.Mesh)
	case len(c.Signaling) == 0:
		return usageError("configuration %s: signaling: no server", c.path)
	case c.Timings.Scale < 0 || c.Timings.Scale > 1:
		return usageError("configuration %s: timings.scale: %v is not between 0 and 1", c.path, c.Timings.Scale)
	}
	for i, s := range c.Signaling {
		if !strings.HasPrefix(s.URL, "ws://") && !strings.HasPrefix(s.URL, "wss://") {
			return usageError("configuration %s: signaling[%d].url: %q is not a ws:// or wss:// address", c.path, i, s.URL)
		}
	}
	return nil
}

// readSecret takes a secret from the environment or from a file.
func (a *app) readSecret(env, file string) (secret.Secret, error) {
	if env != "" {
		if value := a.getenv(env); value != "" {
			return secret.New(value), nil
		}
	}
	if file == "" {
		return secret.Secret{}, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return secret.Secret{}, usageError("read key: %w", err)
	}
	return secret.New(strings.TrimSpace(string(data))), nil
}

func (t thresholdsConfig) apply(to *runbooks.Thresholds) {
	for _, f := range []struct{ from, to *float64 }{
		{t.SuccessRateWarn, &to.SuccessRateWarn}, {t.SuccessRateFail, &to.SuccessRateFail},
		{t.RTTDirectWarn, &to.RTTDirectWarn}, {t.RTTDirectFail, &to.RTTDirectFail},
		{t.RTTRelayWarn, &to.RTTRelayWarn}, {t.RTTRelayFail, &to.RTTRelayFail},
		{t.MessageLossWarn, &to.MessageLossWarn}, {t.MessageLossFail, &to.MessageLossFail},
		{t.DeliveryLatencyWarn, &to.DeliveryLatencyWarn}, {t.DeliveryLatencyFail, &to.DeliveryLatencyFail},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	for _, f := range []struct{ from, to *int }{
		{t.FailedConnections, &to.FailedConnections}, {t.ErrorsPerWindow, &to.ErrorsPerWindow},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
}

func (t timingsConfig) apply(to *runbooks.Timings) {
	if t.Scale > 0 {
		to.Scale = t.Scale
	}
	for _, f := range []struct {
		from time.Duration
		to   *time.Duration
	}{
		{t.Monitor, &to.Monitor}, {t.ErrorWindow, &to.ErrorWindow}, {t.Delivery, &to.Delivery}, {t.StepDeadline, &to.StepDeadline},
	} {
		if f.from > 0 {
			*f.to = f.from
		}
	}
}

func (c *config) stateDir() string { return filepath.Join(c.StateDir, c.Mesh) }

// statsURL is the HTTP side of the first signaling server.
func (c *config) statsURL() string {
	s := c.Signaling[0]
	if s.StatsURL != "" {
		return s.StatsURL
	}
	return fmt.Sprintf("http%s", strings.TrimPrefix(s.URL, "ws"))
}
