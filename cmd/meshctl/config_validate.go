package main

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// problem is one key of the configuration that cannot be meant.
type problem struct{ key, text string }

// problems collects what is wrong with the values of a configuration.
type problems struct{ found []problem }

func (p *problems) add(key, format string, args ...any) {
	p.found = append(p.found, problem{key, fmt.Sprintf(format, args...)})
}

// check refuses a configuration with the first problem and its place.
func (c *config) check() error {
	found := c.problems()
	if len(found) == 0 {
		return nil
	}
	place, _ := c.places().of(found[0].key)
	return usageError("configuration %s: %s: %s", place, found[0].key, found[0].text)
}

// problems lists everything that cannot be meant, without looking at other
// files or the network.
func (c *config) problems() []problem {
	var p problems
	if c.Mesh == "" || strings.ContainsAny(c.Mesh, `/\`) || strings.HasPrefix(c.Mesh, ".") {
		p.add("mesh", "%q is not a name", c.Mesh)
	}
	p.signaling(c.Signaling)
	p.balancer(c.Balancer)
	p.endpoint("controller", c.Controller, true)
	p.endpoint("witness", c.Witness, true)
	p.endpoint("prometheus", c.Prometheus, false)
	p.turn(c.TURN)
	p.agents(c.Agents)
	p.certificates(c.Certificates)
	p.hostPort("probe.peer", c.Probe.Peer)
	p.notify(c.Notify)
	c.Thresholds.problems(&p)
	c.Timings.problems(&p)
	if c.Lab.ControlURL != "" {
		p.url("lab.control_url", c.Lab.ControlURL, "http", "https")
	}
	return p.found
}

func (p *problems) agents(c agentsConfig) {
	for i, text := range c.STUNSpare {
		if u, err := wire.ParseServerURI(text); err != nil || u.IsTURN() {
			p.add(fmt.Sprintf("agents.stun_spare[%d]", i), "%q is not a stun: URI", text)
		}
	}
}

func (p *problems) signaling(servers []signalingConfig) {
	if len(servers) == 0 {
		p.add("signaling", "no server")
	}
	seen := map[string]bool{}
	for i, s := range servers {
		key := fmt.Sprintf("signaling[%d]", i)
		p.name(key+".name", s.Name, seen)
		p.url(key+".url", s.URL, "ws", "wss")
		if s.StatsURL != "" {
			p.url(key+".stats_url", s.StatsURL, "http", "https")
		}
		p.action(key+".restart", s.Restart)
	}
}

func (p *problems) balancer(b balancerConfig) {
	if b.URL != "" {
		p.url("balancer.url", b.URL, "ws", "wss")
	}
	p.host("balancer.host", b.Host, b.File)
	p.argv("balancer.test", b.Test)
	p.argv("balancer.reload", b.Reload)
	switch {
	case b.File == "" && (b.Upstream != "" || b.Test != nil || b.Reload != nil || b.Host != ""):
		p.add("balancer.file", "missing")
	case b.File != "" && b.Upstream == "":
		p.add("balancer.upstream", "missing: the name of the upstream block in %s", b.File)
	}
}

// endpoint checks an HTTP service; one that is not required may be "".
func (p *problems) endpoint(key string, e endpointConfig, required bool) {
	switch {
	case e.URL != "":
		p.url(key+".url", e.URL, "http", "https")
	case required:
		p.add(key+".url", "missing")
	}
	p.env(key+".key_env", e.KeyEnv)
}

func (p *problems) turn(t turnConfig) {
	p.host("turn.host", t.Host, t.EnvFile)
	p.env("turn.password_env", t.PasswordEnv)
	p.oneLine("turn.username", t.Username)
	p.oneLine("turn.realm", t.Realm)
	p.oneLine("turn.rest.user", t.REST.User)
	if t.Username != "" && len(t.REST.Secrets) > 0 {
		p.add("turn.username", "goes with a password, not with turn.rest: its user is turn.rest.user")
	}
	seen := map[string]bool{}
	for i, s := range t.REST.Secrets {
		key := fmt.Sprintf("turn.rest.secrets[%d]", i)
		p.name(key+".name", s.Name, seen)
		p.env(key+".env", s.Env)
		if s.Env == "" && s.File == "" {
			p.add(key, "missing: env or file, where the secret is")
		}
	}
	p.duration("turn.rest.ttl", time.Duration(t.REST.TTL), time.Minute, 30*24*time.Hour)
}

// maxTURNText is the most that a user name or realm may have in a request
// (RFC 8489 sections 14.3 and 14.9), less ten digits and a colon.
const maxTURNText = 500

func (p *problems) oneLine(key, text string) {
	if strings.ContainsFunc(text, unicode.IsControl) || len(text) > maxTURNText {
		p.add(key, "not one line of at most %d bytes", maxTURNText)
	}
}

func (p *problems) certificates(certificates []certificateConfig) {
	seen := map[string]bool{}
	for i, c := range certificates {
		key := fmt.Sprintf("certificates[%d]", i)
		p.name(key+".name", c.Name, seen)
		for _, file := range []struct{ key, path string }{{key + ".cert", c.Cert}, {key + ".key", c.Key}} {
			if file.path == "" {
				p.add(file.key, "missing")
			}
		}
		p.host(key+".host", c.Host, c.Cert, c.Key)
		if len(c.Servers) == 0 {
			p.add(key+".servers", "missing: HOST:PORT of who serves it, to see that the new one is served")
		}
		for j, server := range c.Servers {
			p.hostPort(fmt.Sprintf("%s.servers[%d]", key, j), server)
		}
		p.action(key+".reload", c.Reload)
	}
}

func (p *problems) action(key string, a actionConfig) {
	p.host(key+".host", a.Host)
	p.argv(key+".command", a.Command)
	switch {
	case a.Systemd != "" && a.Command != nil:
		p.add(key, "either systemd or command, not both")
	case a.Systemd == "" && a.Command == nil && a.Host != "":
		p.add(key, "missing: systemd or command")
	case a.Systemd != "" && !made(a.Systemd, ":_.", `:_.\@-`):
		p.add(key+".systemd", "%q is not the name of a unit", a.Systemd)
	}
}

// made tells whether text begins with a letter, a digit or one of first, and
// consists of letters, digits and others.
func made(text, first, others string) bool {
	for i, r := range text {
		plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		also := others
		if i == 0 {
			also = first
		}
		if !plain && !strings.ContainsRune(also, r) {
			return false
		}
	}
	return text != "" && len(text) <= 253
}

// name wants a name that no other of its list has.
func (p *problems) name(key, name string, seen map[string]bool) {
	switch {
	case !made(name, "", "._-"):
		p.add(key, "%q is not a name", name)
	case seen[name]:
		p.add(key, "%q is there twice", name)
	}
	seen[name] = true
}

// url wants an address with one of the schemes. An address that may have a
// password in it is not repeated.
func (p *problems) url(key, text string, schemes ...string) {
	if strings.Contains(text, "@") {
		p.add(key, "must not carry a user name or password")
		return
	}
	u, err := url.Parse(text)
	if err != nil || !slices.Contains(schemes, u.Scheme) {
		p.add(key, "%q is not a %s:// address", text, strings.Join(schemes, ":// or "))
		return
	}
	if port := u.Port(); u.Hostname() == "" || port != "" && !portNumber(port) {
		p.add(key, "%q has no host or no port number", text)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		p.add(key, "must not have a query or fragment")
	}
}

func portNumber(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n > 0 && n < 65536
}

func (p *problems) hostPort(key, text string) {
	if text == "" {
		return
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" || strings.ContainsAny(host, " @/") || !portNumber(port) {
		p.add(key, "%q is not HOST:PORT", text)
	}
}

// host wants an ssh destination that cannot be taken for an option, and paths
// that mean the same over there.
func (p *problems) host(key, host string, paths ...string) {
	if host == "" {
		return
	}
	user, name, found := strings.Cut(host, "@")
	if !found {
		user, name = "root", host
	}
	if !made(user, "_", "._-") || !made(name, "", ".:_-") {
		p.add(key, "%q is not HOST or USER@HOST", host)
	}
	for _, path := range paths {
		if path != "" && !filepath.IsAbs(path) {
			p.add(key, "%s on another host wants an absolute path", path)
		}
	}
}

// argv wants a program; nil means that there is none.
func (p *problems) argv(key string, argv []string) {
	if argv != nil && (len(argv) == 0 || argv[0] == "" || slices.ContainsFunc(argv, func(s string) bool { return strings.ContainsRune(s, 0) })) {
		p.add(key, "wants a program and its arguments")
	}
}

// env wants the name of a variable, and does not repeat what may be the key.
func (p *problems) env(key, name string) {
	if name != "" && (!made(name, "_", "_") || name[0] <= '9') {
		p.add(key, "is not the name of an environment variable")
	}
}

// duration wants nothing, or a time within limits: 5 without a unit is 5 ns.
func (p *problems) duration(key string, d, shortest, longest time.Duration) {
	if d != 0 && (d < shortest || d > longest) {
		p.add(key, "%s is not between %s and %s (with a unit, such as 90s or 5m)", d, shortest, longest)
	}
}
