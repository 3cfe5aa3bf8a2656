package runbooks

import (
	"testing"

	"github.com/infrafabric/meshctl/mesh/wire"
)

func uri(t *testing.T, text string) wire.ServerURI {
	t.Helper()
	u, err := wire.ParseServerURI(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func uris(t *testing.T, texts ...string) []wire.ServerURI {
	t.Helper()
	list, err := wireServers(texts)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestReplaceServer(t *testing.T) {
	for _, tt := range []struct{ name, list, failed, replacement, want string }{
		{"host means every port", "turn:old:3478,turn:old:5000,turn:b", "old", "turn:new", "turn:new:3478,turn:new:5000,turn:b"},
		{"host and port means that port", "turn:old:3478,turn:old:5000", "old:5000", "turn:new", "turn:old:3478,turn:new:5000"},
		{"port that is the default", "turn:old,turn:b", "old:3478", "turn:new", "turn:new,turn:b"},
		{"port of another scheme's default", "turns:old,turn:old", "old:5349", "turn:new", "turns:new,turn:old"},
		{"replacement's port is taken", "turn:old:3478", "old", "turn:new:5000", "turn:new:5000"},
		{"own scheme and transport stay", "turns:old:5349?transport=tcp,turn:old?transport=udp", "old", "turn:new", "turns:new:5349?transport=tcp,turn:new?transport=udp"},
		{"replacement's scheme and transport do not count", "turn:old?transport=udp", "old", "turns:new?transport=tcp", "turn:new?transport=udp"},
		{"stun", "stun:old:3478,stun:b", "old", "turn:new:3478", "stun:new:3478,stun:b"},
		{"stuns", "stuns:old", "old", "turn:new", "stuns:new"},
		{"spaces stay", "turn:a , turn:old:1 ,  turn:c", "old", "turn:new", "turn:a , turn:new:1 ,  turn:c"},
		{"listed already behind", "turn:old,turn:new", "old", "turn:new", "turn:new"},
		{"listed already before", "turn:new,turn:old", "old", "turn:new", "turn:new"},
		{"listed already with the default spelled out", "turn:old,turn:new:3478?transport=udp", "old", "turn:new", "turn:new:3478?transport=udp"},
		{"listed already by another transport", "turn:old?transport=tcp,turn:new?transport=udp", "old", "turn:new", "turn:new?transport=tcp,turn:new?transport=udp"},
		{"two of the old become one", "turn:old:1,turn:old:2,turn:b", "old", "turn:new:3", "turn:new:3,turn:b"},
		{"duplicates of others are nobody's business", "turn:b,turn:b,turn:old", "old", "turn:new", "turn:b,turn:b,turn:new"},
		{"longer host", "turn:old.example.com,turn:old", "old", "turn:new", "turn:old.example.com,turn:new"},
		{"host with a prefix", "turn:very-old,turn:old", "old", "turn:new", "turn:very-old,turn:new"},
		{"address that begins alike", "turn:192.0.2.10,turn:192.0.2.1", "192.0.2.1", "turn:192.0.2.9", "turn:192.0.2.10,turn:192.0.2.9"},
		{"host in capitals", "turn:OLD.Example.com", "old.example.com", "turn:new", "turn:new"},
		{"ipv6", "turn:[2001:db8::1]:3478,turn:[2001:db8::2]", "2001:db8::1", "turn:[2001:db8::9]", "turn:[2001:db8::9]:3478,turn:[2001:db8::2]"},
		{"ipv6 spelled otherwise", "turn:[2001:db8:0:0::1]:3478", "[2001:db8::1]:3478", "turn:[2001:db8::9]:1", "turn:[2001:db8::9]:1"},
		{"ipv6 by ipv4", "turn:[2001:db8::1]", "2001:db8::1", "turn:192.0.2.9:1", "turn:192.0.2.9:1"},
		{"not listed", "turn:a,turn:b", "old", "turn:new", "turn:a,turn:b"},
		{"empty", "", "old", "turn:new", ""},
		{"entries that are no URI stay", "turn:old,,http://old/", "old", "turn:new", "turn:new,,http://old/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := replaceServer(tt.list, tt.failed, uri(t, tt.replacement))
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if again := replaceServer(got, tt.failed, uri(t, tt.replacement)); again != got {
				t.Errorf("a second edit gives %q", again)
			}
		})
	}
}

func TestSameServers(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b []string
		want bool
	}{
		{"equal", []string{"turn:a", "turn:b"}, []string{"turn:a", "turn:b"}, true},
		{"defaults spelled out", []string{"turn:a", "turns:b"}, []string{"turn:a:3478?transport=udp", "turns:b:5349?transport=tcp"}, true},
		{"capitals", []string{"turn:A"}, []string{"turn:a"}, true},
		{"none", nil, []string{}, true},
		{"another order is another preference", []string{"turn:a", "turn:b"}, []string{"turn:b", "turn:a"}, false},
		{"one less", []string{"turn:a", "turn:b"}, []string{"turn:a"}, false},
		{"one more", []string{"turn:a"}, []string{"turn:a", "turn:b"}, false},
		{"another port", []string{"turn:a:1"}, []string{"turn:a:2"}, false},
		{"another scheme", []string{"turn:a:1"}, []string{"stun:a:1"}, false},
		{"another transport", []string{"turn:a"}, []string{"turn:a?transport=tcp"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := uris(t, tt.a...), uris(t, tt.b...)
			if sameServers(a, b) != tt.want || sameServers(b, a) != tt.want {
				t.Errorf("not %v", tt.want)
			}
		})
	}
}

func TestOnServer(t *testing.T) {
	for _, tt := range []struct {
		reported, server string
		want             bool
	}{
		{"turn:t1:3478?transport=udp", "t1", true},
		{"turn:t1:3478?transport=udp", "t1:3478", true},
		{"turn:t1", "t1:3478", true},
		{"turn:t1:3478", "t1:5000", false},
		{"t1:3478", "t1", true},
		{"t1", "t1:3478", true},
		{"192.0.2.1:3478", "192.0.2.1:3478", true},
		{"192.0.2.10:3478", "192.0.2.1:3478", false},
		{"turn://t1:3478", "t1", false}, // no URI of RFC 7065
		{"//t1:3478", "t1", true},
		{"[2001:db8::1]:3478", "2001:db8::1", true},
		{"turn:t10", "t1", false},
		{"", "t1", false},
		{"not a server", "t1", false},
		{"", "", false},
	} {
		t.Run(tt.reported+" on "+tt.server, func(t *testing.T) {
			if got := onServer(tt.reported, tt.server); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestParseServer(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"turn1.example.com", "turn1.example.com"},
		{"Turn1.Example.com:3478", "turn1.example.com:3478"},
		{"turn:turn1:3478?transport=udp", "turn1:3478"},
		{"[2001:db8::1]:3478", "[2001:db8::1]:3478"},
		{"[2001:db8::1]", "2001:db8::1"},
		{"", ""}, {"a b", ""}, {"host:99999", ""}, {"http://turn1/", ""}, {"turn1,turn2", ""}, {"$(reboot)", ""},
	} {
		t.Run(tt.text, func(t *testing.T) {
			got, err := parseServer(tt.text)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestNewTurnRecoverRefuses(t *testing.T) {
	m := newMesh(t, "http://127.0.0.1:1", secretKey, "http://127.0.0.1:1", secretKey)
	for _, tt := range []struct{ name, failed, replacement, want string }{
		{"no replacement", "t1", "", "--replacement: "},
		{"replacement without scheme", "t1", "t2:3478", "--replacement: "},
		{"replacement that cannot relay", "t1", "stun:t2", "--replacement: stun:t2 is not a turn: or turns: URI"},
		{"no failed server", "", "turn:t2", "--failed: "},
		{"failed server that is none", "t 1", "turn:t2", "--failed: "},
		{"replaced by itself", "t1", "turn:t1:3478", "--replacement: turn:t1:3478 is on the failed server t1 itself"},
		{"replaced by its own port", "t1:3478", "turn:t1", "--replacement: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewTurnRecover(m, TurnRecoverParams{Failed: tt.failed, Replacement: tt.replacement})
			if err == nil || len(err.Error()) < len(tt.want) || err.Error()[:len(tt.want)] != tt.want {
				t.Errorf("got error %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := NewTurnRecover(m, TurnRecoverParams{Failed: "t1:3478", Replacement: "turn:t1:5000"}); err != nil {
		t.Errorf("another port of the same host: %v", err)
	}
}
