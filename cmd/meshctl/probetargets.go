package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks/targets"
)

// configured are the STUN or TURN servers of the env file.
func (c *config) configured(kind string) ([]wire.ServerURI, error) {
	file, err := targets.ReadEnvFile(c.TURN.EnvFile)
	if err != nil {
		return nil, err
	}
	key := map[string]string{"stun": "STUN_SERVERS", "turn": "TURN_SERVERS"}[kind]
	value, _ := file.Value(key)
	list, err := wire.ParseServerList(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", c.TURN.EnvFile, key, err)
	}
	return list, nil
}

// servers are the targets of a STUN or TURN probe: those of the configuration,
// or those that are named.
func (p *planner) servers(kind string, args []string) ([]wire.ServerURI, error) {
	known, errKnown := p.config.configured(kind)
	if len(args) == 0 {
		return unique(known), errKnown
	}
	var wanted []wire.ServerURI
	for _, arg := range args {
		u, err := wire.ParseServerURI(arg)
		switch matches := matching(known, arg); {
		case err == nil && kind == "turn" && !u.IsTURN():
			return nil, usageError("probe turn %s: not the URI of a TURN server", arg)
		case err == nil:
			wanted = append(wanted, u)
		case len(matches) > 0:
			wanted = append(wanted, matches...)
		case strings.Contains(arg, "@"):
			return nil, usageError("probe %s: %w", kind, err) // which does not quote it
		case !strings.Contains(arg, ":") || hostPort(arg):
			return nil, usageError("probe %s: %q is no server of the configuration%s; others are named by a URI such as %s:%s", kind, arg, because(errKnown), kind, arg)
		default:
			return nil, usageError("probe %s: %w", kind, err)
		}
	}
	return unique(wanted), nil
}

// because adds a cause to a sentence, where there is one.
func because(err error) string {
	if err == nil {
		return ""
	}
	return " (" + err.Error() + ")"
}

func hostPort(text string) bool {
	_, port, err := net.SplitHostPort(text)
	_, errPort := strconv.Atoi(port)
	return err == nil && errPort == nil
}

func matching(known []wire.ServerURI, name string) []wire.ServerURI {
	var found []wire.ServerURI
	for _, u := range known {
		if u.Matches(name) {
			found = append(found, u)
		}
	}
	return found
}

// unique keeps the first of equal targets: each is asked once.
func unique[T comparable](list []T) []T {
	var kept []T
	for _, u := range list {
		if !slices.Contains(kept, u) {
			kept = append(kept, u)
		}
	}
	return kept
}

// signalingURLs are the servers of the configuration and its balancer, or
// those that are named.
func (p *planner) signalingURLs(args []string) ([]string, error) {
	var urls []string
	if len(args) == 0 {
		for _, s := range p.config.Signaling {
			urls = append(urls, s.URL)
		}
		if p.config.Balancer.URL != "" {
			urls = append(urls, p.config.Balancer.URL)
		}
		return unique(urls), nil
	}
	for _, arg := range args {
		i := slices.IndexFunc(p.config.Signaling, func(s signalingConfig) bool { return s.Name == arg })
		u, err := url.Parse(arg)
		switch {
		case i >= 0:
			urls = append(urls, p.config.Signaling[i].URL)
		case err != nil || strings.Contains(arg, "@") || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss" || !validPort(u.Port()):
			return nil, usageError("probe signaling: not a signaling server of the configuration, and not a ws:// or wss:// URL: %q", withoutUser(arg))
		default:
			urls = append(urls, arg)
		}
	}
	return unique(urls), nil
}

// otherSignaling is the server that should share its agents with the i-th.
func (p *planner) otherSignaling(urls []string, i int) string {
	around := urls
	if len(urls) == 1 {
		around = urls[:1:1]
		for _, s := range p.config.Signaling {
			around = append(around, s.URL)
		}
		around = unique(around)
		if len(p.config.Signaling) == 0 || !slices.ContainsFunc(p.config.Signaling, func(s signalingConfig) bool { return s.URL == urls[0] }) {
			return "" // a server of its own
		}
	}
	around = slices.DeleteFunc(slices.Clone(around), func(u string) bool { return u == p.config.Balancer.URL && u != urls[i] })
	at := slices.Index(around, urls[i])
	if other := around[(at+1)%len(around)]; other != urls[i] {
		return other
	}
	return ""
}

