package wire

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

const maxURI = 512 // bytes of one URI; a host name has at most 253

// ServerURI is the address of a STUN or TURN server, as RFC 7064 and RFC 7065
// write it: turn:turn1.example.com:3478?transport=udp.
type ServerURI struct {
	Scheme    string // stun, stuns, turn or turns
	Host      string // lower case; an IPv6 address without its brackets
	Port      int    // 0 = not given
	Transport string // udp or tcp; "" = not given
}

// ParseServerURI reads one URI. The host must be a plain name or an address:
// the value ends up in configuration files that shells read.
func ParseServerURI(s string) (ServerURI, error) {
	if strings.Contains(s, "@") { // not quoted: it would show a password
		return ServerURI{}, errors.New("server uri: must not carry a user name or password")
	}
	u, err := parseServerURI(s)
	if err != nil {
		return ServerURI{}, fmt.Errorf("server uri %q: %w", shorten(s, maxURI), err)
	}
	return u, nil
}

func parseServerURI(s string) (ServerURI, error) {
	if len(s) > maxURI {
		return ServerURI{}, fmt.Errorf("longer than %d bytes", maxURI)
	}
	scheme, rest, found := strings.Cut(s, ":")
	u := ServerURI{Scheme: strings.ToLower(scheme)}
	switch {
	case !found || !knownScheme(u.Scheme):
		return u, errors.New("the scheme is not stun, stuns, turn or turns")
	case strings.HasPrefix(rest, "//"):
		return u, fmt.Errorf("%s: is not followed by //", u.Scheme)
	}
	address, query, found := strings.Cut(rest, "?")
	if found {
		if !u.IsTURN() {
			return u, fmt.Errorf("%s has no parameters", u.Scheme)
		}
		name, value, _ := strings.Cut(strings.ToLower(query), "=")
		if name != "transport" || (value != "udp" && value != "tcp") {
			return u, errors.New("the only parameter is transport=udp or transport=tcp")
		}
		u.Transport = value
	}
	var err error
	u.Host, u.Port, err = splitHost(address)
	return u, err
}

// ParseServerList reads URIs separated by commas, as in TURN_SERVERS. An empty
// string is an empty list; an empty or wrong entry is an error that names it.
func ParseServerList(s string) ([]ServerURI, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var list []ServerURI
	for i, entry := range strings.Split(s, ",") {
		u, err := ParseServerURI(strings.TrimSpace(entry))
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
		list = append(list, u)
	}
	return list, nil
}

func knownScheme(s string) bool {
	return s == "stun" || s == "stuns" || s == "turn" || s == "turns"
}

// splitHost reads HOST, HOST:PORT, [IPV6] or [IPV6]:PORT.
func splitHost(s string) (host string, port int, err error) {
	rest, isIPv6 := strings.CutPrefix(s, "[")
	if isIPv6 {
		var closed bool
		host, rest, closed = strings.Cut(rest, "]")
		addr, err := netip.ParseAddr(host)
		if !closed || err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", 0, errors.New("not an IPv6 address in brackets")
		}
	} else {
		if strings.Count(s, ":") > 1 {
			return "", 0, errors.New("an IPv6 address needs brackets")
		}
		end := strings.IndexByte(s, ':')
		if end < 0 {
			end = len(s)
		}
		host, rest = s[:end], s[end:]
		if err := checkName(host); err != nil {
			return "", 0, err
		}
	}
	host = strings.ToLower(host)
	if rest == "" {
		return host, 0, nil
	}
	digits, found := strings.CutPrefix(rest, ":")
	n, err := strconv.ParseUint(digits, 10, 16)
	if !found || err != nil || n == 0 {
		return "", 0, fmt.Errorf("port %q is not a number from 1 to 65535", digits)
	}
	return host, int(n), nil
}

// checkName accepts host names and IPv4 addresses. (Trim leaves nothing of a
// text that has only characters of the set.)
func checkName(host string) error {
	if host == "" {
		return errors.New("no host")
	}
	if len(host) > 253 {
		return errors.New("host name longer than 253 characters")
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || strings.Trim(label, nameCharacters) != "" {
			return fmt.Errorf("%q is not a host name", host)
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") != "" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Errorf("%q is not an IPv4 address", host)
	}
	return nil
}

const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// String writes the URI as it was given: nothing is added.
func (u ServerURI) String() string {
	s := u.Scheme + ":" + u.bracketed()
	if u.Port != 0 {
		s += ":" + strconv.Itoa(u.Port)
	}
	if u.Transport != "" {
		s += "?transport=" + u.Transport
	}
	return s
}

func (u ServerURI) bracketed() string {
	if strings.Contains(u.Host, ":") {
		return "[" + u.Host + "]"
	}
	return u.Host
}

// Name is HOST or HOST:PORT as it was given: what Matches takes.
func (u ServerURI) Name() string {
	if u.Port == 0 {
		return u.Host
	}
	return u.Address()
}

// Address is host:port to connect to, with the default port 3478, or 5349 for
// stuns and turns (RFC 7064 section 3.2, RFC 7065 section 3.2).
func (u ServerURI) Address() string {
	return net.JoinHostPort(u.Host, strconv.Itoa(u.EffectivePort()))
}

// EffectivePort is the port that applies: 3478, or 5349 for stuns and turns,
// unless given.
func (u ServerURI) EffectivePort() int {
	switch {
	case u.Port != 0:
		return u.Port
	case u.Secure():
		return 5349
	}
	return 3478
}

// Secure tells whether the scheme asks for TLS or DTLS.
func (u ServerURI) Secure() bool { return u.Scheme == "stuns" || u.Scheme == "turns" }

// IsTURN tells a relay from a STUN server.
func (u ServerURI) IsTURN() bool { return u.Scheme == "turn" || u.Scheme == "turns" }

// EffectiveTransport is the transport that applies: udp for stun and turn, tcp
// for stuns and turns, unless given.
func (u ServerURI) EffectiveTransport() string {
	switch {
	case u.Transport != "":
		return u.Transport
	case u.Secure():
		return "tcp"
	}
	return "udp"
}

// Matches tells whether an operator who names a server means this one. "HOST"
// means every port of the host, "HOST:PORT" that port (given or default). A
// full URI means its host and port, and its transport when it names one. Text
// that is none of these matches nothing.
func (u ServerURI) Matches(server string) bool {
	if want, err := parseServerURI(server); err == nil {
		return sameHost(u.Host, want.Host) && u.EffectivePort() == want.EffectivePort() &&
			(want.Transport == "" || want.Transport == u.EffectiveTransport())
	}
	if addr, err := netip.ParseAddr(server); err == nil {
		return sameHost(u.Host, addr.String())
	}
	host, port, err := splitHost(server)
	return err == nil && sameHost(u.Host, host) && (port == 0 || port == u.EffectivePort())
}

// sameHost compares addresses by value: IPv6 has many spellings.
func sameHost(a, b string) bool {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	if errX == nil && errY == nil {
		return x == y
	}
	return strings.EqualFold(a, b)
}

func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "..."
}
