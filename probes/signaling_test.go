package probes_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// relayServer is a signaling server as the mesh has it.
type relayServer struct {
	mu     sync.Mutex
	agents map[string]*websocket.Conn
	lossy  bool // loses offers to agents that it does not know
}

func (s *relayServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() {
		_ = conn.CloseNow()
		s.mu.Lock()
		defer s.mu.Unlock()
		maps.DeleteFunc(s.agents, func(_ string, c *websocket.Conn) bool { return c == conn })
	}()
	for {
		_, frame, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		signal, err := wire.DecodeSignal(frame)
		if err != nil {
			return
		}
		s.mu.Lock()
		to := s.agents[signal.To]
		switch {
		case signal.Type == wire.TypeRegister:
			s.agents[signal.AgentID] = conn
			send(r.Context(), conn, wire.Signal{Type: wire.TypeRegistered, AgentID: signal.AgentID})
		case to != nil:
			send(r.Context(), to, signal)
		case !s.lossy:
			send(r.Context(), conn, wire.Signal{Type: wire.TypeError, Message: "no such agent"})
		}
		s.mu.Unlock()
	}
}

func send(ctx context.Context, conn *websocket.Conn, s wire.Signal) {
	_ = conn.Write(ctx, websocket.MessageText, s.Encode())
}

func serveRelay(t *testing.T, s *relayServer) string {
	t.Helper()
	s.agents = map[string]*websocket.Conn{}
	return serve(t, s)
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return "ws" + strings.TrimPrefix(server.URL, "http")
}

// says upgrades and answers every frame with the same text; "" with nothing.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		for {
			if _, _, err := conn.Read(r.Context()); err != nil {
				return
			}
			if text != "" {
				_ = conn.Write(r.Context(), websocket.MessageText, []byte(text))
			}
		}
	}
}

// rawTCP accepts connections, says something at once and hangs, or closes.
func rawTCP(t *testing.T, banner string, closes bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	stop := make(chan struct{})
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer func() { _ = conn.Close() }()
				if closes {
					_, _ = bufio.NewReader(conn).ReadString('\n') // so that it is an end and not a reset
					return
				}
				_, _ = io.WriteString(conn, banner)
				<-stop
			})
		}
	})
	t.Cleanup(func() {
		close(stop)
		_ = l.Close()
		served.Wait()
	})
	return "ws://" + l.Addr().String()
}

func TestSignaling(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	const short = 4 * time.Second // a busy machine registers within it
	for _, tt := range []struct {
		name    string
		url     string
		timeout time.Duration // only where it is to pass
		want    string
		detail  string
	}{
		{"registers", serveRelay(t, &relayServer{}), 0, probes.CodeSignalingOK, ""},
		{"port closed", "ws://" + closed.Addr().String(), 0, probes.CodeSignalingClosed, "connect on 127.0.0.1:"},
		{"hangs after accept", rawTCP(t, "", false), short, probes.CodeSignalingStalled, "no answer"},
		{"hangs after the upgrade", serve(t, says("")), short, probes.CodeSignalingHangs, "no answer"},
		{"401", serve(t, reply(401, "")), 0, probes.CodeSignalingAuth, "HTTP 401"},
		{"403", serve(t, reply(403, "<html>")), 0, probes.CodeSignalingAuth, "HTTP 403"},
		{"502", serve(t, reply(502, "")), 0, probes.CodeSignalingRefused, "HTTP 502"},
		{"a web page", serve(t, reply(200, "<html>")), 0, probes.CodeSignalingProtocol, "HTTP 200 OK in place of an upgrade"},
		{"a redirect", serve(t, http.RedirectHandler("/login", http.StatusFound)), 0, probes.CodeSignalingProtocol, "HTTP 302"},
		{"another protocol", rawTCP(t, "SSH-2.0-OpenSSH_9.2\r\n", false), 0, probes.CodeSignalingProtocol, "what answers is no WebSocket server"},
		{"closes at once", rawTCP(t, "", true), 0, probes.CodeSignalingHangup, ""},
		{"error reply", serve(t, says(`{"type":"error","message":"full\u001b[31m"}`)), 0, probes.CodeSignalingError, `it says "full?[31m"`},
		{"another id", serve(t, says(`{"type":"registered","agent_id":"x","connected_agents":[]}`)), 0, probes.CodeSignalingGarbled, `"x"`},
		{"no JSON", serve(t, says("hello")), 0, probes.CodeSignalingGarbled, "signaling frame"},
		{"no such name", "ws://a..b", 0, probes.CodeDNSFailed, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			timeout := tt.timeout
			if timeout == 0 {
				timeout = 20 * time.Second
			}
			r := probes.Signaling{URL: tt.url, ID: "meshctl-test-1", Timeout: timeout}.Run(t.Context())
			if codesOf(r) != tt.want || !strings.Contains(r.Findings[0].Summary, tt.detail) {
				t.Errorf("got %+v, want %s %q", r, tt.want, tt.detail)
			}
		})
	}
}

