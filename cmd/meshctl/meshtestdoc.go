package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks"
)

// deliveryDoc is the JSON of a delivery test. With --each-turn there is one
// part for every TURN server, else one without a server.
type deliveryDoc struct {
	Run         string         `json:"run"`
	Verdict     probes.Verdict `json:"verdict"`
	Summary     string         `json:"summary"`
	Hint        string         `json:"hint"`
	Interrupted bool           `json:"interrupted"`
	Complete    bool           `json:"complete"`
	Path        string         `json:"path"`
	Size        int            `json:"size_bytes"`
	RatePerS    float64        `json:"rate_per_s"`
	DurationS   float64        `json:"duration_s"`
	Parts       []partDoc      `json:"parts"`

	worst string // TURN server of the part that decided
}

type partDoc struct {
	TURNServer string                     `json:"turn_server,omitempty"`
	Verdict    probes.Verdict             `json:"verdict"`
	Summary    string                     `json:"summary"`
	Hint       string                     `json:"hint"`
	Complete   bool                       `json:"complete"`
	Facts      map[string]any             `json:"facts"`
	Problems   []runbooks.DeliveryProblem `json:"problems"`
	Paths      []pathDoc                  `json:"paths"`
	Pairs      []pairDoc                  `json:"pairs"`
}

type tallyDoc struct {
	Sent       int     `json:"sent"`
	Refused    int     `json:"refused"`
	Received   int     `json:"received"`
	Lost       int     `json:"lost"`
	Duplicated int     `json:"duplicated"`
	Reordered  int     `json:"reordered"`
	Corrupt    int     `json:"corrupt"`
	P50MS      float64 `json:"latency_p50_ms"`
	P95MS      float64 `json:"latency_p95_ms"`
	P99MS      float64 `json:"latency_p99_ms"`
}

type pathDoc struct {
	Path       string `json:"path"`
	TURNServer string `json:"turn_server,omitempty"`
	Pairs      int    `json:"pairs"`
	tallyDoc
}

type pairDoc struct {
	From       string `json:"from"`
	To         string `json:"to"`
	Connected  bool   `json:"connected"`
	Error      string `json:"error,omitempty"`
	Path       string `json:"path,omitempty"`
	TURNServer string `json:"turn_server,omitempty"`
	Probes     int    `json:"probes"` // single packets that nothing sends again
	ProbesLost int    `json:"probes_lost"`
	tallyDoc
}

// newDeliveryDoc is what parts found; cut, if any, says why the last of them
// did not come to its end.
func newDeliveryDoc(spec runbooks.DeliverySpec, parts []runbooks.DeliveryPart, cut string) deliveryDoc {
	doc := deliveryDoc{
		Run: spec.Run, Verdict: probes.Pass, Interrupted: cut != "", Complete: len(parts) > 0,
		Path: spec.Path, Size: spec.Size, RatePerS: 1 / spec.Interval.Seconds(), DurationS: spec.Duration.Seconds(), Parts: []partDoc{},
	}
	good := 0
	for i, part := range parts {
		p := newPartDoc(part)
		if cut != "" && i == len(parts)-1 {
			p.cut(cut)
		}
		doc.Parts = append(doc.Parts, p)
		doc.Complete = doc.Complete && p.Complete
		if p.Verdict == probes.Pass {
			good++
		}
		if doc.Verdict != doc.Verdict.Worse(p.Verdict) || doc.Summary == "" {
			doc.Verdict, doc.Summary, doc.Hint = p.Verdict, p.Summary, p.Hint
			doc.worst = p.TURNServer
		}
	}
	if spec.EachTURN {
		doc.Summary = doc.eachSummary(good)
	}
	if len(parts) == 0 && cut != "" {
		doc.Verdict, doc.Summary = probes.Unknown, cut+"; nothing was measured"
	}
	return doc
}

// eachSummary counts the servers and names the worst one.
func (doc deliveryDoc) eachSummary(good int) string {
	text := fmt.Sprintf("%d of %d TURN servers deliver well", good, len(doc.Parts))
	if doc.Interrupted {
		text = fmt.Sprintf("%d TURN servers were tested to the end", len(doc.Parts)-1)
	}
	if doc.Verdict == probes.Pass {
		return text
	}
	return fmt.Sprintf("%s; %s: %s", text, doc.worst, doc.Summary)
}

// cut makes a part one that did not come to its end: never green.
func (p *partDoc) cut(why string) {
	p.Complete = false
	p.Verdict = p.Verdict.Worse(probes.Unknown)
	p.Summary = why + "; until then: " + p.Summary
}

