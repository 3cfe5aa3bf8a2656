package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v3"
	"github.com/pion/turn/v5"

	"github.com/infrafabric/meshctl/mesh/lab/network"
	"github.com/infrafabric/meshctl/mesh/secret"
)

// pionRelay is a TURN server in this process.
type pionRelay struct {
	addr     *net.UDPAddr
	login    credentials
	wrong    secret.Secret
	lifetime time.Duration // of allocations; 0 = 10 min
	network  *network.Network
	faults   switches
	refused  atomic.Pointer[string] // user who was refused last

	server *turn.Server // nil while it is killed
	held   net.Conn     // keeps the port of a killed server
}

func newPionRelay(c credentials, lifetime time.Duration, n *network.Network) (*pionRelay, error) {
	r := &pionRelay{
		addr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, login: c, wrong: newKey(), lifetime: lifetime, network: n,
	}
	return r, r.start()
}

func (r *pionRelay) start() error {
	conn, err := net.ListenUDP("udp4", r.addr)
	if err != nil {
		return err
	}
	r.addr = conn.LocalAddr().(*net.UDPAddr)
	r.server, err = turn.NewServer(turn.ServerConfig{
		Realm:              realm,
		LoggerFactory:      &logging.DefaultLoggerFactory{Writer: io.Discard},
		AuthHandler:        r.authenticate,
		QuotaHandler:       r.admits,
		AllocationLifetime: r.lifetime,
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn: &gate{conn, r},
			RelayAddressGenerator: &network.RelayAddresses{Network: r.network, RelayAddressGenerator: &relayRange{
				turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}, &r.faults,
			}},
			PermissionHandler: func(_ net.Addr, peer net.IP) bool { return peer.IsLoopback() },
		}},
	})
	if err != nil {
		_ = conn.Close()
	}
	return err
}

// authenticate takes the lab's user, also as TIME:USER, where time is the
// second in which the credentials expire. Like coturn it does not look at that
// without the fault.
func (r *pionRelay) authenticate(a *turn.RequestAttributes) (string, []byte, bool) {
	password := r.login.password
	if r.faults.is(faultSecret) {
		password = r.wrong
	}
	expires, user, timed := strings.Cut(a.Username, ":")
	if !timed {
		expires, user = "0", a.Username
	}
	at, err := strconv.ParseInt(expires, 10, 64)
	if user != r.login.username || err != nil || r.faults.is(faultExpiry) && time.Now().After(time.Unix(at, 0)) {
		return "", nil, false
	}
	return a.Username, turn.GenerateAuthKey(a.Username, realm, password.Reveal()), true
}

// admits is the quota; pion answers 486 to whom it refuses.
func (r *pionRelay) admits(username, _ string, _ net.Addr) bool {
	r.refused.Store(&username)
	return !r.faults.is(faultRefuses) && !r.faults.is(faultQuota) && !r.faults.is(faultDrains)
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

// set breaks the server or makes it whole again.
func (r *pionRelay) set(ctx context.Context, fault string, on bool) error {
	switch {
	case fault != faultKilled:
		r.faults.set(fault, on)
		return nil
	case on:
		return r.kill()
	}
	return r.revive(ctx)
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
	relay *pionRelay
}

func (g *gate) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := g.PacketConn.ReadFrom(p)
		if err != nil || !g.relay.faults.is(faultSilent) {
			return n, from, err
		}
	}
}

func (g *gate) WriteTo(p []byte, to net.Addr) (int, error) {
	switch {
	case g.relay.faults.is(faultSilent):
		return len(p), nil
	case g.relay.faults.is(faultDrains):
		if _, err := g.PacketConn.WriteTo(g.relay.forbid(p), to); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	return g.PacketConn.WriteTo(p, to)
}

// forbid makes pion's 486 to an Allocate the 403 of a coturn that drains. The
// quota was asked just before, in the same goroutine.
func (r *pionRelay) forbid(p []byte) []byte {
	m := &stun.Message{Raw: append([]byte(nil), p...)}
	var code stun.ErrorCodeAttribute
	if m.Decode() != nil || m.Type != stun.NewType(stun.MethodAllocate, stun.ClassErrorResponse) ||
		code.GetFrom(m) != nil || code.Code != stun.CodeAllocQuotaReached {
		return p
	}
	user := *r.refused.Load()
	return stun.MustBuild(m, m.Type, stun.ErrorCodeAttribute{Code: stun.CodeForbidden, Reason: []byte("Server is draining")},
		stun.MessageIntegrity(turn.GenerateAuthKey(user, realm, r.login.password.Reveal()))).Raw
}

// relayRange gives out the sockets of allocations.
type relayRange struct {
	turn.RelayAddressGeneratorStatic
	faults *switches
}

func (r *relayRange) AllocatePacketConn(c turn.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	if r.faults.is(faultPorts) {
		return nil, nil, errors.New("no relay port is left")
	}
	conn, announced, err := r.RelayAddressGeneratorStatic.AllocatePacketConn(c)
	if err != nil {
		return nil, nil, err
	}
	if u, ok := announced.(*net.UDPAddr); ok && r.faults.is(faultExternal) {
		announced = &net.UDPAddr{IP: net.ParseIP(wrongAddress), Port: u.Port}
	}
	return &firewall{PacketConn: conn, faults: r.faults, contacted: map[netip.AddrPort]bool{}}, announced, nil
}

// firewall is before the socket of an allocation: with turn-range-closed it
// lets in only what answers to something sent.
type firewall struct {
	net.PacketConn
	faults *switches

	mu        sync.Mutex
	contacted map[netip.AddrPort]bool // what was sent to
}

func (f *firewall) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := f.PacketConn.ReadFrom(p)
		if err != nil || !f.faults.is(faultRangeClosed) || f.knows(from) {
			return n, from, err
		}
	}
}

func (f *firewall) knows(from net.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.contacted[addrPort(from)]
}

func (f *firewall) WriteTo(p []byte, to net.Addr) (int, error) {
	f.mu.Lock()
	f.contacted[addrPort(to)] = true
	f.mu.Unlock()
	return f.PacketConn.WriteTo(p, to)
}

func addrPort(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(u.AddrPort().Addr().Unmap(), u.AddrPort().Port())
}
