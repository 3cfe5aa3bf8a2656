package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"github.com/tidwall/gjson"

	"github.com/infrafabric/meshctl/mesh/lab"
)

func newLabCmd(a *app) *cobra.Command {
	return group("lab", "A whole mesh on this machine, with faults on demand", newLabUpCmd(a), newLabFaultCmd(a), newLabStateCmd(a))
}

type labOptions struct {
	agents            int
	turn, dir         string
	registry, metrics string
	lb                string
	media, direct     bool
	seedOnly, noDedup bool
	scale             float64
	faults            []string
}

func newLabUpCmd(a *app) *cobra.Command {
	o := labOptions{registry: "shared", lb: "none", metrics: "none"}
	cmd := &cobra.Command{
		Use: "up", Short: "Run a mesh on loopback in the foreground until interrupted",
		Long: `up starts TURN servers, signaling servers, a controller, a witness and agents with
steady traffic, all on 127.0.0.1, and writes a configuration, so that every command
works on the lab exactly as on a real mesh.

Faults (also while it runs, with "meshctl lab fault"):
` + faultTable(),
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runLab(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.IntVar(&o.agents, "agents", 4, "`NUMBER` of agents, 0 to 16")
	turnFlag(cmd, &o.turn)
	choiceFlag(cmd, &o.registry, "registry", "`KIND` of registry of the three signaling servers: shared, or separate for each", "shared", "separate")
	choiceFlag(cmd, &o.lb, "lb", "`BALANCER` in front of the signaling servers: none, or nginx (Debian's), which the agents then use", "none", "nginx")
	choiceFlag(cmd, &o.metrics, "metrics", "`SERVER` of metrics: none, or prometheus (Debian's, from PATH)", "none", "prometheus")
	flags.StringVar(&o.dir, "dir", "", "put configuration, env file and journals into this `DIR` (default: a temporary one)")
	flags.BoolVar(&o.direct, "direct", false, "agents may use direct paths; else they use TURN only")
	flags.BoolVar(&o.media, "media", false, "agents also send each other an Opus track, so that RTP and SRTP exist")
	flags.BoolVar(&o.seedOnly, "seed-only", false, "a bare mesh: /stats with states only, no optional endpoints")
	flags.BoolVar(&o.noDedup, "no-dedup", false, "a witness that takes the same event twice")
	flags.Float64Var(&o.scale, "scale", 1, "`FACTOR` for all windows in the written configuration, such as 0.02")
	flags.StringArrayVar(&o.faults, "fault", nil, "start with this `FAULT[:TARGET]`; may be repeated")
	_ = cmd.RegisterFlagCompletionFunc("fault", completeFaults)
	return cmd
}

func faultTable() string {
	var b strings.Builder
	for _, f := range lab.Faults() {
		fmt.Fprintf(&b, "  %-27s %s\n", f.Name, f.Summary)
	}
	return b.String()
}

func completeFaults(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, f := range lab.Faults() {
		names = append(names, cobra.CompletionWithDesc(f.Name, f.Summary))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// labDoc is what `lab up` says when the lab is ready.
type labDoc struct {
	Dir        string   `json:"dir"`
	Config     string   `json:"config"`
	Controller string   `json:"controller"`
	Signaling  []string `json:"signaling"`
	Balancer   string   `json:"balancer,omitempty"`
	Witness    string   `json:"witness"`
	Prometheus string   `json:"prometheus,omitempty"`
	Control    string   `json:"control"`
	TURN       []string `json:"turn"`
	Spare      string   `json:"spare"`
	Agents     []string `json:"agents"`
}

func (a *app) runLab(ctx context.Context, o labOptions) error {
	if err := checkAgents(max(o.agents, 2)); err != nil {
		return err
	}
	if o.scale <= 0 || o.scale > 1 {
		return usageError("--scale %v: not between 0 and 1", o.scale)
	}
	if o.agents < 0 || o.agents == 1 {
		return usageError("--agents %d: none, or 2 to 16", o.agents)
	}
	if o.dir != "" {
		var err error
		if o.dir, err = filepath.Abs(o.dir); err != nil {
			return usageError("--dir %s: %w", o.dir, err)
		}
	}
	if err := o.checkPrograms(); err != nil {
		return err
	}
	l, err := lab.Start(ctx, lab.Options{
		Dir: o.dir, Agents: o.agents, NoAgents: o.agents == 0, TURN: o.turn, Registry: o.registry, LB: o.lb, Metrics: o.metrics,
		SeedOnly: o.seedOnly, NoDedup: o.noDedup, Media: o.media, Direct: o.direct, Check: turnCheck,
	})
	if err != nil {
		return err
	}
	err = a.serveLab(ctx, l, o)
	if closeErr := l.Close(); err == nil {
		err = closeErr
	}
	return err
}

// checkPrograms tells whether the real servers that were asked for are here.
func (o labOptions) checkPrograms() error {
	if o.lb == "nginx" {
		if _, err := lab.NginxPath(); err != nil {
			return usageError("--lb nginx: no nginx in PATH; install it, or leave the flag out")
		}
	}
	if o.metrics == "prometheus" {
		if _, err := exec.LookPath("prometheus"); err != nil {
			return usageError("--metrics prometheus: no prometheus in PATH; install it, or leave the flag out")
		}
	}
	return nil
}

func (a *app) serveLab(ctx context.Context, l *lab.Lab, o labOptions) error {
	doc, err := writeLabConfig(l, o)
	if err != nil {
		return err
	}
	for _, text := range o.faults {
		name, target, _ := strings.Cut(text, ":")
		if err := l.Inject(ctx, lab.Fault{Name: name, Target: target}); err != nil {
			return usageError("--fault %s: %w", text, err)
		}
	}
	if err := a.show(doc, func(p *page) { p.lab(doc) }); err != nil {
		return err
	}
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, errInterrupted) {
		return cause
	}
	return nil
}

func (p *page) lab(d labDoc) {
	p.line("The lab is up: %d agents, %d TURN servers and a spare. It ends with ^C.", len(d.Agents), len(d.TURN))
	p.line("\nIn another terminal:\n")
	p.line("  export MESHCTL_CONFIG=%s", d.Config)
	p.line("  meshctl turn list")
	p.line("  meshctl lab fault turn-killed")
	failed := d.TURN[0]
	if u, err := url.Parse(failed); err == nil && u.Opaque != "" {
		failed = u.Opaque
	}
	p.line("  meshctl turn recover --failed %s --replacement '%s' --dry-run", failed, d.Spare)
	p.line("  meshctl turn recover --failed %s --replacement '%s' --monitor 20s", failed, d.Spare)
	p.line("  meshctl validate --scenario A")
	p.line("\nFaults: meshctl lab fault --help")
}

// labFile is the configuration that the lab writes.
type labFile struct {
	Mesh       string         `yaml:"mesh"`
	StateDir   string         `yaml:"state_dir"`
	Signaling  []labSignaling `yaml:"signaling"`
	Balancer   *labBalancer   `yaml:"balancer,omitempty"`
	Controller labEndpoint    `yaml:"controller"`
	Witness    labEndpoint    `yaml:"witness"`
	Prometheus labEndpoint    `yaml:"prometheus"`
	TURN       labTURN        `yaml:"turn"`
	Agents     labAgents      `yaml:"agents"`
	Timings    labTimings     `yaml:"timings"`
	Lab        labConfig      `yaml:"lab"`
}

type (
	labSignaling struct {
		Name     string `yaml:"name"`
		URL      string `yaml:"url"`
		StatsURL string `yaml:"stats_url"`
	}
	labBalancer struct {
		URL      string   `yaml:"url"`
		File     string   `yaml:"file"`
		Upstream string   `yaml:"upstream"`
		Test     []string `yaml:"test,flow"`
		Reload   []string `yaml:"reload,flow"`
	}
	labEndpoint struct {
		URL     string `yaml:"url"`
		KeyFile string `yaml:"key_file,omitempty"`
	}
	labTURN struct {
		EnvFile string `yaml:"env_file"`
	}
	labAgents struct {
		RelayOnly bool `yaml:"relay_only"`
		Loopback  bool `yaml:"loopback"`
	}
	labTimings struct {
		Scale float64 `yaml:"scale"`
	}
)

// writeLabConfig writes configuration and key files into the lab's directory.
func writeLabConfig(l *lab.Lab, o labOptions) (labDoc, error) {
	adminKey, witnessKey := filepath.Join(l.Dir, "admin.key"), filepath.Join(l.Dir, "witness.key")
	for path, key := range map[string]string{adminKey: l.AdminKey.Reveal(), witnessKey: l.WitnessKey.Reveal()} {
		if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
			return labDoc{}, fmt.Errorf("write lab configuration: %w", err)
		}
	}
	file := labFile{
		Mesh: "lab", StateDir: filepath.Join(l.Dir, "state"),
		Controller: labEndpoint{l.ControllerURL, adminKey}, Witness: labEndpoint{l.WitnessURL, witnessKey}, Prometheus: labEndpoint{URL: l.PrometheusURL},
		TURN: labTURN{l.EnvFile}, Agents: labAgents{RelayOnly: !o.direct, Loopback: true},
		Timings: labTimings{o.scale}, Lab: labConfig{l.ControlURL},
	}
	if b := l.Balancer; b.URL != "" {
		file.Balancer = &labBalancer{b.URL, b.File, b.Upstream, b.Test, b.Reload}
	}
	for _, s := range l.Signaling {
		file.Signaling = append(file.Signaling, labSignaling{s.Name, s.URL, s.HTTPURL})
	}
	data, err := yaml.Marshal(file)
	if err != nil {
		return labDoc{}, fmt.Errorf("write lab configuration: %w", err)
	}
	doc := labDoc{
		Dir: l.Dir, Config: filepath.Join(l.Dir, "meshctl.yaml"), Balancer: l.Balancer.URL, Controller: l.ControllerURL,
		Witness: l.WitnessURL, Prometheus: l.PrometheusURL, Control: l.ControlURL, Agents: l.Agents,
	}
	for _, s := range l.Signaling {
		doc.Signaling = append(doc.Signaling, s.URL)
	}
	for _, s := range l.TURN {
		if s.InRotation {
			doc.TURN = append(doc.TURN, s.URI.String())
		} else {
			doc.Spare = s.URI.String()
		}
	}
	if err := os.WriteFile(doc.Config, append([]byte("# Written by `meshctl lab up`; valid while it runs.\n"), data...), 0o600); err != nil {
		return labDoc{}, fmt.Errorf("write lab configuration: %w", err)
	}
	return doc, nil
}

func newLabFaultCmd(a *app) *cobra.Command {
	var target string
	var heal bool
	cmd := &cobra.Command{
		Use: "fault NAME [--target TARGET] [--heal]", Short: "Inject a fault into the running lab, or heal it",
		Long: "fault tells the lab that the configuration names. The faults are:\n\n" + faultTable(),
		Args: exactArgs(1, "the name of one fault; what to strike goes with --target"), ValidArgsFunction: completeFaults,
		RunE: func(cmd *cobra.Command, args []string) error {
			path, done := "/lab/faults/"+url.PathEscape(args[0]), "in force"
			if heal {
				path, done = path+"/heal", "healed"
			}
			body, err := a.askLab(cmd.Context(), http.MethodPost, path+"?target="+url.QueryEscape(target))
			if err != nil {
				return err
			}
			return a.show(body, func(p *page) { p.line("%s: %s", strings.TrimSpace(args[0]+" "+target), done) })
		},
	}
	cmd.Flags().StringVar(&target, "target", "", "`TARGET` to strike, such as turn-2 (default: the fault's own)")
	cmd.Flags().BoolVar(&heal, "heal", false, "end the fault")
	return cmd
}

func newLabStateCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "state", Short: "Show the running lab's own counts: traffic, requests, audit events", Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			body, err := a.askLab(cmd.Context(), http.MethodGet, "/lab/state")
			if err != nil {
				return err
			}
			return a.show(body, func(p *page) { p.line("%s", body) })
		},
	}
}

