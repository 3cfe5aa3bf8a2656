package network

import (
	"net"
	"time"

	"github.com/pion/transport/v5"
	"github.com/pion/transport/v5/stdnet"
	"github.com/pion/turn/v5"
)

// agentNet is the system's network as one agent has it.
type agentNet struct {
	*stdnet.Net
	network *Network
	agent   string
}

// Net gives the network for an agent's pion SettingEngine.
func (n *Network) Net(agent string) (transport.Net, error) {
	std, err := stdnet.NewNet()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.local[agent] = true
	n.mu.Unlock()
	return &agentNet{std, n, agent}, nil
}

// ListenUDP opens a socket for host candidates.
func (a *agentNet) ListenUDP(network string, addr *net.UDPAddr) (transport.UDPConn, error) {
	conn, err := a.Net.ListenUDP(network, addr)
	if err != nil {
		return nil, err
	}
	a.network.Learn(addrPort(conn.LocalAddr()), a.agent)
	return &hostSocket{UDPConn: conn, socket: a.socket(conn)}, nil
}

// ListenPacket opens a socket for a TURN server.
func (a *agentNet) ListenPacket(network, addr string) (net.PacketConn, error) {
	conn, err := a.Net.ListenPacket(network, addr)
	if err != nil {
		return nil, err
	}
	return a.socket(conn), nil
}

func (a *agentNet) socket(conn net.PacketConn) *socket {
	return &socket{PacketConn: conn, network: a.network, agent: a.agent}
}

// socket is an agent's. What it sends meets the rules here; what servers send
// to it, which nobody has met before, when it is received.
type socket struct {
	net.PacketConn
	network  *Network
	agent    string
	channels channels
}

// hostSocket has the methods of a UDP socket besides.
type hostSocket struct {
	transport.UDPConn
	socket *socket
}

func (h *hostSocket) ReadFrom(p []byte) (int, net.Addr, error) { return h.socket.ReadFrom(p) }

func (h *hostSocket) WriteTo(p []byte, to net.Addr) (int, error) { return h.socket.WriteTo(p, to) }

func (s *socket) WriteTo(p []byte, to net.Addr) (int, error) {
	hop, server := s.network.owner(addrPort(to))
	delay, drop := s.network.fate(s.agent, hop, server || s.network.isRelay(addrPort(to)))
	if peer := s.channels.peer(p); peer.IsValid() {
		final, _ := s.network.owner(peer)
		more, lost := s.network.fate(s.agent, final, true)
		delay, drop = delay+more, drop || lost
	}
	return s.network.pass(s.PacketConn, p, to, delay, drop)
}

// pass sends a packet, later or never. A lost packet looks sent, as on a real
// network.
func (n *Network) pass(conn net.PacketConn, p []byte, to net.Addr, delay time.Duration, drop bool) (int, error) {
	switch {
	case drop:
		return len(p), nil
	case delay <= 0:
		return conn.WriteTo(p, to)
	}
	later := append([]byte(nil), p...)
	n.queue.later(delay, func() { _, _ = conn.WriteTo(later, to) })
	return len(p), nil
}

// ReadFrom drops what a server sends. A delay of servers to agents would need
// a second queue and is left out: delay the agent's own packets instead.
func (s *socket) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		count, from, err := s.PacketConn.ReadFrom(p)
		if err != nil {
			return count, from, err
		}
		hop, server := s.network.owner(addrPort(from))
		if !server {
			return count, from, nil
		}
		if _, drop := s.network.fate(hop, s.agent, true); !drop {
			return count, from, nil
		}
	}
}

// RelayAddresses gives a TURN server relay addresses whose packets meet the
// rules, if they are not those of agents of this process: their own sockets
// have met them. Other processes' sockets are out of reach.
type RelayAddresses struct {
	turn.RelayAddressGenerator
	Network *Network
}

// AllocatePacketConn opens the socket of a relay address.
func (r *RelayAddresses) AllocatePacketConn(c turn.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	conn, addr, err := r.RelayAddressGenerator.AllocatePacketConn(c)
	if err != nil {
		return nil, nil, err
	}
	return &relaySocket{conn, r.Network}, addr, nil
}

type relaySocket struct {
	net.PacketConn
	network *Network
}

func (r *relaySocket) WriteTo(p []byte, to net.Addr) (int, error) {
	from, _ := r.network.owner(addrPort(r.LocalAddr()))
	final, _ := r.network.owner(addrPort(to))
	if r.network.isLocal(from) {
		return r.PacketConn.WriteTo(p, to)
	}
	delay, drop := r.network.fate(from, final, true)
	return r.network.pass(r.PacketConn, p, to, delay, drop)
}
