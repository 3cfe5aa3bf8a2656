package runbooks

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks/targets"
)

// runParts are the runs in the way, and the evidence that is not delivered.
func (s *survey) runParts(context.Context) []Part {
	runs, err := Runs(s.engine.StateDir)
	if err != nil {
		return []Part{unknownPart(PartRuns, err), unknownPart(PartAudit, err)}
	}
	unfinished := Part{Kind: PartRuns, Verdict: probes.Pass, Summary: "no run is unfinished"}
	audit := Part{Kind: PartAudit, Verdict: probes.Pass, Summary: "every event is delivered"}
	open, undelivered := []string{}, 0
	for _, r := range runs {
		if r.Damage != "" {
			unfinished.Verdict, unfinished.Summary = probes.Unknown, r.Damage
			unfinished.Hint = "the journal was damaged after it was written; keep it as evidence"
		}
		if r.Unfinished() {
			open = append(open, r.Run)
		}
		undelivered += r.Undelivered
	}
	unfinished.Facts, audit.Facts = map[string]any{"unfinished": open}, map[string]any{"undelivered": undelivered}
	if len(open) > 0 {
		unfinished.Verdict = unfinished.Verdict.Worse(probes.Warn)
		unfinished.Summary = count(len(open), "unfinished run: ", "unfinished runs: ") + shorten(open, 2)
		unfinished.Hint = "meshctl runs resume " + open[0] + ", or meshctl runs abort"
	}
	if undelivered > 0 {
		audit.Verdict, audit.Hint = probes.Warn, "meshctl witness flush"
		audit.Summary = count(undelivered, "event is not delivered", "events are not delivered")
	}
	return []Part{unfinished, audit}
}

// driftParts compare what the mesh is configured with, wherever that is
// written or seen.
func (s *survey) driftParts(context.Context) []Part {
	return []Part{s.fileDrift(), s.agentDrift(), s.upstreamDrift()}
}

// fileDrift compares the env file with the list that agents get.
func (s *survey) fileDrift() Part {
	l, p := s.lists(), Part{Kind: PartDrift, Name: "env file"}
	switch {
	case s.mesh.Sites.EnvHost != "":
		p.Verdict, p.Summary = probes.Skip, fmt.Sprintf("not readable from here: %s is on %s", s.mesh.EnvFile, s.mesh.Sites.EnvHost)
	case !l.fileThere:
		p.Verdict, p.Summary = probes.Skip, "no env file is configured"
	case l.fileErr != nil:
		p.Verdict, p.Summary = probes.Unknown, "not readable: "+l.fileErr.Error()
		p.Hint = "run meshctl where the file is, or set turn.env_file"
	case l.givenErr != nil:
		p.Verdict, p.Summary = probes.Unknown, "the controller's list is not readable: "+l.givenErr.Error()
	case !l.offered:
		p.Verdict, p.Summary = probes.Skip, "the controller does not say which TURN servers agents get"
	case !sameServers(turnOnly(l.file), turnOnly(l.given)):
		p.Verdict, p.Hint = probes.Warn, "the env file was edited without a reload, or the controller without the file"
		p.Summary = fmt.Sprintf("the env file has %s, the controller gives %s", listText(l.file), listText(l.given))
	default:
		p.Verdict, p.Summary = probes.Pass, "the controller gives agents the same "+count(len(l.file), "TURN server", "TURN servers")
	}
	p.Facts = map[string]any{"env_file": serverTexts(l.file), "controller": serverTexts(l.given)}
	return p
}

func turnOnly(list []wire.ServerURI) []wire.ServerURI {
	return slices.DeleteFunc(slices.Clone(list), func(u wire.ServerURI) bool { return !u.IsTURN() })
}

func listText(list []wire.ServerURI) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(serverTexts(list), ", ")
}

// agentDrift looks for links on servers that no list has.
func (s *survey) agentDrift() Part {
	p := Part{Kind: PartDrift, Name: "agents"}
	c, err := s.census()
	lists := s.lists()
	listed := unite(lists.file, lists.given)
	switch {
	case err != nil:
		p.Verdict, p.Summary = probes.Unknown, "not readable: the controller gives no usable statistics"
		return p
	case len(listed) == 0:
		p.Verdict, p.Summary = probes.Unknown, "not compared: no list of TURN servers is readable"
		return p
	case c.unsaid > 0:
		p.Verdict, p.Summary = probes.Skip, "links do not say which TURN server they use"
		return p
	}
	strange := map[string]int{}
	for server, links := range c.servers {
		on := slices.ContainsFunc(listed, func(u wire.ServerURI) bool { return onServer(server, u.Address()) })
		if !on {
			strange[server] = links
		}
	}
	p.Verdict, p.Summary = probes.Pass, "every link uses a TURN server of the lists"
	if len(strange) > 0 {
		p.Verdict, p.Hint = probes.Warn, "these agents have an older list: meshctl turn recover, or restart them"
		p.Summary = "links use servers that no list has: " + counts(strange)
	}
	p.Facts = map[string]any{"servers": slices.Sorted(maps.Keys(c.servers))}
	return p
}

// upstreamDrift compares nginx's upstream with the signaling servers of the
// configuration.
func (s *survey) upstreamDrift() Part {
	p, at := Part{Kind: PartDrift, Name: "nginx"}, s.mesh.Sites.Upstream
	switch {
	case at.File == "":
		p.Verdict, p.Summary = probes.Skip, "no nginx is configured"
		return p
	case at.Host != "":
		p.Verdict, p.Summary = probes.Skip, fmt.Sprintf("not readable from here: %s is on %s", at.File, at.Host)
		return p
	}
	servers, err := targets.ReadUpstream(at.File, at.Name)
	if err != nil {
		p.Verdict, p.Summary = probes.Unknown, "not readable: "+err.Error()
		return p
	}
	has, wants := []string{}, []string{}
	for _, server := range servers {
		if !server.Down {
			has = append(has, server.Address)
		}
	}
	for _, site := range s.mesh.Sites.Signaling {
		wants = append(wants, hostPort(site.URL))
	}
	slices.Sort(has)
	slices.Sort(wants)
	p.Facts = map[string]any{"nginx": has, "configuration": wants}
	p.Verdict, p.Summary = probes.Pass, "the upstream has the same "+count(len(has), "signaling server", "signaling servers")
	if !slices.Equal(has, wants) {
		p.Verdict, p.Hint = probes.Warn, "correct the upstream, or meshctl's configuration"
		p.Summary = fmt.Sprintf("the upstream has %s, the configuration %s", shorten(has, 4), shorten(wants, 4))
	}
	return p
}

// hostPort is the address of a ws or wss URL.
func hostPort(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}
