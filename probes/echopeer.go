package probes

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// The echo protocol. Every reply is exactly as long as the request that it
// answers, goes to where that came from, and is never answered: a peer can
// neither amplify nor loop, and sends to nobody who did not ask.
//
//	0  magic, 7 bytes     7  kind      8  session, 8 bytes   16  number, 4 bytes
//	20 count, 4 bytes    24  source address, 16 bytes, and port, 2 bytes
const (
	echoMagic = "\xf5mecho1" // starts like neither STUN nor ChannelData
	echoSize  = 64           // bytes of the shortest request
)

type echoKind byte

const (
	askEcho  echoKind = 1 // answer from the same port
	askCross echoKind = 2 // answer from the second port, to which nobody has sent
	askCount echoKind = 3 // tell what came of this session, from where
	isReply  echoKind = 0x80
)

// echoMessage is one message of the echo protocol.
type echoMessage struct {
	kind    echoKind
	session uint64
	number  uint32
	count   uint32         // in a reply: what came of this session so far
	source  netip.AddrPort // in a reply: where that came from last
}

func (m echoMessage) encode() []byte { return m.fill(make([]byte, echoSize)) }

func (m echoMessage) fill(b []byte) []byte {
	copy(b, echoMagic)
	b[7] = byte(m.kind)
	binary.BigEndian.PutUint64(b[8:], m.session)
	binary.BigEndian.PutUint32(b[16:], m.number)
	binary.BigEndian.PutUint32(b[20:], m.count)
	clear(b[24:42])
	if m.source.IsValid() {
		address := m.source.Addr().As16()
		copy(b[24:], address[:])
		binary.BigEndian.PutUint16(b[40:], m.source.Port())
	}
	return b
}

func parseEcho(b []byte) (echoMessage, bool) {
	if len(b) < echoSize || string(b[:7]) != echoMagic {
		return echoMessage{}, false
	}
	return echoMessage{
		kind:    echoKind(b[7]),
		session: binary.BigEndian.Uint64(b[8:]),
		number:  binary.BigEndian.Uint32(b[16:]),
		count:   binary.BigEndian.Uint32(b[20:]),
		source:  netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:40])).Unmap(), binary.BigEndian.Uint16(b[40:])),
	}, true
}

const (
	peerRate     = 2000 // requests a second and address that are answered
	peerSessions = 1 << 14
)

// EchoPeer is the far end of relays that are probed from elsewhere. It echoes
// and counts what comes, and answers from a second port when asked: such a
// packet has to be let in by whatever protects the relay.
type EchoPeer struct {
	first, second *net.UDPConn
	requests      atomic.Int64
	refused       atomic.Int64

	mu       sync.Mutex
	tick     int64 // Unix time of asked
	asked    map[netip.Addr]int
	sessions map[uint64]visitor
}

// visitor is one session.
type visitor struct {
	count  uint32
	source netip.AddrPort
}

// PeerCounts are those of an EchoPeer since its start.
type PeerCounts struct {
	Requests int64 `json:"requests"`
	Refused  int64 `json:"refused"` // beyond the rate of one address, or no request at all
}

// ListenPeer opens the ports of a peer: that of local and another one.
func ListenPeer(local netip.AddrPort) (*EchoPeer, error) {
	first, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(local))
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", local, err)
	}
	second, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local.Addr(), 0)))
	if err != nil {
		_ = first.Close()
		return nil, fmt.Errorf("listen on %s: %w", local.Addr(), err)
	}
	return &EchoPeer{first: first, second: second, asked: map[netip.Addr]int{}, sessions: map[uint64]visitor{}}, nil
}

// Addr is where the peer is asked.
func (p *EchoPeer) Addr() netip.AddrPort { return localAddress(p.first.LocalAddr()) }

// Counts tells what came so far.
func (p *EchoPeer) Counts() PeerCounts {
	return PeerCounts{Requests: p.requests.Load(), Refused: p.refused.Load()}
}

// Close ends Serve.
func (p *EchoPeer) Close() error { return errors.Join(p.first.Close(), p.second.Close()) }

// Serve answers until ctx ends, and closes the ports.
func (p *EchoPeer) Serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = p.Close() })()
	defer func() { _ = p.Close() }()
	b := make([]byte, maxDatagram)
	for {
		n, from, err := p.first.ReadFromUDPAddrPort(b)
		switch {
		case err == nil:
			p.answer(b[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), from)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		}
	}
}

// answer replies to one request; to is from as the socket wants it.
func (p *EchoPeer) answer(b []byte, from, to netip.AddrPort) {
	m, ok := parseEcho(b)
	if !ok || m.kind < askEcho || m.kind > askCount || !p.admit(from.Addr(), time.Now().Unix()) {
		p.refused.Add(1)
		return
	}
	p.requests.Add(1)
	m.count, m.source = p.account(m, from)
	socket := p.first
	if m.kind == askCross {
		socket = p.second
	}
	m.kind |= isReply
	_, _ = socket.WriteToUDPAddrPort(m.fill(b), to) // lost is lost, as everywhere on UDP
}

// admit limits the requests of one address.
func (p *EchoPeer) admit(from netip.Addr, now int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now != p.tick || len(p.asked) > peerSessions {
		p.tick = now
		clear(p.asked)
	}
	p.asked[from]++
	return p.asked[from] <= peerRate
}

func (p *EchoPeer) account(m echoMessage, from netip.AddrPort) (uint32, netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.sessions[m.session]
	if m.kind != askCount {
		if len(p.sessions) >= peerSessions {
			clear(p.sessions)
		}
		seen.count, seen.source = seen.count+1, from
		p.sessions[m.session] = seen
	}
	return seen.count, seen.source
}
