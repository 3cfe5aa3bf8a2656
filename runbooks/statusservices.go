package runbooks

import (
	"context"
	"fmt"
	"math"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// turnParts relays through every server that the env file or the controller
// names.
func (s *survey) turnParts(ctx context.Context) []Part {
	lists := s.lists()
	parts := s.probeEach(ctx, PartTURN, unite(lists.file, lists.given))
	if len(parts) == 0 {
		parts = append(parts, Part{Kind: PartTURN, Verdict: probes.Unknown, Summary: "neither the env file nor the controller names a TURN server"})
	}
	return parts
}

// stunParts ask every STUN server that the env file names: it may name none.
func (s *survey) stunParts(ctx context.Context) []Part {
	lists := s.lists()
	if lists.stunErr != nil {
		return []Part{unknownPart(PartSTUN, lists.stunErr)}
	}
	return s.probeEach(ctx, PartSTUN, lists.stun)
}

func (s *survey) probeEach(ctx context.Context, kind string, servers []wire.ServerURI) []Part {
	parts := make([]Part, len(servers))
	var probing sync.WaitGroup
	for i, uri := range servers {
		probing.Go(func() {
			if kind == PartTURN && uri.IsTURN() {
				parts[i] = partOf(kind, uri.String(), s.mesh.turnProbe(uri).Run(ctx))
				return
			}
			parts[i] = partOf(kind, uri.String(), probes.STUN{Target: uri, Roots: s.mesh.Sites.Roots, Limits: s.mesh.Thresholds.Limits}.Run(ctx))
		})
	}
	probing.Wait()
	return parts
}

func (s *survey) witnessPart(ctx context.Context) []Part {
	return []Part{partOf(PartWitness, "", probes.Witness{Service: s.mesh.Sites.Witness}.Run(ctx))}
}

func (s *survey) prometheusPart(ctx context.Context) []Part {
	if s.mesh.Sites.Prometheus.API == nil {
		return []Part{{Kind: PartPrometheus, Verdict: probes.Skip, Summary: "not configured"}}
	}
	return []Part{partOf(PartPrometheus, "", probes.Prometheus{Service: s.mesh.Sites.Prometheus}.Run(ctx))}
}

// certificatePart looks at every certificate that is served; the one that
// expires first is named.
func (s *survey) certificatePart(ctx context.Context) []Part {
	targets := append([]wire.ServerURI{}, s.mesh.Sites.TLS...)
	lists := s.lists()
	for _, uri := range unite(lists.file, lists.given, lists.stun) {
		if uri.Secure() {
			targets = append(targets, uri)
		}
	}
	if len(targets) == 0 {
		return []Part{{Kind: PartCertificate, Verdict: probes.Skip, Summary: "nothing is served over TLS"}}
	}
	reports := make([]probes.Report, len(targets))
	var asking sync.WaitGroup
	for i, target := range targets {
		asking.Go(func() {
			reports[i] = probes.Handshake{Target: target, Roots: s.mesh.Sites.Roots, Limits: s.mesh.Thresholds.Limits}.Run(ctx)
		})
	}
	asking.Wait()
	return []Part{nearestExpiry(targets, reports, time.Now())}
}

func nearestExpiry(targets []wire.ServerURI, reports []probes.Report, now time.Time) Part {
	p := Part{Kind: PartCertificate, Verdict: probes.Skip, Facts: map[string]any{}, Measured: map[string]float64{}}
	nearest, name, problem := time.Time{}, "", ""
	for i, r := range reports {
		address := net.JoinHostPort(targets[i].Host, strconv.Itoa(targets[i].Port))
		if worst, bad := r.Problem(); bad && r.Verdict != p.Verdict && p.Verdict.Worse(r.Verdict) == r.Verdict {
			p.Code, p.Hint, problem = worst.Code, worst.Hint, address+": "+worst.Summary
		}
		p.Verdict = p.Verdict.Worse(r.Verdict)
		for _, f := range r.Findings {
			at, err := time.Parse(time.RFC3339, f.Fact("not_after"))
			if err != nil {
				continue
			}
			p.Facts[address] = f.Fact("not_after")
			if nearest.IsZero() || at.Before(nearest) {
				nearest, name = at, address
			}
		}
	}
	p.Summary = problem
	if !nearest.IsZero() {
		days := math.Floor(nearest.Sub(now).Hours() / 24)
		p.Measured["days_left"] = days
		if problem == "" {
			p.Summary = fmt.Sprintf("the nearest to expire is that of %s, in %.0f days", name, days)
		}
	}
	return p
}