func newPartDoc(part runbooks.DeliveryPart) partDoc {
	p := partDoc{
		TURNServer: part.TURNServer, Verdict: part.Verdict, Summary: part.Summary, Hint: part.Hint, Facts: part.Facts,
		Complete: part.Result.Complete(), Problems: append([]runbooks.DeliveryProblem{}, part.Problems...),
		Paths: []pathDoc{}, Pairs: []pairDoc{},
	}
	for _, r := range part.Result.Paths {
		p.Paths = append(p.Paths, pathDoc{r.Path, r.TURNServer, r.Pairs, newTallyDoc(r.Tally)})
	}
	for _, r := range part.Result.Pairs {
		p.Pairs = append(p.Pairs, pairDoc{r.From, r.To, r.Connected, r.Error, r.Path, r.TURNServer, r.Probes, r.ProbesLost, newTallyDoc(r.Tally)})
	}
	return p
}

func newTallyDoc(t mesh.Tally) tallyDoc {
	return tallyDoc{
		t.Sent, t.Refused, t.Received, t.Lost, t.Duplicated, t.Reordered, t.Corrupt,
		milliseconds(t.LatencyP50), milliseconds(t.LatencyP95), milliseconds(t.LatencyP99),
	}
}

// shownPairs is how many directions a screen shows, the slowest first, unless
// all are asked for.
const shownPairs = 12

func (p *page) delivery(doc deliveryDoc) {
	for _, part := range doc.Parts {
		if part.TURNServer != "" {
			p.line("%s %s", p.verdict(part.Verdict), part.TURNServer)
		}
		p.directions(part.Pairs)
		for _, path := range part.Paths {
			p.line("  %s: %d directions, %s", pathText(path.Path, path.TURNServer), path.Pairs, tallyText(path.tallyDoc))
		}
		for _, problem := range part.Problems {
			p.line("%s %s -> %s: %s", p.verdict(problem.Verdict), ordinal(problem.From), ordinal(problem.To), problem.Summary)
		}
		if part.TURNServer != "" {
			p.line("  %s", part.Summary)
		}
	}
	p.line("%s %s", p.verdict(doc.Verdict), doc.Summary)
	if doc.Hint != "" {
		p.line("%s %s", p.dim("hint:"), doc.Hint)
	}
}

// directions shows those that are connected; the others are problems.
func (p *page) directions(pairs []pairDoc) {
	pairs = slices.DeleteFunc(slices.Clone(pairs), func(d pairDoc) bool { return !d.Connected })
	if hidden := len(pairs) - shownPairs; hidden > 0 && !p.verbose {
		slices.SortStableFunc(pairs, func(x, y pairDoc) int { return cmp.Compare(y.P95MS, x.P95MS) })
		pairs = pairs[:shownPairs]
		defer p.line("  %s", p.dim(fmt.Sprintf("and %d directions that were faster; --verbose shows them", hidden)))
	}
	for _, d := range pairs {
		p.line("  %s -> %s  %s by %s", ordinal(d.From), ordinal(d.To), tallyText(d.tallyDoc), pathText(d.Path, d.TURNServer))
	}
}

// ordinal is the end of a test agent's name, which is all that differs.
func ordinal(agent string) string { return agent[strings.LastIndex(agent, "-")+1:] }

func tallyText(t tallyDoc) string {
	text := fmt.Sprintf("%d/%d, p50 %.1f, p95 %.1f, p99 %.1f ms", t.Received, t.Sent, t.P50MS, t.P95MS, t.P99MS)
	if t.Duplicated+t.Reordered+t.Corrupt > 0 {
		text += fmt.Sprintf(", %d duplicated, %d out of order, %d corrupt", t.Duplicated, t.Reordered, t.Corrupt)
	}
	return text
}

func pathText(path, server string) string {
	if server == "" {
		return path
	}
	return path + " " + server
}

// deliverySuite is a delivery test for CI: one case a direction, and one a
// part for what concerns all of it.
func deliverySuite(doc deliveryDoc) suite {
	s := suite{name: "meshctl mesh test"}
	for i, part := range doc.Parts {
		class := part.TURNServer
		if class == "" {
			class = fmt.Sprintf("part-%d", i+1)
		}
		s.cases = append(s.cases, testCase{class: class, name: "delivery", verdict: part.Verdict, summary: part.Summary, hint: part.Hint})
		for _, pair := range part.Pairs {
			// The name is the same in every run, so that a CI system knows it again.
			c := testCase{class: class, name: ordinal(pair.From) + " -> " + ordinal(pair.To), verdict: probes.Pass, summary: tallyText(pair.tallyDoc)}
			for _, problem := range part.Problems {
				if problem.From == pair.From && problem.To == pair.To {
					c.verdict, c.summary = problem.Verdict, problem.Summary
				}
			}
			s.cases = append(s.cases, c)
		}
	}
	if len(s.cases) == 0 {
		s.cases = append(s.cases, testCase{class: "mesh", name: "delivery", verdict: probes.Unknown, summary: doc.Summary})
	}
	return s
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
