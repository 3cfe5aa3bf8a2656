package wire

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseServerURI(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     ServerURI
		text     string // "" = as in
		address  string
		via      string
	}{
		{"stun", "stun:stun.example.com", ServerURI{"stun", "stun.example.com", 0, ""}, "", "stun.example.com:3478", "udp"},
		{"stuns", "stuns:s", ServerURI{"stuns", "s", 0, ""}, "", "s:5349", "tcp"},
		{"turn", "turn:turn1.example.com:3478?transport=udp", ServerURI{"turn", "turn1.example.com", 3478, "udp"}, "", "turn1.example.com:3478", "udp"},
		{"turn over tcp", "turn:t?transport=tcp", ServerURI{"turn", "t", 0, "tcp"}, "", "t:3478", "tcp"},
		{"turns", "turns:t", ServerURI{"turns", "t", 0, ""}, "", "t:5349", "tcp"},
		{"turns over udp", "turns:t:443?transport=udp", ServerURI{"turns", "t", 443, "udp"}, "", "t:443", "udp"},
		{"upper case", "TURN:Turn1.EXAMPLE.com?Transport=UDP", ServerURI{"turn", "turn1.example.com", 0, "udp"},
			"turn:turn1.example.com?transport=udp", "turn1.example.com:3478", "udp"},
		{"ipv4", "turn:127.0.0.1:1", ServerURI{"turn", "127.0.0.1", 1, ""}, "", "127.0.0.1:1", "udp"},
		{"ipv6", "turn:[2001:DB8::1]:65535", ServerURI{"turn", "2001:db8::1", 65535, ""}, "turn:[2001:db8::1]:65535", "[2001:db8::1]:65535", "udp"},
		{"ipv6 without port", "stun:[::1]", ServerURI{"stun", "::1", 0, ""}, "", "[::1]:3478", "udp"},
		{"underscore and digits", "turn:turn_1.3com", ServerURI{"turn", "turn_1.3com", 0, ""}, "", "turn_1.3com:3478", "udp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseServerURI(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if tt.text == "" {
				tt.text = tt.in
			}
			if got.String() != tt.text || got.Address() != tt.address || got.EffectiveTransport() != tt.via {
				t.Errorf("got %s, %s, %s", got, got.Address(), got.EffectiveTransport())
			}
			if !got.Matches(got.Name()) || strings.HasSuffix(got.Name(), "3478") != strings.Contains(tt.in, "3478") {
				t.Errorf("its name is %s", got.Name())
			}
		})
	}
}

