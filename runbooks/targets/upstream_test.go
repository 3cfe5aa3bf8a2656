package targets

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const nginxConfig = `# upstream webrtc_signaling { server commented.out:1; }
events {}
http {
  map $http_upgrade $connection_upgrade { default upgrade; "" close; }
  upstream other { server other:1; }
  upstream webrtc_signaling {
    keepalive 32;   # not a server
    server signaling1.infrafabric.local:8443
      weight=10 max_fails=3 fail_timeout=30s;
    server "signaling2.infrafabric.local:8443" down;
    server signaling3.infrafabric.local:8443 weight=5 backup max_fails=3;
    server 10.0.0.1; server [fe80::1]:99; server unix:/run/s.sock;
  }
  server { listen 8443; location / { proxy_pass http://webrtc_signaling; add_header X "a;b}{ \" c"; } }
}
`

func TestParseUpstream(t *testing.T) {
	got, err := ParseUpstream(nginxConfig, "webrtc_signaling")
	if err != nil {
		t.Fatal(err)
	}
	want := []UpstreamServer{
		{Address: "signaling1.infrafabric.local:8443"}, {Address: "signaling2.infrafabric.local:8443", Down: true},
		{Address: "signaling3.infrafabric.local:8443", Backup: true}, {Address: "10.0.0.1:80"}, {Address: "[fe80::1]:99"}, {Address: "unix:/run/s.sock"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err := ParseUpstream("upstream e{}", "e"); err != nil || len(got) != 0 {
		t.Errorf("empty: %v, error %v", got, err)
	}
}

func TestParseUpstreamRefuses(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "no upstream"},
		{"another", "upstream other { server a:1; }", "no upstream"},
		{"a value of that name", "set upstream u { }", "no upstream"},
		{"no end", "upstream u { server a:1;", "does not end"},
		{"no semicolon", "upstream u { server a:1 }", "does not end with ;"},
		{"quote", `upstream u { server "a:1; }`, "quoted word"},
		{"block", "upstream u { if (x) { } }", "block"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := ParseUpstream(tt.text, "u"); err == nil || !strings.Contains(err.Error(), tt.want) || got != nil {
				t.Errorf("got %v, error %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestReadUpstream(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nginx.conf")
	if _, err := ReadUpstream(path, "u"); err == nil || !strings.HasSuffix(err.Error(), "nginx.conf: no such file or directory") {
		t.Errorf("error %v", err)
	}
	if err := os.WriteFile(path, []byte(nginxConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadUpstream(path, "other"); err != nil || len(got) != 1 {
		t.Errorf("got %v, error %v", got, err)
	}
	if err := os.Truncate(path, maxUpstreamFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadUpstream(path, "other"); err == nil || !strings.Contains(err.Error(), "larger than 4 MiB") {
		t.Errorf("error %v", err)
	}
}

func FuzzParseUpstream(f *testing.F) {
	f.Add(nginxConfig)
	f.Add(`upstream webrtc_signaling{server a;server '`)
	f.Fuzz(func(t *testing.T, text string) {
		servers, err := ParseUpstream(text, "webrtc_signaling")
		if err != nil && servers != nil {
			t.Error("servers with an error")
		}
		for _, s := range servers {
			if s.Address == "" {
				t.Error("a server without an address")
			}
		}
	})
}