func TestSignalingRegistry(t *testing.T) {
	shared := serveRelay(t, &relayServer{})
	apart, lossy := serveRelay(t, &relayServer{}), serveRelay(t, &relayServer{lossy: true})
	for _, tt := range []struct {
		name, from, to string
		balancer       bool
		timeout        time.Duration
		want           string
	}{
		{"shared", shared, shared, false, 20 * time.Second, probes.CodeSignalingOK + " " + probes.CodeRegistryShared},
		{"shared, from the balancer", shared, shared, true, 20 * time.Second, probes.CodeSignalingBalancer + " " + probes.CodeRegistryShared},
		{"separate", shared, apart, false, 20 * time.Second, probes.CodeSignalingOK + " " + probes.CodeRegistrySeparate},
		{"lost without a word", lossy, apart, false, 4 * time.Second, probes.CodeSignalingOK + " " + probes.CodeRegistryUnproven},
		{"the other is dead", shared, serve(t, reply(502, "")), false, 20 * time.Second, probes.CodeSignalingOK + " " + probes.CodeRegistryUnproven},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			id := "meshctl-" + strings.ReplaceAll(tt.name, " ", "-") // a server may take a while to forget the last one
			r := probes.Signaling{URL: tt.from, Other: tt.to, ID: id, Balancer: tt.balancer, Timeout: tt.timeout}.Run(t.Context())
			if codesOf(r) != tt.want {
				t.Errorf("got %+v, want %s", r, tt.want)
			}
		})
	}
}

func TestSignalingTLS(t *testing.T) {
	secure := func(cert tls.Certificate) string {
		server := httptest.NewUnstartedServer(&relayServer{agents: map[string]*websocket.Conn{}})
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		server.StartTLS()
		t.Cleanup(func() {
			server.CloseClientConnections()
			server.Close()
		})
		return "wss" + strings.TrimPrefix(server.URL, "https")
	}
	now := time.Now()
	soon := issue(t, nil, x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, NotBefore: now.Add(-90 * 24 * time.Hour), NotAfter: now.Add(20 * 24 * time.Hour),
	}, ecKey(t))
	roots := x509.NewCertPool()
	roots.AddCert(soon.cert)
	for _, tt := range []struct{ name, url, want string }{
		{"expires soon", secure(tls.Certificate{Certificate: [][]byte{soon.cert.Raw}, PrivateKey: soon.key}), probes.CodeSignalingOK + " " + probes.CodeCertExpiring},
		{"wrong name", secure(selfSigned(t, "signaling.example")), probes.CodeCertName},
		{"no TLS", "wss" + strings.TrimPrefix(serveRelay(t, &relayServer{}), "ws"), probes.CodeTLSNoListener},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := probes.Signaling{URL: tt.url, ID: "meshctl-test-1", Roots: roots, Timeout: 20 * time.Second}.Run(t.Context())
			if codesOf(r) != tt.want {
				t.Errorf("got %+v, want %s", r, tt.want)
			}
		})
	}
}
