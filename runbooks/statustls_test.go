package runbooks

import (
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// A certificate is judged as it is served: by a client that trusts its issuer,
// and by one that does not.
func TestStatusOfCertificates(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	host, text, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	m := &Mesh{}
	m.Sites.TLS = []wire.ServerURI{{Scheme: probes.SchemeTLS, Host: host, Port: port}}
	m.Sites.Roots = x509.NewCertPool()
	m.Sites.Roots.AddCert(server.Certificate())
	s := &survey{mesh: m, lists: func() turnLists { return turnLists{} }}
	p := s.certificatePart(t.Context())[0]
	if p.Verdict == probes.Unknown || p.Facts[host+":"+text] != "2084-01-29T16:00:00Z" || p.Measured["days_left"] < 1 {
		t.Errorf("%+v", p)
	}
	m.Sites.Roots = x509.NewCertPool()
	if p := s.certificatePart(t.Context())[0]; p.Verdict != probes.Fail || !strings.HasPrefix(p.Summary, host+":"+text+": ") {
		t.Errorf("%+v", p)
	}
	server.Close()
	if p := s.certificatePart(t.Context())[0]; p.Verdict == probes.Pass {
		t.Errorf("%+v", p)
	}
	m.Sites.TLS = nil
	if p := s.certificatePart(t.Context())[0]; p.Verdict != probes.Skip {
		t.Errorf("%+v", p)
	}
}
