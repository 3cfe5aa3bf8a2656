package main

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/runbooks/targets"
)

// setting is one value that holds, and where it comes from.
type setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

func newConfigShowCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show every value that holds, and where it comes from",
		Long: `show lists every value with its source: a line of the configuration, "default", an
environment variable or a file. Keys and passwords are shown as [redacted] when they
are there. Nothing is sent.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error { return a.runConfigShow() },
	}
}

func (a *app) runConfigShow() error {
	c, err := a.loadConfig()
	if err != nil {
		return err
	}
	settings := a.settings(c)
	return a.show(map[string]any{"path": c.path, "settings": settings}, func(p *page) {
		width := 0
		for _, s := range settings {
			width = max(width, len(s.Key))
		}
		p.line("configuration %s", c.path)
		for _, s := range settings {
			p.line("%-*s  %-44s %s", width, s.Key, oneLine(s.Value), p.dim(s.Source))
		}
	})
}

// settings lists all values, then what is known of the secrets.
func (a *app) settings(c config) []setting {
	c.Thresholds, c.Timings = c.Thresholds.effective(), c.Timings.effective()
	l := settingList{places: c.places()}
	l.walk("", reflect.ValueOf(c))
	env, err := targets.ReadEnvFile(c.TURN.EnvFile)
	if here := err == nil && c.TURN.Host == ""; here {
		l.all = append(l.all, a.envFileSettings(c, env)...)
	}
	for _, s := range c.secrets() {
		value, source := a.secretState(s)
		if s.key == "turn.password" && value != "[redacted]" && err == nil && has(env, "TURN_PASSWORD") {
			value, source = "[redacted]", "TURN_PASSWORD of the env file"
		}
		l.all = append(l.all, setting{s.key, value, source})
	}
	return l.all
}

// envFileSettings are what the mesh's own env file says where the
// configuration says nothing.
func (a *app) envFileSettings(c config, env targets.EnvFile) []setting {
	var all []setting
	if name := a.getenv("MESHCTL_TURN_USERNAME"); c.TURN.Username == "" && name != "" {
		all = append(all, setting{"turn.username", name, "environment MESHCTL_TURN_USERNAME"})
	} else if name, _ := env.Value("TURN_USERNAME"); c.TURN.Username == "" && len(c.TURN.REST.Secrets) == 0 && name != "" {
		all = append(all, setting{"turn.username", name, "TURN_USERNAME of the env file"})
	}
	if policy, _ := env.Value("ICE_TRANSPORT_POLICY"); c.Agents.RelayOnly == nil && policy != "" {
		all = append(all, setting{"agents.relay_only", fmt.Sprint(policy == "relay"), "ICE_TRANSPORT_POLICY of the env file"})
	}
	return all
}

type settingList struct {
	places configPlaces
	all    []setting
}

// walk follows the structure of the configuration by its YAML names.
func (l *settingList) walk(key string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if b, ok := reflect.TypeAssert[*bool](v); ok && b != nil { // false is said too
			l.add(key, fmt.Sprint(*b))
		} else if !v.IsNil() {
			l.walk(key, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Tag.Get("yaml"); name != "" {
				l.walk(strings.TrimPrefix(key+"."+name, "."), v.Field(i))
			}
		}
	case reflect.Slice:
		if words, ok := reflect.TypeAssert[[]string](v); ok {
			l.add(key, strings.Join(words, " "))
			return
		}
		for i := range v.Len() {
			l.walk(fmt.Sprintf("%s[%d]", key, i), v.Index(i))
		}
	default:
		if d, ok := reflect.TypeAssert[duration](v); ok {
			l.add(key, strings.TrimPrefix(time.Duration(d).String(), "0s"))
		} else if number, ok := reflect.TypeAssert[float64](v); ok && number != 0 {
			l.add(key, strconv.FormatFloat(number, 'g', 6, 64))
		} else if !v.IsZero() {
			l.add(key, fmt.Sprint(v.Interface()))
		}
	}
}

func (l *settingList) add(key, value string) {
	if value == "" {
		return
	}
	source := "default"
	if place, found := l.places.of(key); found {
		source = place
	}
	l.all = append(l.all, setting{key, value, source})
}

// secretPlace is where one secret of the configuration is looked for.
type secretPlace struct{ key, env, file string }

// secrets lists every secret that the configuration speaks of.
func (c *config) secrets() []secretPlace {
	all := []secretPlace{
		{"controller.key", c.Controller.KeyEnv, c.Controller.KeyFile},
		{"witness.key", c.Witness.KeyEnv, c.Witness.KeyFile},
		{"prometheus.key", c.Prometheus.KeyEnv, c.Prometheus.KeyFile},
		{"turn.password", c.TURN.PasswordEnv, c.TURN.PasswordFile},
	}
	for i, s := range c.TURN.REST.Secrets {
		all = append(all, secretPlace{fmt.Sprintf("turn.rest.secrets[%d]", i), s.Env, s.File})
	}
	for _, route := range []struct {
		name    string
		targets []notifyTarget
	}{{"routes", c.Notify.Routes}, {"security", c.Notify.Security}} {
		for i, t := range route.targets {
			key := fmt.Sprintf("notify.%s[%d]", route.name, i)
			if t.Type == "pagerduty" {
				all = append(all, secretPlace{key + ".key", t.KeyEnv, t.KeyFile})
			} else {
				all = append(all, secretPlace{key + ".url", t.URLEnv, t.URLFile})
			}
		}
	}
	return all
}

// secretState says whether a secret is there, and never what it is.
func (a *app) secretState(s secretPlace) (value, source string) {
	if s.env != "" && a.getenv(s.env) != "" {
		return "[redacted]", "environment " + s.env
	}
	value = "(not set)"
	switch key, err := a.readSecret("", s.file); {
	case err != nil:
		value = "(cannot be read)"
	case !key.Empty():
		value = "[redacted]"
	}
	if s.file != "" {
		return value, "file " + filepath.Clean(s.file)
	}
	if s.env != "" {
		return value, "environment " + s.env
	}
	return value, "nothing configured"
}
