package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks"
)

func newMeshCmd(a *app) *cobra.Command {
	return group("mesh", "The mesh itself: test message delivery", newMeshTestCmd(a))
}

type meshTestOptions struct {
	agents   int
	duration time.Duration
}

func newMeshTestCmd(a *app) *cobra.Command {
	var o meshTestOptions
	cmd := &cobra.Command{
		Use: "test", Short: "Send messages between throw-away agents and count what arrives",
		Long: `test registers a few agents of its own (meshctl-RUN-N), connects all of them with
each other as agents of this mesh connect, sends numbered and hashed messages both
ways, counts what is lost, duplicated, reordered or corrupt, and leaves. It never
talks to other agents.

Exit status: 0 delivered, 3 not delivered well, 4 could not be determined.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runMeshTest(cmd.Context(), o) },
	}
	cmd.Flags().IntVar(&o.agents, "agents", 3, "`NUMBER` of agents, 2 to 16")
	cmd.Flags().DurationVar(&o.duration, "duration", 30*time.Second, "send for this `LONG`, at most 10m")
	return cmd
}

// deliveryDoc is the JSON of a delivery test.
type deliveryDoc struct {
	Run      string         `json:"run"`
	Verdict  probes.Verdict `json:"verdict"`
	Summary  string         `json:"summary"`
	Hint     string         `json:"hint"`
	Facts    map[string]any `json:"facts"`
	Complete bool           `json:"complete"`
	Pairs    []pairDoc      `json:"pairs"`
}

type pairDoc struct {
	From       string  `json:"from"`
	To         string  `json:"to"`
	Connected  bool    `json:"connected"`
	Error      string  `json:"error,omitempty"`
	Path       string  `json:"path,omitempty"`
	TURNServer string  `json:"turn_server,omitempty"`
	Sent       int     `json:"sent"`
	Received   int     `json:"received"`
	Lost       int     `json:"lost"`
	Duplicated int     `json:"duplicated"`
	Reordered  int     `json:"reordered"`
	Corrupt    int     `json:"corrupt"`
	P50MS      float64 `json:"latency_p50_ms"`
	P95MS      float64 `json:"latency_p95_ms"`
	P99MS      float64 `json:"latency_p99_ms"`
}

func (a *app) runMeshTest(ctx context.Context, o meshTestOptions) error {
	if o.agents < 2 || o.agents > 16 {
		return usageError("--agents %d: not between 2 and 16", o.agents)
	}
	if o.duration <= 0 || o.duration > 10*time.Minute {
		return usageError("--duration %s: not between 0 and 10m", o.duration)
	}
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	run := runbooks.NewRunID()
	stop := s.notes.alive("sending between test agents", o.duration)
	result, err := s.mesh.TestDelivery(ctx, run, o.agents, o.duration)
	stop()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return &exitError{code: exitUnknown, err: err, hints: []string{"the test agents could not join the mesh: nothing was measured"}}
	}
	doc := newDeliveryDoc(run, result, s.mesh.Thresholds)
	if err := a.show(doc, func(p *page) { p.delivery(doc) }); err != nil {
		return err
	}
	return withCode(verdictCode(doc.Verdict, "unknown"))
}

func newDeliveryDoc(run string, r mesh.DeliveryResult, limits runbooks.Thresholds) deliveryDoc {
	check := runbooks.JudgeDelivery(r, limits)
	doc := deliveryDoc{Run: run, Verdict: check.Verdict, Summary: check.Summary, Hint: check.Hint, Facts: check.Facts, Complete: r.Complete(), Pairs: []pairDoc{}}
	for _, p := range r.Pairs {
		doc.Pairs = append(doc.Pairs, pairDoc{
			From: p.From, To: p.To, Connected: p.Connected, Error: p.Error, Path: p.Path, TURNServer: p.TURNServer,
			Sent: p.Sent, Received: p.Received, Lost: p.Lost, Duplicated: p.Duplicated, Reordered: p.Reordered, Corrupt: p.Corrupt,
			P50MS: milliseconds(p.LatencyP50), P95MS: milliseconds(p.LatencyP95), P99MS: milliseconds(p.LatencyP99),
		})
	}
	return doc
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (p *page) delivery(doc deliveryDoc) {
	for _, pair := range doc.Pairs {
		if !pair.Connected {
			p.line("%s %s -> %s: %s", p.verdict(probes.Fail), pair.From, pair.To, pair.Error)
			continue
		}
		p.line("  %s -> %s  %d/%d by %s, p50 %.1f ms, p95 %.1f ms", pair.From, pair.To, pair.Received, pair.Sent, pathText(pair), pair.P50MS, pair.P95MS)
	}
	p.line("%s %s", p.verdict(doc.Verdict), doc.Summary)
	if doc.Hint != "" {
		p.line("%s %s", p.dim("hint:"), doc.Hint)
	}
}

func pathText(pair pairDoc) string {
	if pair.TURNServer == "" {
		return pair.Path
	}
	return pair.Path + " " + pair.TURNServer
}