func TestParseServerURIRefuses(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"empty", "", "the scheme is not"},
		{"no scheme", "turn1.example.com:3478", "the scheme is not"},
		{"other scheme", "http:turn1", "the scheme is not"},
		{"slashes", "turn://turn1", "turn: is not followed by //"},
		{"user", "turn:user:pw@turn1", "must not carry a user name"},
		{"no host", "turn:", "no host"},
		{"ipv6 without brackets, with port", "turn:[::1]:1:2", "port"},
		{"no host but port", "turn::3478", "no host"},
		{"port 0", "turn:t:0", `port "0"`},
		{"port too large", "turn:t:70000", `port "70000"`},
		{"port empty", "turn:t:", `port ""`},
		{"port signed", "turn:t:+1", `port "+1"`},
		{"port negative", "turn:t:-1", `port "-1"`},
		{"port text", "turn:t:http", `port "http"`},
		{"transport unknown", "turn:t?transport=sctp", "transport=udp or transport=tcp"},
		{"transport empty", "turn:t?transport=", "transport=udp or transport=tcp"},
		{"two parameters", "turn:t?transport=udp&x=1", "transport=udp or transport=tcp"},
		{"parameter of stun", "stun:t?transport=udp", "stun has no parameters"},
		{"ipv6 without brackets", "turn:2001:db8::1", "needs brackets"},
		{"ipv6 not closed", "turn:[::1", "not an IPv6 address"},
		{"ipv6 zone", "turn:[fe80::1%eth0]", "not an IPv6 address"},
		{"ipv4 in brackets", "turn:[127.0.0.1]", "not an IPv6 address"},
		{"text after brackets", "turn:[::1]x", "port"},
		{"digit after brackets", "turn:[::1]1", "port"},
		{"ipv4 out of range", "turn:1.2.3.400", "not an IPv4 address"},
		{"short ipv4", "turn:1.2", "not an IPv4 address"},
		{"space", "turn:t 1", "not a host name"},
		{"shell", "turn:$(reboot)", "not a host name"},
		{"quote", `turn:t"`, "not a host name"},
		{"comma", "turn:a,b", "not a host name"},
		{"path", "turn:a/b", "not a host name"},
		{"line end", "turn:a\n", "not a host name"},
		{"empty label", "turn:a..b", "not a host name"},
		{"long label", "turn:" + strings.Repeat("a", 64), "not a host name"},
		{"long host", "turn:" + strings.Repeat("a.", 130) + "a", "longer than 253"},
		{"endless", "turn:" + strings.Repeat("a", 1<<20), "longer than 512"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseServerURI(tt.in)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %+v, error %v, want %q", got, err, tt.want)
			}
			if len(err.Error()) > 2*maxURI {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestUserNameIsNotInTheError(t *testing.T) {
	_, err := ParseServerURI("turn:admin:hunter2@turn1")
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestParseServerList(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []string
		err      string
	}{
		{"empty", "", nil, ""},
		{"blank", "  ", nil, ""},
		{"one", "turn:a", []string{"turn:a"}, ""},
		{"spaces", " turn:a , stun:b:1 ", []string{"turn:a", "stun:b:1"}, ""},
		{"trailing comma", "turn:a,", nil, `entry 2: server uri ""`},
		{"wrong entry", "turn:a,turn:b:0", nil, `entry 2: server uri "turn:b:0"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, err := ParseServerList(tt.in)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("got error %v, want %q", err, tt.err)
			}
			var got []string
			for _, u := range list {
				got = append(got, u.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMatches(t *testing.T) {
	for _, tt := range []struct {
		name, uri, server string
		want              bool
	}{
		{"host", "turn:turn1:3478", "turn1", true},
		{"host, other port", "turns:turn1:443", "TURN1", true},
		{"part of a host", "turn:turn1.example.com", "turn1", false},
		{"longer host", "turn:turn1", "turn10", false},
		{"host and port", "turn:turn1:3478", "turn1:3478", true},
		{"host and default port", "turn:turn1", "turn1:3478", true},
		{"host and default port of tls", "turns:turn1", "turn1:5349", true},
		{"other port", "turn:turn1:3478", "turn1:5349", false},
		{"uri", "turn:turn1:3478?transport=tcp", "turn:turn1", true},
		{"uri with transport", "turn:turn1:3478?transport=tcp", "turn:turn1?transport=udp", false},
		{"uri with default transport", "turn:turn1", "turn:turn1?transport=udp", true},
		{"uri with other port", "turn:turn1:3478", "turn:turn1:1", false},
		{"uri with other host", "turn:turn1", "turn:turn2", false},
		{"a host named as a scheme", "turn:turn:3478", "turn:3478", true},
		{"ipv6", "turn:[2001:db8::1]:1", "2001:db8:0::1", true},
		{"ipv6 in brackets", "turn:[2001:db8::1]:1", "[2001:DB8::1]", true},
		{"ipv6 and port", "turn:[2001:db8::1]:1", "[2001:db8::1]:1", true},
		{"ipv6 and other port", "turn:[2001:db8::1]:1", "[2001:db8::1]:2", false},
		{"empty", "turn:turn1", "", false},
		{"nonsense", "turn:turn1", "turn1:x", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u, err := ParseServerURI(tt.uri)
			if err != nil {
				t.Fatal(err)
			}
			if got := u.Matches(tt.server); got != tt.want {
				t.Errorf("%s matches %q: got %v, want %v", u, tt.server, got, tt.want)
			}
		})
	}
}

func FuzzParseServerURI(f *testing.F) {
	for _, s := range []string{"turn:turn1.example.com:3478?transport=udp", "stuns:[::1]:5349", "turn:1.2.3.4", "TURNS:A?TRANSPORT=TCP", "turn:a\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseServerURI(s)
		if err != nil {
			return
		}
		if strings.ContainsAny(u.String(), " \t\r\n,'\"$`\\;|<>(){}#@") {
			t.Fatalf("of %q: %q", s, u)
		}
		again, err := ParseServerURI(u.String())
		if err != nil || again != u {
			t.Fatalf("of %q: %+v, then %+v, error %v", s, u, again, err)
		}
		if !u.Matches(u.String()) || !u.Matches(u.Address()) {
			t.Fatalf("%q does not match itself", s)
		}
	})
}
