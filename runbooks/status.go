package runbooks

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/probes"
)

// The kinds of parts that a status has, in the order of a report.
const (
	PartSignaling   = "signaling"
	PartRegistry    = "registry"
	PartController  = "controller"
	PartTURN        = "turn"
	PartSTUN        = "stun"
	PartWitness     = "witness"
	PartPrometheus  = "prometheus"
	PartCertificate = "certificate"
	PartAgents      = "agents"
	PartConnections = "connections"
	PartLatency     = "latency"
	PartRuns        = "runs"
	PartAudit       = "audit"
	PartDrift       = "drift"
)

// Part is one part of the mesh at one moment. Facts are what should stay as it
// is, and Measured what differs every time.
type Part struct {
	Kind     string             `json:"kind"`
	Name     string             `json:"name"`
	Verdict  probes.Verdict     `json:"verdict"`
	Code     string             `json:"code,omitempty"`
	Summary  string             `json:"summary"`
	Hint     string             `json:"hint,omitempty"`
	Facts    map[string]any     `json:"facts"`
	Measured map[string]float64 `json:"measured"`
	TookMS   float64            `json:"took_ms"`
}

// Status is the whole mesh at one moment. Its verdict is the worst of its
// parts: one that failed, else one that could not be determined.
type Status struct {
	Mesh    string         `json:"mesh"`
	At      time.Time      `json:"at"`
	TookMS  float64        `json:"took_ms"`
	Verdict probes.Verdict `json:"verdict"`
	Parts   []Part         `json:"parts"`
}

// survey is one status being found out. What several parts need is asked once.
type survey struct {
	engine *Engine
	mesh   *Mesh
	run    string // of our throw-away agents

	signaling func() []signalingAnswer
	census    func() (*census, error)
	lists     func() turnLists
}

// Status asks every part of the mesh at once. When ctx ends, what has not
// answered by then is reported so: there is always a whole report.
func (e *Engine) Status(ctx context.Context) Status {
	started := time.Now()
	s := &survey{engine: e, mesh: e.Mesh, run: NewRunID()}
	s.signaling = sync.OnceValue(func() []signalingAnswer { return s.askSignaling(ctx) })
	s.census = sync.OnceValues(func() (*census, error) { return e.Mesh.takeCensus(ctx) })
	s.lists = sync.OnceValue(func() turnLists { return e.Mesh.readTURNLists(ctx) })
	questions := []func(context.Context) []Part{
		s.signalingParts, s.controllerPart, s.turnParts, s.stunParts, s.witnessPart, s.prometheusPart, s.certificatePart,
		s.agentsPart, s.connectionsPart, s.latencyPart, s.runParts, s.driftParts,
	}
	answers := make([][]Part, len(questions))
	var asking sync.WaitGroup
	for i, ask := range questions {
		asking.Go(func() { answers[i] = ask(ctx) })
	}
	asking.Wait()
	status := Status{Mesh: e.Mesh.Name, At: started, TookMS: millis(time.Since(started)), Verdict: probes.Skip, Parts: []Part{}}
	for _, parts := range answers {
		for _, p := range parts {
			p.fill()
			status.Verdict = status.Verdict.Worse(p.Verdict)
			status.Parts = append(status.Parts, p)
		}
	}
	return status
}

func (p *Part) fill() {
	if p.Facts == nil {
		p.Facts = map[string]any{}
	}
	if p.Measured == nil {
		p.Measured = map[string]float64{}
	}
}

// ID names the part in a comparison.
func (p Part) ID() string {
	if p.Name == "" {
		return p.Kind
	}
	return p.Kind + " " + p.Name
}

// partOf is a probe's report as a part, decided by its worst finding.
func partOf(kind, name string, r probes.Report) Part {
	p := Part{Kind: kind, Name: name, Verdict: r.Verdict, TookMS: millis(r.Took)}
	f, bad := r.Problem()
	if !bad && len(r.Findings) > 0 {
		f = r.Findings[0]
	}
	p.Code, p.Summary = f.Code, f.Summary
	if bad {
		p.Hint = f.Hint
	}
	return p
}

// partFrom is a finding as a part.
func partFrom(kind, name string, f probes.Finding) Part {
	return Part{Kind: kind, Name: name, Verdict: f.Verdict, Code: f.Code, Summary: f.Summary, Hint: f.Hint}
}

func unknownPart(kind string, err error) Part {
	return Part{Kind: kind, Verdict: probes.Unknown, Summary: err.Error()}
}

// partOfAnswer is a validation's answer as a part.
func partOfAnswer(kind, name string, a answer) Part {
	return Part{Kind: kind, Name: name, Verdict: a.verdict, Summary: a.summary, Hint: a.hint}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
