package httpapi

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/infrafabric/meshctl/mesh/secret"
)

func TestNew(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bearer := secret.New(token)
	for _, tt := range []struct {
		name    string
		options Options
		want    string // in the error; "" = accepted
	}{
		{"https", Options{URL: "https://mesh.example:8443", Bearer: bearer}, ""},
		{"http without bearer", Options{URL: "http://mesh.example"}, ""},
		{"http with bearer", Options{URL: "http://mesh.example", Bearer: bearer}, "not sent over plain http"},
		{"http with bearer, allowed", Options{URL: "http://mesh.example", Bearer: bearer, Insecure: true}, ""},
		{"loopback name", Options{URL: "http://localhost:1", Bearer: bearer}, ""},
		{"loopback 4", Options{URL: "http://127.9.9.9:1", Bearer: bearer}, ""},
		{"loopback 6", Options{URL: "http://[::1]:1", Bearer: bearer}, ""},
		{"looks like loopback", Options{URL: "http://127.0.0.1.example", Bearer: bearer}, "not sent over plain http"},
		{"no scheme", Options{URL: "mesh.example:8443"}, "must start with http:// or https://"},
		{"websocket", Options{URL: "wss://mesh.example"}, "must start with http:// or https://"},
		{"empty", Options{}, "must start with http:// or https://"},
		{"no host", Options{URL: "https://:8443"}, "no host"},
		{"query", Options{URL: "https://mesh.example?key=1"}, "must not have a query"},
		{"password", Options{URL: "https://admin:hunter2@mesh.example"}, "must not carry a user name or password"},
		{"password, broken", Options{URL: "https://admin:hunter2%@mesh.example"}, "must not carry a user name or password"},
		{"bad port", Options{URL: "https://mesh.example:http"}, "invalid port"},
		{"line end in the bearer", Options{URL: "https://mesh.example", Bearer: secret.New("hunter2\n")}, "line end"},
		{"ca file missing", Options{URL: "https://mesh.example", CAFile: empty + ".no"}, "no such file"},
		{"ca file empty", Options{URL: "https://mesh.example", CAFile: empty}, "no certificate in it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := New(tt.options)
			if err == nil {
				c.Close()
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want %q", err, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), token)) {
				t.Errorf("a secret is in %q", err)
			}
		})
	}
}

func writeCA(t *testing.T, certificate *x509.Certificate) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