// withoutUser keeps what may be a password out of an error.
func withoutUser(text string) string {
	if at := strings.LastIndexByte(text, '@'); at >= 0 {
		return "[redacted]" + text[at:]
	}
	return text
}

func validPort(port string) bool {
	if port == "" {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// addTLS plans the servers that speak TLS.
func (p *planner) addTLS(args []string, all bool) error {
	if len(args) == 0 {
		args = p.tlsTargets(all)
	}
	if len(args) == 0 && len(p.plan.tasks) == 0 && !all {
		return usageError("probe tls: no target: nothing of the configuration speaks TLS; name HOST:PORT or a URI")
	}
	var list []wire.ServerURI
	for _, arg := range args {
		found, err := p.tlsTarget(arg)
		if err != nil {
			return err
		}
		list = append(list, found...)
	}
	for _, target := range unique(list) {
		p.plan.tasks = append(p.plan.tasks, func(ctx context.Context) []probed {
			return p.ask(ctx, "tls", []wire.ServerURI{target})
		})
	}
	return nil
}

// tlsTargets is all of the configuration that speaks TLS or DTLS. Among all
// probes those of STUN and TURN say which lists cannot be read.
func (p *planner) tlsTargets(all bool) []string {
	var list []string
	for _, kind := range []string{"turn", "stun"} {
		servers, err := p.config.configured(kind)
		if err != nil && !all {
			p.unread("tls", err)
		}
		for _, u := range servers {
			if u.Secure() {
				list = append(list, u.String())
			}
		}
	}
	urls := []string{p.config.Controller.URL, p.config.Witness.URL, p.config.Prometheus.URL, p.config.Balancer.URL}
	for _, s := range p.config.Signaling {
		urls = append(urls, s.URL)
	}
	for _, u := range urls {
		if strings.HasPrefix(u, "https://") || strings.HasPrefix(u, "wss://") {
			list = append(list, u)
		}
	}
	for _, c := range p.config.Certificates {
		list = append(list, c.Servers...)
	}
	return list
}

// tlsTarget reads turns:, stuns:, https: and wss: URIs, HOST:PORT, and names of
// certificates.
func (p *planner) tlsTarget(arg string) ([]wire.ServerURI, error) {
	if i := slices.IndexFunc(p.config.Certificates, func(c certificateConfig) bool { return c.Name == arg }); i >= 0 {
		var list []wire.ServerURI
		for _, server := range p.config.Certificates[i].Servers {
			found, err := p.tlsTarget(server)
			if err != nil {
				return nil, err
			}
			list = append(list, found...)
		}
		return list, nil
	}
	if u, err := wire.ParseServerURI(arg); err == nil && u.Secure() {
		return []wire.ServerURI{u}, nil
	}
	hostPort := arg
	if u, err := url.Parse(arg); err == nil && u.User == nil && (u.Scheme == "https" || u.Scheme == "wss") {
		if hostPort = u.Host; u.Port() == "" {
			hostPort = net.JoinHostPort(u.Hostname(), "443")
		}
	}
	host, port, err := net.SplitHostPort(hostPort)
	n, errPort := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" || strings.ContainsAny(host, "@/ ") || errPort != nil || n == 0 {
		return nil, usageError("probe tls: neither HOST:PORT nor a turns:, stuns:, https:// or wss:// URI: %q", withoutUser(arg))
	}
	if a, err := netip.ParseAddr(host); err == nil {
		host = a.String()
	}
	return []wire.ServerURI{{Scheme: probes.SchemeTLS, Host: strings.ToLower(host), Port: int(n)}}, nil
}

// completeProbe offers the servers of the configuration, asking nobody.
func (a *app) completeProbe(kind string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		c, err := a.loadConfig()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		switch kind {
		case "stun", "turn":
			servers, _ := c.configured(kind) // what cannot be read is not offered
			for _, u := range servers {
				names = append(names, u.Host)
			}
		case "signaling":
			for _, s := range c.Signaling {
				names = append(names, s.Name)
			}
		case "tls":
			for _, cert := range c.Certificates {
				names = append(names, cert.Name)
			}
		}
		return unique(names), cobra.ShellCompDirectiveNoFileComp
	}
}
