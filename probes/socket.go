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

// socket talks to one STUN or TURN server over any transport. Over UDP a
// connected one hears from the kernel that the server's port is closed; an open
// one also hears everybody else, which an echo peer needs.
type socket struct {
	carrier
	service   string // stun or turn: the prefix of its finding codes
	transport Transport
	schedule  Schedule
	server    netip.AddrPort
	open      bool
	secured   *secured      // nil without TLS and DTLS
	data      chan datagram // what came without being a reply; the newest is dropped when nobody reads
	done      chan struct{} // closed when reading has ended

	mu        sync.Mutex
	waiting   map[transactionID]chan arrival
	answered  bool           // a reply to one of our requests has come
	garbage   error          // why the last other datagram was ignored
	broken    error          // why nothing can be read any more
	elsewhere netip.AddrPort // where a reply to one of our requests came from, if not from the server
}

// arrival is a reply, or the network's word that there will be none.
type arrival struct {
	reply reply
	err   error
	at    time.Time
}

// openSocket opens a UDP socket on a local address that hears from everybody,
// and takes replies from server only.
func openSocket(service string, local netip.Addr, server netip.AddrPort, schedule Schedule) (*socket, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	if err != nil {
		return nil, err
	}
	return newSocket(service, datagrams{conn, server}, server, UDP, nil, schedule), nil
}

func newSocket(service string, c carrier, server netip.AddrPort, transport Transport, s *secured, schedule Schedule) *socket {
	if transport.reliable() {
		schedule.Sends = 1
	}
	d, isUDP := c.(datagrams)
	k := &socket{
		carrier: c, service: service, transport: transport, schedule: schedule, server: server,
		open: isUDP && d.to.IsValid(), secured: s,
		data: make(chan datagram, 256), done: make(chan struct{}), waiting: map[transactionID]chan arrival{},
	}
	go k.receiveAll()
	return k
}

func (s *socket) close() {
	_ = s.Close()
	<-s.done
}

// writeTo sends to anybody, from an open socket.
func (s *socket) writeTo(b []byte, to netip.AddrPort) error {
	return s.carrier.(datagrams).writeTo(b, to)
}

// receiveAll hands out what arrives until the socket is closed.
func (s *socket) receiveAll() {
	defer close(s.done)
	buffer := make([]byte, maxDatagram)
	for {
		n, from, err := s.read(buffer)
		at := time.Now()
		switch {
		case err == nil:
			s.receive(buffer[:n], from, at)
		case errors.Is(err, net.ErrClosed) && s.transport == UDP:
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
	if s.transport == UDP && errors.As(err, &errno) {
		return true
	}
	s.broken = err
	return false
}

// receive sorts one message: STUN and ChannelData differ in the first two bits
// (RFC 8656 section 12).
func (s *socket) receive(b []byte, from netip.AddrPort, at time.Time) {
	if !stun.IsMessage(b) {
		s.receiveData(b, from)
		return
	}
	m := stun.NewWithOptions(stun.WithStrict(true))
	if err := stun.Decode(b, m); err != nil {
		s.ignore(err)
		return
	}
	if s.open && from != s.server {
		s.receiveElsewhere(m, b, from)
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

// receiveData takes ChannelData, and anything on an open socket: whoever reads
// it compares it with what was sent.
func (s *socket) receiveData(b []byte, from netip.AddrPort) {
	if s.open {
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

// receiveElsewhere notes who answers in the server's place. Only who has seen
// the request knows its transaction id.
func (s *socket) receiveElsewhere(m *stun.Message, b []byte, from netip.AddrPort) {
	s.mu.Lock()
	if _, ours := s.waiting[m.TransactionID]; ours {
		s.elsewhere = from
	}
	s.mu.Unlock()
	s.receiveData(b, from)
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
	if s.broken != nil {
		deliver(inbox, arrival{err: s.broken, at: time.Now()})
	}
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
