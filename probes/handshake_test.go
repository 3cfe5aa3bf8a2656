package probes_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// serveTLS is a web server behind TLS.
func serveTLS(t *testing.T, cert tls.Certificate) string {
	t.Helper()
	server := httptest.NewUnstartedServer(reply(200, "hello"))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// serveSTUNS answers one Binding request of each connection.
func serveSTUNS(t *testing.T, cert tls.Certificate) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			request := &stun.Message{Raw: make([]byte, 20)}
			if _, err := io.ReadFull(conn, request.Raw); err == nil && request.Decode() == nil {
				answer := stun.MustBuild(request, stun.BindingSuccess, &stun.XORMappedAddress{IP: net.IPv4(127, 0, 0, 1), Port: 9})
				_, _ = conn.Write(answer.Raw)
			}
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func TestHandshake(t *testing.T) {
	now := time.Now()
	root := issue(t, nil, x509.Certificate{IsCA: true, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}, ecKey(t))
	cert := func(before, after time.Duration) tls.Certificate {
		a := issue(t, root, x509.Certificate{
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: now.Add(-before), NotAfter: now.Add(after),
		}, ecKey(t))
		return tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key}
	}
	const hour, many = time.Hour, 1000 * time.Hour
	good := cert(hour, many)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	roots := x509.NewCertPool()
	roots.AddCert(root.cert)
	for _, tt := range []struct {
		name, scheme, address string
		timeout               time.Duration
		want                  string
	}{
		{"any service", probes.SchemeTLS, serveTLS(t, good), 0, probes.CodeTLSOK},
		{"a STUN server", "stuns", serveSTUNS(t, good), 0, probes.CodeTLSOK},
		{"expires soon", probes.SchemeTLS, serveTLS(t, cert(many, 400*hour)), 0, probes.CodeTLSOK + " " + probes.CodeCertExpiring},
		{"expired", probes.SchemeTLS, serveTLS(t, cert(many, -hour)), 0, probes.CodeCertExpired},
		{"a web server in place of TURN", "turns", serveTLS(t, good), 0, probes.CodeTLSNotTURN},
		{"that, and expired", "turns", serveTLS(t, cert(many, -hour)), 0, probes.CodeCertExpired + " " + probes.CodeTLSNotTURN},
		{"no TLS", "turns", strings.TrimPrefix(rawTCP(t, "SSH-2.0-OpenSSH_9.2\r\n", false), "ws://"), 0, probes.CodeTLSNoListener},
		{"hangs", "turns", strings.TrimPrefix(rawTCP(t, "", false), "ws://"), 4 * time.Second, probes.CodeTLSHandshake},
		{"closed", "turns", closed.Addr().String(), 0, probes.CodeTLSClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := netip.MustParseAddrPort(tt.address)
			p := probes.Handshake{
				Target: wire.ServerURI{Scheme: tt.scheme, Host: address.Addr().String(), Port: int(address.Port())},
				Roots:  roots, Timeout: tt.timeout,
			}
			if tt.timeout == 0 {
				p.Timeout = 20 * time.Second
			}
			if r := p.Run(t.Context()); codesOf(r) != tt.want {
				t.Errorf("got %+v, want %s", r, tt.want)
			}
		})
	}
}
