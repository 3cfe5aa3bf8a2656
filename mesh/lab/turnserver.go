package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v3"
	"github.com/pion/turn/v5"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
)

const realm = "lab.meshctl"

// TURNServer is one TURN server of the lab.
type TURNServer struct {
	Name       string // turn-1, turn-2, turn-3
	URI        wire.ServerURI
	InRotation bool // in the list that agents start with
}

// relay is a TURN server that can be broken. Each fault starts and ends with a
// server that works.
type relay interface {
	address() string
	kill() error                                // the port is closed
	revive(ctx context.Context) error           // on the same port, without its allocations
	silence(ctx context.Context, on bool) error // the port is open and nothing is answered or relayed
	refuse(ctx context.Context, on bool) error  // Allocate is refused; Binding and what is allocated go on
	close() error
}

type credentials struct {
	username string
	password secret.Secret
}

// turnServer keeps apart the faults of one server: only one at a time.
type turnServer struct {
	TURNServer
	relay relay

	mu    sync.Mutex
	fault string // "" = works
}

func (t *turnServer) inject(ctx context.Context, fault string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fault == fault {
		return nil
	}
	if t.fault != "" {
		return fmt.Errorf("%s has %s already: heal that first", t.Name, t.fault)
	}
	var err error
	switch fault {
	case "turn-killed":
		err = t.relay.kill()
	case "turn-silent":
		err = t.relay.silence(ctx, true)
	case "turn-refuses-allocate":
		err = t.relay.refuse(ctx, true)
	}
	if err != nil {
		return err
	}
	t.fault = fault
	return nil
}

func (t *turnServer) heal(ctx context.Context, fault string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fault != fault {
		return nil
	}
	var err error
	switch fault {
	case "turn-killed":
		err = t.relay.revive(ctx)
	case "turn-silent":
		err = t.relay.silence(ctx, false)
	case "turn-refuses-allocate":
		err = t.relay.refuse(ctx, false)
	}
	if err != nil {
		return err
	}
	t.fault = ""
	return nil
}

// pionRelay is a TURN server in this process.
type pionRelay struct {
	addr     *net.UDPAddr
	key      []byte
	username string
	refusing atomic.Bool

	server *turn.Server // nil while it is killed
	gate   *gate
	held   net.Conn // keeps the port of a killed server
}

func newPionRelay(c credentials) (*pionRelay, error) {
	r := &pionRelay{
		addr:     &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)},
		username: c.username,
		key:      turn.GenerateAuthKey(c.username, realm, c.password.Reveal()),
	}
	return r, r.start()
}

func (r *pionRelay) start() error {
	conn, err := net.ListenUDP("udp4", r.addr)
	if err != nil {
		return err
	}
	r.addr = conn.LocalAddr().(*net.UDPAddr)
	r.gate = &gate{PacketConn: conn}
	r.server, err = turn.NewServer(turn.ServerConfig{
		Realm:         realm,
		LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard},
		AuthHandler: func(a *turn.RequestAttributes) (string, []byte, bool) {
			return a.Username, r.key, a.Username == r.username
		},
		QuotaHandler: func(string, string, net.Addr) bool { return !r.refusing.Load() },
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn: r.gate,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{
				RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1",
			},
			PermissionHandler: func(_ net.Addr, peer net.IP) bool { return peer.IsLoopback() },
		}},
	})
	if err != nil {
		_ = conn.Close()
	}
	return err
}

func (r *pionRelay) address() string { return r.addr.String() }

func (r *pionRelay) kill() error {
	if err := r.close(); err != nil {
		return err
	}
	var err error
	r.held, err = holdPort(r.addr)
	return err
}

func (r *pionRelay) revive(ctx context.Context) error {
	if r.held != nil {
		_ = r.held.Close()
		r.held = nil
	}
	return poll(ctx, portBack, r.start)
}

func (r *pionRelay) silence(_ context.Context, on bool) error {
	r.gate.silent.Store(on)
	return nil
}

func (r *pionRelay) refuse(_ context.Context, on bool) error {
	r.refusing.Store(on)
	return nil
}

// close returns when the allocations are gone, which pion does not wait for.
func (r *pionRelay) close() error {
	if r.held != nil {
		_ = r.held.Close()
		r.held = nil
	}
	if r.server == nil {
		return nil
	}
	server := r.server
	r.server = nil
	if err := server.Close(); err != nil {
		return err
	}
	return poll(context.Background(), portBack, func() error {
		if n := server.AllocationCount(); n > 0 {
			return fmt.Errorf("%d allocations are left", n)
		}
		return nil
	})
}

// gate is a socket that can fall silent: what arrives is swallowed and nothing
// is sent, yet the port stays open.
type gate struct {
	net.PacketConn
	silent atomic.Bool
}

func (g *gate) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := g.PacketConn.ReadFrom(p)
		if err != nil || !g.silent.Load() {
			return n, from, err
		}
	}
}

func (g *gate) WriteTo(p []byte, to net.Addr) (int, error) {
	if g.silent.Load() {
		return len(p), nil
	}
	return g.PacketConn.WriteTo(p, to)
}

// holdPort keeps others from getting a port by chance. A connected UDP socket
// takes packets of its peer only: to everybody else the port is closed, and
// the kernel says so.
func holdPort(addr *net.UDPAddr) (net.Conn, error) {
	return net.DialUDP("udp4", addr, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9})
}

// bindingAnswered asks a STUN server once. Nil means that it answered.
func bindingAnswered(address string, wait time.Duration) error {
	conn, err := net.Dial("udp4", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	request, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	if err != nil {
		return err
	}
	if _, err := conn.Write(request.Raw); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	reply := &stun.Message{Raw: make([]byte, 1500)}
	n, err := conn.Read(reply.Raw)
	if err != nil {
		return fmt.Errorf("STUN binding %s: %w", address, err)
	}
	reply.Raw = reply.Raw[:n]
	if err := reply.Decode(); err != nil {
		return fmt.Errorf("STUN binding %s: %w", address, err)
	}
	if reply.TransactionID != request.TransactionID || reply.Type != stun.BindingSuccess {
		return fmt.Errorf("STUN binding %s: answered with %s", address, reply.Type)
	}
	return nil
}
