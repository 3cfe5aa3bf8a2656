package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/infrafabric/meshctl/runbooks"
)

// The commented configuration says what holds without it, and every example
// in it is a valid configuration once it is no comment.
func TestCommentedConfiguration(t *testing.T) {
	plain := loadText(t, commentedConfig)
	plain.path, plain.text = "", nil
	defaults := defaultConfig()
	defaults.TURN.EnvFile = plain.TURN.EnvFile // resolved
	if got, want := settingsOf(plain), settingsOf(defaults); got != want {
		t.Errorf("the commented configuration gives\n%s\nand the defaults are\n%s", got, want)
	}
	examples := regexp.MustCompile(`(?m)^#(\S|  )`).ReplaceAllString(commentedConfig, "$1")
	examples = strings.Replace(examples, "  username: meshctl", "", 1)     // goes without turn.rest
	examples = strings.Replace(examples, "  host: ops@controller1", "", 1) // goes with an absolute path
	full := loadText(t, examples)
	if found := full.problems(); len(found) > 0 {
		t.Errorf("examples: %v", found)
	}
	if len(full.Notify.Routes) != 2 || full.Balancer.File == "" || len(full.TURN.REST.Secrets) != 2 {
		t.Errorf("examples that were not read: %+v", full)
	}
}

func settingsOf(c config) string {
	a := &app{getenv: func(string) string { return "" }}
	var b strings.Builder
	for _, s := range a.settings(c) {
		b.WriteString(s.Key + "=" + s.Value + "\n")
	}
	return b.String()
}

func loadText(t *testing.T, text string) config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "meshctl.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := defaultConfig()
	if err := readConfig(path, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// Whatever is in the file, reading it ends with a configuration or one error,
// and every value and place of it can be shown.
func FuzzConfig(f *testing.F) {
	f.Add(commentedConfig)
	f.Add("mesh: a\nsignaling: [{name: x, url: \"wss://x\", restart: {command: [a]}}]\ntimings: {monitor: 5m}\n")
	f.Add("a: &a [*a]\n")
	f.Add("turn: !!binary x\n? {a: b}\n: c\n")
	f.Add("signaling:\n- null\n- {}\nthresholds: {rtt_relay_warn_ms: .inf}\n")
	a := &app{getenv: func(string) string { return "" }}
	f.Fuzz(func(t *testing.T, text string) {
		c := defaultConfig()
		if parseConfig("fuzz.yaml", []byte(text), &c) != nil || len(text) > 4096 {
			return
		}
		c.path = "fuzz.yaml"
		if len(c.valueChecks()) == 0 && c.check() != nil {
			t.Error("check and problems do not agree")
		}
		c.TURN.EnvFile, c.TURN.PasswordFile = "", "" // the fuzzer reads no files
		c.Controller.KeyFile, c.Witness.KeyFile, c.Prometheus.KeyFile, c.TURN.REST.Secrets, c.Notify = "", "", "", nil, notifyConfig{}
		a.settings(c)
	})
}

// The thresholds that the commented configuration shows are those that hold
// without one.
func TestThresholdsShownAreTheDefaults(t *testing.T) {
	_, text, _ := strings.Cut(commentedConfig, "\n#thresholds:\n")
	text, _, _ = strings.Cut(text, "\n\n")
	var shown config
	if err := parseConfig("shown.yaml", []byte("thresholds:\n"+strings.ReplaceAll(text, "#  ", "  ")), &shown); err != nil {
		t.Fatal(err)
	}
	fields := reflect.ValueOf(shown.Thresholds)
	for i := range fields.NumField() {
		if fields.Field(i).IsNil() {
			t.Errorf("%s is not shown", fields.Type().Field(i).Name)
		}
	}
	near := cmpopts.EquateApprox(0, 0.001)
	if diff := cmp.Diff(runbooks.DefaultThresholds(), shown.Thresholds.hold(), near); diff != "" {
		t.Error(diff)
	}
}

// The commented configuration names every key, but for what only a lab sets,
// and windows that only a rehearsal changes.
func TestEveryKeyIsExplained(t *testing.T) {
	var walk func(reflect.Type)
	walk = func(of reflect.Type) {
		for of.Kind() == reflect.Slice || of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct || of == reflect.TypeFor[timingsConfig]() || of == reflect.TypeFor[labConfig]() {
			return
		}
		for field := range of.Fields() {
			name := field.Tag.Get("yaml")
			if name == "" || name == "loopback" || name == "lab" {
				continue
			}
			if !strings.Contains(commentedConfig, name+":") && !strings.Contains(commentedConfig, name+"\n") {
				t.Errorf("nothing explains %s", name)
			}
			walk(field.Type)
		}
	}
	walk(reflect.TypeFor[config]())
}
