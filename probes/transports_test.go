package probes_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"
	"github.com/pion/turn/v5"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// identity is a server's certificate with the chain that it sends.
type identity struct {
	chain     []*authority
	roots     *x509.CertPool
	cert, key string // files
}

// identify issues a certificate for 127.0.0.1 under an intermediate, valid
// around now, and sends the first n of leaf and intermediate.
func identify(t testing.TB, from, until time.Duration, n int) identity {
	t.Helper()
	now := time.Now()
	template := func(name string, isCA bool) x509.Certificate {
		return x509.Certificate{
			Subject: pkix.Name{CommonName: name}, IsCA: isCA, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0),
		}
	}
	root := issue(t, nil, template("Probe Root", true), ecKey(t))
	middle := issue(t, root, template("Probe Intermediate", true), ecKey(t))
	leaf := template("turn", false)
	leaf.IPAddresses, leaf.ExtKeyUsage = []net.IP{loopback}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	leaf.NotBefore, leaf.NotAfter = now.Add(from), now.Add(until)
	id := identity{chain: []*authority{issue(t, middle, leaf, ecKey(t)), middle}[:n], roots: x509.NewCertPool()}
	id.roots.AddCert(root.cert)
	id.write(t)
	return id
}

func (id *identity) write(t testing.TB) {
	t.Helper()
	dir := t.TempDir()
	id.cert, id.key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	var chain []byte
	for _, a := range id.chain {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(id.chain[0].key)
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{id.cert: chain, id.key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (id *identity) tls() tls.Certificate {
	c := tls.Certificate{PrivateKey: id.chain[0].key}
	for _, a := range id.chain {
		c.Certificate = append(c.Certificate, a.cert.Raw)
	}
	return c
}

func goodIdentity(t testing.TB) identity {
	return identify(t, -24*time.Hour, 300*24*time.Hour, 2)
}

// coturnEverywhere serves plain and secured transports; Over finds them when
// the port is that of the plain ones, since coturn tells them apart itself.
func coturnEverywhere(t testing.TB, id identity, flags ...string) wire.ServerURI {
	t.Helper()
	secured := strconv.Itoa(int(closedPort(t).Port()))
	return startedCoturn(t, append([]string{
		"--no-cli", "--tls-listening-port", secured, "--cert", id.cert, "--pkey", id.key,
	}, flags...), probes.UDP, probes.TCP, probes.TLS, probes.DTLS)
}

// pionOver starts a pion server for one transport.
func pionOver(t testing.TB, over probes.Transport, id identity) (wire.ServerURI, *turn.Server) {
	t.Helper()
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	var at net.Addr
	_, server := pion(t, nil, func(c *turn.ServerConfig) {
		var l net.Listener
		var err error
		switch over {
		case probes.UDP:
			at = c.PacketConnConfigs[0].PacketConn.LocalAddr()
			return
		case probes.DTLS:
			l, err = dtls.ListenWithOptions("udp", &net.UDPAddr{IP: loopback}, dtls.WithCertificates(id.tls()), dtls.WithLoggerFactory(quiet))
		case probes.TLS:
			l, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{id.tls()}})
		default:
			l, err = net.Listen("tcp", "127.0.0.1:0")
		}
		if err != nil {
			t.Fatal(err)
		}
		at = l.Addr()
		generator := &turn.RelayAddressGeneratorStatic{RelayAddress: loopback, Address: "127.0.0.1"}
		c.ListenerConfigs = []turn.ListenerConfig{{Listener: l, RelayAddressGenerator: generator}}
	})
	port := netip.MustParseAddrPort(at.String()).Port()
	return probes.Over(wire.ServerURI{Scheme: "turn", Host: "127.0.0.1", Port: int(port)}, over)[0], server
}

func TestRunOverEveryTransport(t *testing.T) {
	id := goodIdentity(t)
	real := coturnEverywhere(t, id, userFlags()...)
	for _, over := range []probes.Transport{probes.UDP, probes.TCP, probes.TLS, probes.DTLS} {
		ask := func(t *testing.T, target wire.ServerURI) {
			r := probes.TURN{Target: target, Credentials: goodLogin(), Roots: id.roots}.Run(t.Context())
			wantReport(t, r, probes.CodeTURNOK)
			if got := r.Findings[0].Fact("transport"); got != string(over) {
				t.Errorf("transport %q, want %q", got, over)
			}
			if got := r.Findings[0].Fact("reflexive_unsolicited"); got != "arrived" {
				t.Errorf("unsolicited data: %q", got)
			}
		}
		t.Run("coturn/"+string(over), func(t *testing.T) { ask(t, probes.Over(real, over)[0]) })
		t.Run("pion/"+string(over), func(t *testing.T) {
			target, server := pionOver(t, over, id)
			ask(t, target)
			if n := server.AllocationCount(); n != 0 {
				t.Errorf("%d allocations are left", n)
			}
		})
	}
}
