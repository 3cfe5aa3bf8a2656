package probes

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/pion/stun/v3"
)

// socket is one UDP socket that talks to one STUN or TURN server. A connected
// one hears from the kernel that the server's port is closed; an unconnected
// one also hears everybody else, which an echo peer needs.
type socket struct {
	service   string // stun or turn: the prefix of its finding codes
	schedule  Schedule
	conn      *net.UDPConn
	server    netip.AddrPort
	connected bool
	data      chan datagram // what came without being a reply; the newest is dropped when nobody reads
	done      chan struct{} // closed when reading has ended

	mu       sync.Mutex
	waiting  map[transactionID]chan arrival
	answered bool  // a reply to one of our requests has come
	garbage  error // why the last other datagram was ignored
}

// arrival is a reply, or the network's word that there will be none.
type arrival struct {
	reply reply
	err   error
	at    time.Time
}

// connectSocket opens a socket that hears only from server.
func connectSocket(service string, server netip.AddrPort, schedule Schedule) (*socket, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return nil, err
	}
	return newSocket(service, conn, server, true, schedule), nil
}

// openSocket opens a socket on a local address that hears from everybody, and
// takes replies from server only.
func openSocket(service string, local netip.Addr, server netip.AddrPort, schedule Schedule) (*socket, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	if err != nil {
		return nil, err
	}
	return newSocket(service, conn, server, false, schedule), nil
}

func newSocket(service string, conn *net.UDPConn, server netip.AddrPort, connected bool, schedule Schedule) *socket {
	s := &socket{
		service: service, schedule: schedule, conn: conn, server: server, connected: connected,
		data: make(chan datagram, 16), done: make(chan struct{}), waiting: map[transactionID]chan arrival{},
	}
	go s.read()
	return s
}

func (s *socket) close() {
	_ = s.conn.Close()
	<-s.done
}

func (s *socket) local() netip.AddrPort {
	local, _ := s.conn.LocalAddr().(*net.UDPAddr)
	return local.AddrPort()
}

// write sends to the server.
func (s *socket) write(b []byte) error {
	if s.connected {
		_, err := s.conn.Write(b)
		return err
	}
	return s.writeTo(b, s.server)
}

// writeTo sends to anybody, from an unconnected socket.
func (s *socket) writeTo(b []byte, to netip.AddrPort) error {
	_, err := s.conn.WriteToUDPAddrPort(b, to)
	return err
}

// read hands out what arrives until the socket is closed.
func (s *socket) read() {
	defer close(s.done)
	buffer := make([]byte, maxDatagram)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buffer)
		at := time.Now()
		switch {
		case err == nil:
			s.receive(buffer[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), at)
		case errors.Is(err, net.ErrClosed):
			return
		case !s.fail(err, at):
			return
		}
	}
}

// fail tells every waiting transaction what the network said. It reports
// whether reading can go on: an ICMP message comes once and ends nothing.
func (s *socket) fail(err error, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, inbox := range s.waiting {
		deliver(inbox, arrival{err: err, at: at})
	}
	var errno syscall.Errno
	return errors.As(err, &errno)
}

// receive sorts one datagram: STUN and ChannelData differ in the first two
// bits (RFC 8656 section 12).
func (s *socket) receive(b []byte, from netip.AddrPort, at time.Time) {
	if !stun.IsMessage(b) || !s.connected && from != s.server {
		s.receiveData(b, from)
		return
	}
	m := stun.NewWithOptions(stun.WithStrict(true))
	if err := stun.Decode(b, m); err != nil {
		s.ignore(err)
		return
	}
	if m.Type == stun.NewType(stun.MethodData, stun.ClassIndication) {
		if d, ok := parseDataIndication(m); ok {
			deliver(s.data, d)
		}
		return
	}
	s.receiveReply(m, at)
}

// receiveData takes ChannelData on a connected socket, and anything on an
// unconnected one: whoever reads it compares it with what was sent.
func (s *socket) receiveData(b []byte, from netip.AddrPort) {
	if !s.connected {
		deliver(s.data, datagram{from, bytes.Clone(b)})
		return
	}
	payload, ok := parseChannelData(b)
	if !ok {
		s.ignore(errors.New("neither STUN nor ChannelData"))
		return
	}
	deliver(s.data, datagram{payload: bytes.Clone(payload)})
}

func (s *socket) receiveReply(m *stun.Message, at time.Time) {
	r, err := parseReply(m)
	if err != nil {
		s.ignore(err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	inbox, found := s.waiting[m.TransactionID]
	if !found {
		s.garbage = errors.New("a reply to something that was not asked")
		return
	}
	deliver(inbox, arrival{reply: r, at: at})
}

func (s *socket) ignore(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.garbage = why
}

// register opens the inbox of a transaction, forget closes it.
func (s *socket) register(id transactionID) <-chan arrival {
	inbox := make(chan arrival, 4)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[id] = inbox
	return inbox
}

func (s *socket) forget(id transactionID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, id)
}

// deliver drops v when the receiver is too slow: UDP would do the same.
func deliver[T any](inbox chan T, v T) {
	select {
	case inbox <- v:
	default:
	}
}
