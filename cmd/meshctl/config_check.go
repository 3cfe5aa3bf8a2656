package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/infrafabric/meshctl/mesh/httpapi"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks/notify"
	"github.com/infrafabric/meshctl/runbooks/targets"
)

// configCheck is one thing that a configuration needs.
type configCheck struct {
	Key     string         `json:"key"`
	Verdict probes.Verdict `json:"verdict"`
	Summary string         `json:"summary"`
}

func newConfigCheckCmd(a *app) *cobra.Command {
	var online bool
	cmd := &cobra.Command{
		Use: "check", Short: "Check the whole configuration: values, files, secrets",
		Long: `check looks at every value, and whether the files can be read and the secrets are
there. With --online it also connects to every address.

Exit status: 0 all is well, 2 a value cannot be meant, 3 something is missing or
does not answer.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runConfigCheck(cmd.Context(), online) },
	}
	cmd.Flags().BoolVar(&online, "online", false, "also connect to every address")
	return cmd
}

func (a *app) runConfigCheck(ctx context.Context, online bool) error {
	c, err := a.readConfiguration()
	if err != nil {
		return err
	}
	code, checks := exitOK, c.valueChecks()
	if len(checks) > 0 {
		code = exitUsage
	} else {
		checks = a.checkFiles(c)
		if online {
			checks = append(checks, checkAddresses(ctx, c)...)
		}
		verdict := probes.Pass
		for _, k := range checks {
			verdict = verdict.Worse(k.Verdict)
		}
		code = verdictCode(verdict, "unknown")
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	doc := map[string]any{"path": c.path, "checks": checks, "exit_code": code}
	if err := a.show(doc, func(p *page) { p.configChecks(c, checks, code) }); err != nil {
		return err
	}
	return withCode(code)
}

func (p *page) configChecks(c config, checks []configCheck, code int) {
	p.line("configuration %s", c.path)
	for _, k := range checks {
		p.line("%s %-28s %s", p.verdict(k.Verdict), k.Key, oneLine(k.Summary))
	}
	switch code {
	case exitOK:
		p.line("%s the configuration is whole", p.verdict(probes.Pass))
	case exitUsage:
		p.line("%s the configuration is not used: correct it first", p.verdict(probes.Fail))
	default:
		p.line("%s something is missing", p.verdict(probes.Fail))
	}
}

// valueChecks are the values that cannot be meant, with their places.
func (c *config) valueChecks() []configCheck {
	var checks []configCheck
	places := c.places()
	for _, found := range c.problems() {
		place, _ := places.of(found.key)
		checks = append(checks, configCheck{found.key, probes.Fail, place + ": " + found.text})
	}
	return checks
}

// checkFiles looks whether what the configuration names is there.
func (a *app) checkFiles(c config) []configCheck {
	checks := []configCheck{fileCheck("state_dir", "", c.StateDir, func() error { return writable(c.StateDir) })}
	if c.CAFile != "" {
		checks = append(checks, fileCheck("ca_file", "", c.CAFile, func() error {
			_, err := httpapi.LoadRoots(c.CAFile)
			return err
		}))
	}
	checks = append(checks, fileCheck("turn.env_file", c.TURN.Host, c.TURN.EnvFile, func() error {
		_, err := targets.ReadEnvFile(c.TURN.EnvFile)
		return err
	}))
	if c.Balancer.File != "" {
		checks = append(checks, fileCheck("balancer.file", c.Balancer.Host, c.Balancer.File, func() error {
			_, err := readSmall(c.Balancer.File, maxConfig)
			return err
		}))
	}
	for i, cert := range c.Certificates {
		checks = append(checks, fileCheck(fmt.Sprintf("certificates[%d]", i), cert.Host, cert.Cert, func() error {
			_, err := tls.LoadX509KeyPair(cert.Cert, cert.Key)
			return err
		}))
	}
	return append(checks, a.checkSecrets(c)...)
}

func fileCheck(key, host, path string, read func() error) configCheck {
	if host != "" {
		return configCheck{key, probes.Skip, path + " on " + host + " was not looked at"}
	}
	if err := read(); err != nil {
		return configCheck{key, probes.Fail, err.Error()}
	}
	return configCheck{key, probes.Pass, path}
}

// writable tries the directory, or the nearest one above that is there.
func writable(dir string) error {
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			return fmt.Errorf("%s: not a directory", dir)
		case err == nil:
			f, err := os.CreateTemp(dir, ".meshctl-check-")
			if err != nil {
				return err
			}
			_ = f.Close()
			return os.Remove(f.Name())
		case !os.IsNotExist(err) || dir == filepath.Dir(dir):
			return err
		}
		dir = filepath.Dir(dir)
	}
}

func (a *app) checkSecrets(c config) []configCheck {
	env, envErr := targets.ReadEnvFile(c.TURN.EnvFile)
	var checks []configCheck
	for _, s := range c.secrets() {
		value, source := a.secretState(s)
		k := configCheck{s.key, probes.Pass, "from " + source}
		switch {
		case strings.HasSuffix(s.key, ".url"):
			if err := notify.CheckURL(a.optionalSecret(s.env, s.file)); err != nil {
				k.Verdict, k.Summary = probes.Fail, err.Error()+": "+source
			}
		case value == "[redacted]":
		case s.key == "turn.password" && len(c.TURN.REST.Secrets) > 0:
			k.Verdict, k.Summary = probes.Skip, "credentials are minted"
		case s.key == "turn.password" && s.file == "" && envErr == nil && has(env, "TURN_PASSWORD"):
			k.Summary = "from the env file"
		case s.env == "" && s.file == "":
			k.Verdict, k.Summary = probes.Skip, "none is configured"
		default:
			k.Verdict, k.Summary = probes.Fail, value+": "+source
		}
		checks = append(checks, k)
	}
	return checks
}

func has(env targets.EnvFile, key string) bool {
	value, _ := env.Value(key)
	return value != ""
}

// dialTimeout bounds one connection of an online check.
const dialTimeout = 5 * time.Second

// checkAddresses connects to every address over TCP, all at once.
func checkAddresses(ctx context.Context, c config) []configCheck {
	type address struct{ key, url string }
	all := []address{{"controller.url", c.Controller.URL}, {"witness.url", c.Witness.URL}, {"prometheus.url", c.Prometheus.URL}, {"balancer.url", c.Balancer.URL}}
	for i, s := range c.Signaling {
		all = append(all, address{fmt.Sprintf("signaling[%d].url", i), s.URL})
	}
	checks := make([]configCheck, len(all))
	var group errgroup.Group
	for i, at := range all {
		group.Go(func() error {
			checks[i] = dial(ctx, at.key, at.url)
			return nil
		})
	}
	_ = group.Wait() // none fails
	return checks
}

func dial(ctx context.Context, key, text string) configCheck {
	u, err := url.Parse(text)
	if text == "" || err != nil {
		return configCheck{key, probes.Skip, "none is configured"}
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "ws": "80"}[u.Scheme]
	}
	if port == "" {
		port = "443"
	}
	ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout, fmt.Errorf("no connection within %s", dialTimeout))
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return configCheck{key, probes.Fail, text + ": " + err.Error()}
	}
	_ = conn.Close()
	return configCheck{key, probes.Pass, text + " takes connections"}
}
