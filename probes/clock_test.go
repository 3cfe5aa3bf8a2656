package probes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
)

func TestNonceSkew(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	at := now.Add(90 * time.Minute)
	tests := []struct {
		name, nonce string
		known       bool
	}{
		{"pion, milliseconds", fmt.Sprintf("%016x%s", at.UnixMilli(), strings.Repeat("a5", 32)), true},
		{"coturn, stateless", fmt.Sprintf("%08x%s", at.Unix(), strings.Repeat("a5", 20)), true},
		{"coturn, random", "6a09e667f3bcc908", false},
		{"another day", fmt.Sprintf("%08x%s", at.AddDate(0, 0, 3).Unix(), strings.Repeat("a5", 20)), false},
		{"text", "nonce", false},
		{"empty", "", false},
		{"digits", strings.Repeat("9", 700), false},
		{"sign", "-" + strings.Repeat("z", 20), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			skew, precision, known := nonceSkew(test.nonce, now)
			if known != test.known || known && (skew-90*time.Minute).Abs() > precision {
				t.Errorf("nonceSkew() = %v to %v, %v", skew, precision, known)
			}
		})
	}
}

// TestNonceSkewOfPion reads the nonces that this version of the server really
// makes.
func TestNonceSkewOfPion(t *testing.T) {
	c := challengedBy(t)
	if skew, precision, known := nonceSkew(c.nonce, time.Now()); !known || skew.Abs() > precision+time.Minute {
		t.Errorf("nonce %q: skew %v to %v, %v", c.nonce, skew, precision, known)
	}
}

func challengedBy(t *testing.T) *client {
	t.Helper()
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	at := localAddress(conn.LocalAddr())
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: "r", LoggerFactory: quiet,
		AuthHandler: func(*turn.RequestAttributes) (string, []byte, bool) { return "", nil, false },
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn: conn, RelayAddressGenerator: &turn.RelayAddressGeneratorNone{Address: "127.0.0.1"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	p := TURN{Target: wire.ServerURI{Scheme: "turn", Host: "127.0.0.1", Port: int(at.Port())}}
	p.Credentials = Credentials{Username: "u", Password: secret.New("p")}
	c, err := p.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.socket.close)
	_ = c.allocate(t.Context())
	return c
}

// TestPace grants eight unauthenticated requests a second, others only with a
// challenge that is known.
func TestPace(t *testing.T) {
	var p Pace
	server, now := netip.MustParseAddrPort("192.0.2.1:3478"), time.Now()
	for range paceRequests {
		if known, wait, _ := p.try(server, now, true); wait != 0 || known != (challenge{}) {
			t.Fatalf("try() = %v, %v within the rate", known, wait)
		}
	}
	_, wait, news := p.try(server, now.Add(time.Millisecond), true)
	if wait <= 0 || wait > time.Second {
		t.Errorf("wait of %v beyond the rate", wait)
	}
	p.learn(server, challenge{"realm", "nonce"})
	<-news
	if known, wait, _ := p.try(server, now.Add(2*time.Millisecond), true); wait != 0 || known.realm != "realm" {
		t.Errorf("try() = %v, %v with a known challenge", known, wait)
	}
	if known, wait, _ := p.try(server, now.Add(time.Second), true); wait != 0 || known != (challenge{}) {
		t.Errorf("try() = %v, %v a second later", known, wait)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	other := netip.MustParseAddrPort("192.0.2.2:3478")
	for range paceRequests {
		if _, err := p.enter(ctx, other, true); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.enter(ctx, other, true); !errors.Is(err, context.Canceled) {
		t.Errorf("enter() = %v, want the end of the context", err)
	}
}

func TestOver(t *testing.T) {
	for in, want := range map[string]string{
		"turn:h":                     "turn:h?transport=udp turn:h?transport=tcp turns:h?transport=tcp turns:h?transport=udp",
		"turn:h:3478":                "turn:h:3478?transport=udp turn:h:3478?transport=tcp turns:h?transport=tcp turns:h?transport=udp",
		"turns:h:5349?transport=tcp": "turn:h?transport=udp turn:h?transport=tcp turns:h:5349?transport=tcp turns:h:5349?transport=udp",
		"turns:h:443":                "turn:h:443?transport=udp turn:h:443?transport=tcp turns:h:443?transport=tcp turns:h:443?transport=udp",
	} {
		u, err := wire.ParseServerURI(in)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, over := range Over(u, UDP, TCP, TLS, DTLS) {
			got = append(got, over.String())
			if transport := TransportOf(over); transport != []Transport{UDP, TCP, TLS, DTLS}[i] {
				t.Errorf("%s is over %s", over, transport)
			}
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("Over(%s) = %s, want %s", in, text, want)
		}
	}
}
