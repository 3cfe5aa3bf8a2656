package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/infrafabric/meshctl/mesh/secret"
)

const (
	maxConfig = 256 << 10
	maxDepth  = 64 // of nesting: the YAML parser needs a gigabyte for a megabyte of brackets
	maxSecret = 64 << 10
)

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

// loadConfig reads the configuration and refuses values that cannot be meant.
func (a *app) loadConfig() (config, error) {
	c, err := a.readConfiguration()
	if err == nil {
		err = c.check()
	}
	return c, err
}

// readConfiguration takes values as they are; without a file the defaults hold.
func (a *app) readConfiguration() (config, error) {
	c := defaultConfig()
	c.path = "(defaults)"
	if path := a.configFile(); path != "" {
		if err := readConfig(path, &c); err != nil {
			return c, err
		}
		c.path = path
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
	data, err := readSmall(path, maxConfig)
	if err != nil {
		return usageError("read configuration %s: %w", path, err)
	}
	return parseConfig(path, data, c)
}

func parseConfig(path string, data []byte, c *config) error {
	if line := tooDeep(data); line > 0 {
		return usageError("read configuration: %s:%d: nested more than %d deep", path, line, maxDepth)
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
	c.text = data
	return nil
}

// tooDeep is the first line nested deeper than any configuration is, 0 for none.
func tooDeep(data []byte) int {
	open := 0
	for i, line := range bytes.Split(data, []byte("\n")) {
		open += bytes.Count(line, []byte("[")) + bytes.Count(line, []byte("{"))
		open = max(open-bytes.Count(line, []byte("]"))-bytes.Count(line, []byte("}")), 0)
		if open > maxDepth || bytes.Count(line, []byte("- "))+bytes.Count(line, []byte("? ")) > maxDepth {
			return i + 1
		}
	}
	return 0
}

// readSmall reads a file that is refused when it is larger than limit. Its
// errors do not repeat the path.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, bareError(err)
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, bareError(err)
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("larger than %d KiB", limit>>10)
	}
	return data, nil
}

// bareError is the cause of a file's error without the path.
func bareError(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
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

// resolve takes relative paths from the directory of the configuration, and
// gives a name to servers that have none.
func (c *config) resolve(dir string) {
	paths := []*string{
		&c.StateDir, &c.CAFile, &c.Controller.KeyFile, &c.Witness.KeyFile, &c.Prometheus.KeyFile, &c.TURN.PasswordFile,
	}
	if c.TURN.Host == "" {
		paths = append(paths, &c.TURN.EnvFile)
	}
	if c.Balancer.Host == "" {
		paths = append(paths, &c.Balancer.File)
	}
	for i := range c.TURN.REST.Secrets {
		paths = append(paths, &c.TURN.REST.Secrets[i].File)
	}
	for i := range c.Certificates {
		if cert := &c.Certificates[i]; cert.Host == "" {
			paths = append(paths, &cert.Cert, &cert.Key)
		}
	}
	for _, route := range [][]notifyTarget{c.Notify.Routes, c.Notify.Security} {
		for i := range route {
			paths = append(paths, &route[i].URLFile, &route[i].KeyFile)
		}
	}
	for _, path := range paths {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	for i := range c.Signaling {
		if c.Signaling[i].Name == "" {
			c.Signaling[i].Name = fmt.Sprintf("signaling-%d", i+1)
		}
	}
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
	if file == "-" {
		return a.readStdin()
	}
	data, err := readSmall(file, maxSecret)
	if err != nil {
		return secret.Secret{}, usageError("read key %s: %w", file, err)
	}
	return secret.New(strings.TrimSpace(string(data))), nil
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