const (
	maxLabReply = 64 << 20         // the log of all requests that a lab keeps
	labTimeout  = 30 * time.Second // coturn takes some seconds to come back
)

// askLab calls the control endpoint of the lab in the configuration.
func (a *app) askLab(ctx context.Context, method, call string) (json.RawMessage, error) {
	c, err := a.loadConfig()
	if err != nil {
		return nil, err
	}
	if c.Lab.ControlURL == "" {
		return nil, &exitError{code: exitUsage, err: errors.New("this configuration is not a lab's"), hints: []string{"meshctl lab up writes one; then export MESHCTL_CONFIG=..."}}
	}
	request, err := http.NewRequestWithContext(ctx, method, c.Lab.ControlURL+call, nil)
	if err != nil {
		return nil, usageError("configuration %s: lab.control_url: %w", c.path, err)
	}
	client := http.Client{Timeout: labTimeout}
	reply, err := client.Do(request)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, &exitError{code: exitUnknown, err: fmt.Errorf("ask lab: %w", err), hints: []string{"is the lab still up?"}}
	}
	defer reply.Body.Close() //nolint:errcheck // was read
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxLabReply))
	switch {
	case err != nil || !json.Valid(body):
		return nil, &exitError{code: exitUnknown, err: fmt.Errorf("ask lab %s: the reply is not JSON or was cut short", c.Lab.ControlURL)}
	case reply.StatusCode != http.StatusOK:
		return nil, usageError("%s", gjson.GetBytes(body, "error"))
	}
	return body, nil
}
