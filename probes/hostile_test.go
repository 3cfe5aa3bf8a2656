package probes_test

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// accepting starts a TCP server that gives each connection to serve.
func accepting(t *testing.T, serve func(net.Conn)) wire.ServerURI {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer func() { _ = conn.Close() }(); serve(conn) }()
		}
	}()
	return wire.ServerURI{Scheme: "turn", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Transport: "tcp"}
}

// hang holds a connection until its client closes it.
func hang(conn net.Conn) {
	b := make([]byte, 4096)
	for {
		if _, err := conn.Read(b); err != nil {
			return
		}
	}
}

// TestRunSurvivesHostileStreams connects to servers that are none. Each ends in
// time, with a name.
func TestRunSurvivesHostileStreams(t *testing.T) {
	say := func(text string) func(net.Conn) {
		return func(conn net.Conn) { _, _ = conn.Write([]byte(text)); hang(conn) }
	}
	trickle := func(conn net.Conn) { // a TLS record that never gets whole
		go hang(conn)
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for _, b := range []byte("\x16\x03\x03\x40\x00\x02" + strings.Repeat("\x00", 1000)) {
			<-ticker.C
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
		}
	}
	flood := func(conn net.Conn) {
		go hang(conn)
		message := stun.MustBuild(stun.TransactionID, stun.BindingSuccess).Raw
		for {
			if _, err := conn.Write(bytes.Repeat(message, 100)); err != nil {
				return
			}
		}
	}
	hangup := func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) }
	tests := []struct {
		name      string
		serve     func(net.Conn)
		tcp, ctls string
	}{
		{"accepts and hangs", hang, probes.CodeTURNSilent, probes.CodeTLSHandshake},
		{"accepts and hangs up", hangup, probes.CodeTURNHangup, probes.CodeTLSHandshake},
		{"a web server", say("HTTP/1.1 400 Bad Request\r\n\r\n"), probes.CodeTURNGarbled, probes.CodeTLSNoListener},
		{"a banner", say("SSH-2.0-OpenSSH_9.2\r\n"), probes.CodeTURNGarbled, probes.CodeTLSNoListener},
		{"a huge message", say("\x01\x01\xff\xfc\x21\x12\xa4\x42"), probes.CodeTURNGarbled, probes.CodeTLSNoListener},
		{"half a message", say("\x01\x13\x00\x10\x21\x12\xa4\x42"), probes.CodeTURNSilent, probes.CodeTLSNoListener},
		{"a slow handshake", trickle, probes.CodeTURNGarbled, probes.CodeTLSHandshake},
		{"a flood", flood, probes.CodeTURNGarbled, probes.CodeTLSNoListener},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			target := accepting(t, test.serve)
			p := probes.TURN{Target: target, Credentials: goodLogin(), Schedule: brief}
			wantReport(t, p.Run(t.Context()), test.tcp)
			p.Target.Scheme = "turns"
			wantReport(t, p.Run(t.Context()), test.ctls)
		})
	}
}

// TestRedirectsEnd has servers that send their clients in circles.
func TestRedirectsEnd(t *testing.T) {
	var to [2]wire.ServerURI
	known := make(chan struct{})
	asked := make(chan struct{}, 100)
	for i := range to {
		to[i] = scripted(t, func(m *stun.Message, _ netip.AddrPort) [][]byte {
			if !isAllocate(m) {
				return nil
			}
			<-known
			asked <- struct{}{}
			return [][]byte{refuse(m, stun.CodeTryAlternate, &stun.AlternateServer{IP: loopback, Port: to[1-i].Port})}
		})
	}
	close(known)
	r := probes.TURN{Target: to[0], Credentials: goodLogin(), Schedule: brief}.Run(t.Context())
	if len(r.Findings) != 2 || r.Findings[1].Code != probes.CodeTURNRedirect || !strings.HasSuffix(r.Findings[1].Summary, "again") {
		t.Errorf("findings %+v, want two redirects", r.Findings)
	}
	if len(asked) != 2 {
		t.Errorf("%d requests, want one to each server", len(asked))
	}
}

func TestRedirectIsFollowed(t *testing.T) {
	r := probes.TURN{Target: redirecting(t), Credentials: goodLogin()}.Run(t.Context())
	wantReport(t, r, probes.CodeTURNRedirect)
	if len(r.Findings) != 2 || r.Findings[1].Code != probes.CodeTURNOK {
		t.Errorf("findings %+v, want the redirect and a healthy server", r.Findings)
	}
}

func TestCheckWantsATrustedCertificate(t *testing.T) {
	id := goodIdentity(t)
	target, _ := pionOver(t, probes.TLS, id)
	p := probes.TURN{Target: target, Credentials: goodLogin(), Roots: id.roots}
	if _, err := p.Check(t.Context()); err != nil {
		t.Errorf("Check() = %v", err)
	}
	p.Roots = goodIdentity(t).roots
	if _, err := p.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "not trusted") {
		t.Errorf("Check() = %v, want a certificate that is not trusted", err)
	}
	wantReport(t, p.Run(t.Context()), probes.CodeCertUntrusted)
}

func TestRunOverIPv6(t *testing.T) {
	target := coturn(t, "-L", "::1", "-E", "::1", "--lt-cred-mech", "-u", user+":"+password, "--allow-loopback-peers")
	target.Host = "::1"
	r := probes.TURN{Target: target, Credentials: goodLogin()}.Run(t.Context())
	wantReport(t, r, probes.CodeTURNOK)
	if a, err := netip.ParseAddrPort(r.Findings[0].Fact("relayed")); err != nil || !a.Addr().Is6() {
		t.Errorf("relayed %q, want an IPv6 address", r.Findings[0].Fact("relayed"))
	}
}
