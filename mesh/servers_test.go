package mesh

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/turn/v5"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// signalServer is a signaling server as the mesh has them.
type signalServer struct {
	*httptest.Server

	mu     sync.Mutex
	agents map[string]*websocket.Conn
	joins  func()                                              // called when an agent registers
	refuse int                                                 // HTTP status for new sockets; 0: take them
	slow   bool                                                // pings are not answered
	relay  func(s wire.Signal, forward func(wire.Signal)) bool // true: handled
	served sync.WaitGroup
}

func newSignalServer(t testing.TB) *signalServer {
	return startSignalServer(t, (*httptest.Server).Start)
}

func startSignalServer(t testing.TB, start func(*httptest.Server)) *signalServer {
	s := &signalServer{agents: map[string]*websocket.Conn{}}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.accept))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	start(s.Server)
	t.Cleanup(func() {
		s.drop()
		s.Close()
		s.served.Wait()
	})
	return s
}

func (s *signalServer) url() string { return "ws" + strings.TrimPrefix(s.URL, "http") }

func (s *signalServer) accept(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	refuse := s.refuse
	s.mu.Unlock()
	if refuse != 0 {
		w.WriteHeader(refuse)
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{OnPingReceived: s.answersPing})
	if err != nil {
		return
	}
	s.served.Add(1)
	defer s.served.Done()
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(wire.MaxFrame)
	id := ""
	for {
		_, frame, err := conn.Read(context.Background())
		if err != nil {
			break
		}
		signal, err := wire.DecodeSignal(frame)
		if err != nil {
			continue
		}
		if signal.Type == wire.TypeRegister {
			id = signal.AgentID
			s.register(id, conn)
			continue
		}
		s.forward(signal)
	}
	s.unregister(id, conn)
}

func (s *signalServer) register(id string, conn *websocket.Conn) {
	s.mu.Lock()
	joins := s.joins
	s.mu.Unlock()
	if joins != nil {
		joins()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agents[id] = conn
	others := []string{}
	for other, c := range s.agents {
		if other != id {
			others = append(others, other)
			write(c, wire.Signal{Type: wire.TypeAgentJoined, AgentID: id})
		}
	}
	write(conn, wire.Signal{Type: wire.TypeRegistered, AgentID: id, ConnectedAgents: others})
}

func (s *signalServer) unregister(id string, conn *websocket.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.agents[id] != conn {
		return
	}
	delete(s.agents, id)
	for _, c := range s.agents {
		write(c, wire.Signal{Type: wire.TypeAgentLeft, AgentID: id})
	}
}

// forward relays a signal, unless the test does something else with it.
func (s *signalServer) forward(signal wire.Signal) {
	s.mu.Lock()
	relay := s.relay
	s.mu.Unlock()
	if relay == nil || !relay(signal, s.to) {
		s.to(signal)
	}
}

func (s *signalServer) to(signal wire.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if conn := s.agents[signal.To]; conn != nil {
		write(conn, signal)
	} else if conn := s.agents[signal.From]; conn != nil && signal.Type != wire.TypeCandidate {
		write(conn, wire.Signal{Type: wire.TypeError, Message: "unknown target"})
	}
}

// intercept has f see every relayed signal.
func (s *signalServer) intercept(f func(s wire.Signal, forward func(wire.Signal)) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relay = f
}

// drop closes all sockets.
func (s *signalServer) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.agents {
		_ = conn.CloseNow()
	}
}

// evict forgets an agent and tells it, as a server does that mistakes the end
// of an older socket for the newer one's.
func (s *signalServer) evict(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	conn := s.agents[id]
	if conn == nil {
		return
	}
	delete(s.agents, id)
	write(conn, wire.Signal{Type: wire.TypeAgentLeft, AgentID: id})
}

func (s *signalServer) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agents[id] != nil
}

// answerPings false has the server ignore the pings of its sockets.
func (s *signalServer) answerPings(answer bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = !answer
}

func (s *signalServer) answersPing(context.Context, []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.slow
}

// refuseNew answers new sockets with an HTTP status.
func (s *signalServer) refuseNew(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = status
}

func write(conn *websocket.Conn, s wire.Signal) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Write(ctx, websocket.MessageText, s.Encode())
}

// relayServer is a TURN server in this process.
type relayServer struct {
	t      testing.TB
	uri    wire.ServerURI
	mu     sync.Mutex
	server *turn.Server
}

const turnUser, turnPassword = "mesh", "relay-password"

// newRelay starts a TURN server; auth false has it refuse every Allocate.
func newRelay(t testing.TB, accept bool) *relayServer {
	r := &relayServer{t: t}
	r.start("127.0.0.1:0", accept)
	t.Cleanup(r.kill)
	return r
}

func (r *relayServer) start(address string, accept bool) {
	conn, err := net.ListenPacket("udp4", address)
	if err != nil {
		r.t.Fatal(err)
	}
	uri, err := wire.ParseServerURI("turn:" + conn.LocalAddr().String() + "?transport=udp")
	if err != nil {
		r.t.Fatal(err)
	}
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: "mesh.test", LoggerFactory: silence{},
		AuthHandler: func(a *turn.RequestAttributes) (string, []byte, bool) {
			return a.Username, turn.GenerateAuthKey(a.Username, "mesh.test", turnPassword), accept
		},
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn:            conn,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"},
		}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.uri, r.server = uri, server
}

func (r *relayServer) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server != nil {
		_ = r.server.Close()
		r.server = nil
	}
}

func (r *relayServer) revive() { r.start(r.uri.Address(), true) }

// silentServer is a TURN server that never answers.
func silentServer(t testing.TB) wire.ServerURI {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	uri, err := wire.ParseServerURI("turn:" + conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	return uri
}

// allocate is a TURN check: one allocation with pion's client. The latency is
// always the same, and a server fails only when it refuses, is gone, or has been
// silent for the whole time of a check: a busy machine does not change the choice
// of server.
func allocate(ctx context.Context, server wire.ServerURI) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := net.Dial("udp4", server.Address())
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: server.Address(), Conn: connected{conn, cancel}, LoggerFactory: silence{},
		Username: turnUser, Password: turnPassword,
	})
	if err != nil {
		return 0, err
	}
	defer client.Close()
	if err := client.Listen(); err != nil {
		return 0, err
	}
	relay, err := client.AllocateWithContext(ctx)
	if err != nil {
		return 0, err
	}
	return time.Millisecond, relay.Close()
}

// connected is a socket that hears when nobody listens on the other side.
type connected struct {
	net.Conn
	gone func()
}

func (c connected) WriteTo(p []byte, _ net.Addr) (int, error) { return c.Write(p) }

func (c connected) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := c.Read(p)
	if err != nil {
		c.gone()
	}
	return n, c.RemoteAddr(), err
}
