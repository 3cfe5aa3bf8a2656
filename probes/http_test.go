package probes_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/httpapi"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/probes"
)

// service gives what a probe needs to call a URL.
func service(t *testing.T, url, key string) probes.Service {
	t.Helper()
	api, err := httpapi.New(httpapi.Options{URL: url, Bearer: secret.New(key), Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	return probes.Service{API: api, URL: url, Authorised: key != ""}
}

type prober interface {
	Run(ctx context.Context) probes.Report
}

func codesOf(r probes.Report) string {
	var codes []string
	for _, f := range r.Findings {
		codes = append(codes, f.Code)
	}
	return strings.Join(codes, " ")
}

func reply(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func TestHTTPServices(t *testing.T) {
	witness := func(s probes.Service) prober { return probes.Witness{Service: s} }
	controller := func(s probes.Service) prober { return probes.Controller{Service: s} }
	prometheus := func(s probes.Service) prober { return probes.Prometheus{Service: s} }
	vector := func(samples string) string {
		return `{"status":"success","data":{"resultType":"vector","result":[` + samples + `]}}`
	}
	asked := func(w http.ResponseWriter, r *http.Request) { // as Prometheus wants it
		if r.URL.Query().Get("query") != "up" {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = io.WriteString(w, vector(`{"metric":{"instance":"a"},"value":[1,"1"]}`))
	}
	tomorrow := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().UTC().Add(24*time.Hour).Format(http.TimeFormat))
		_, _ = io.WriteString(w, `{"results":[]}`)
	}
	for _, tt := range []struct {
		name   string
		probe  func(probes.Service) prober
		key    string
		handle http.HandlerFunc
		want   string
		detail string // in the last finding
	}{
		{"witness", witness, "k", reply(200, `{"results":[]}`), probes.CodeWitnessOK, ""},
		{"witness, wrong key", witness, "k", reply(401, ""), probes.CodeHTTPAuth, "401"},
		{"witness, no key", witness, "", reply(403, ""), probes.CodeHTTPAuthMissing, "403"},
		{"witness, no results", witness, "k", reply(200, `{}`), probes.CodeHTTPGarbled, "results is nothing"},
		{"witness, a page", witness, "k", reply(200, `<html>`), probes.CodeHTTPGarbled, "HTML"},
		{"witness, missing", witness, "k", reply(404, ``), probes.CodeHTTPNotOffered, "/api/query"},
		{"witness, 500", witness, "k", reply(500, ``), probes.CodeHTTPRefused, "500"},
		{"witness, another clock", witness, "k", tomorrow, probes.CodeWitnessOK + " " + probes.CodeClockDiffers, "by 86"},
		{"controller", controller, "", reply(200, `{"total_agents":3,"connections":[{"state":"connected"}]}`), probes.CodeControllerOK, ""},
		{"controller, an error", controller, "", reply(200, `{"error":"x"}`), probes.CodeHTTPGarbled, "total_agents is nothing"},
		{"controller, text", controller, "", reply(200, `{"total_agents":"3","connections":[]}`), probes.CodeHTTPGarbled, "total_agents is string"},
		{"prometheus", prometheus, "", asked, probes.CodePrometheusOK, ""},
		{"prometheus, one down", prometheus, "", reply(200, vector(`{"metric":{"instance":"a"},"value":[1,"1"]},{"metric":{"instance":"b:9"},"value":[1,"0"]}`)),
			probes.CodePrometheusOK + " " + probes.CodePrometheusDown, "1 of 2: b:9"},
		{"prometheus, no targets", prometheus, "", reply(200, vector("")), probes.CodePrometheusOK + " " + probes.CodePrometheusEmpty, ""},
		{"prometheus, a matrix", prometheus, "", reply(200, `{"status":"success","data":{"resultType":"matrix","result":[]}}`), probes.CodeHTTPGarbled, "vector"},
		{"prometheus, no value", prometheus, "", reply(200, vector(`{"metric":{}}`)), probes.CodeHTTPGarbled, "result[0]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(tt.handle)
			defer server.Close()
			r := tt.probe(service(t, server.URL, tt.key)).Run(t.Context())
			if codesOf(r) != tt.want || !strings.Contains(r.Findings[len(r.Findings)-1].Summary, tt.detail) {
				t.Errorf("got %+v, want %s %q", r, tt.want, tt.detail)
			}
		})
	}
}

func TestHTTPServiceUnreachable(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	plain := httptest.NewServer(reply(200, "{}"))
	defer plain.Close()
	secure := httptest.NewUnstartedServer(reply(200, "{}"))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{selfSigned(t, "service.example")}}
	secure.StartTLS()
	defer secure.Close()
	for _, tt := range []struct{ name, url, want string }{
		{"closed", "http://" + closed.Addr().String(), probes.CodeHTTPClosed},
		{"no TLS", "https" + strings.TrimPrefix(plain.URL, "http"), probes.CodeTLSNoListener},
		{"not trusted", secure.URL, probes.CodeCertName},
		{"no such name", "http://a..b", probes.CodeDNSFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := probes.Controller{Service: service(t, tt.url, "")}.Run(t.Context())
			if codesOf(r) != tt.want {
				t.Errorf("got %+v, want %s", r, tt.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := (probes.Witness{Service: service(t, plain.URL, "k")}).Run(ctx); codesOf(r) != probes.CodeProbeInterrupted {
		t.Errorf("interrupted: %+v", r)
	}
}

// selfSigned is a certificate that nobody trusts, valid now.
func selfSigned(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	now := time.Now()
	a := issue(t, nil, x509.Certificate{DNSNames: names, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour)}, ecKey(t))
	return tls.Certificate{Certificate: [][]byte{a.cert.Raw}, PrivateKey: a.key}
}
