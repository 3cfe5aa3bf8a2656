package probes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// Transport is what carries STUN messages to a server (RFC 8656 section 3.1,
// RFC 7350 for DTLS).
type Transport string

// The transports that are probed.
const (
	UDP  Transport = "udp"
	TCP  Transport = "tcp"
	TLS  Transport = "tls"
	DTLS Transport = "dtls"
)

// TransportOf returns the transport that a URI asks for.
func TransportOf(target wire.ServerURI) Transport {
	datagrams := target.EffectiveTransport() == "udp"
	switch {
	case target.Secure() && datagrams:
		return DTLS
	case target.Secure():
		return TLS
	case datagrams:
		return UDP
	}
	return TCP
}

// Over returns the URIs of one server over several transports. A port that the
// URI gives is kept, unless it is the default one and the other kind has
// another default.
func Over(target wire.ServerURI, transports ...Transport) []wire.ServerURI {
	scheme := "turn"
	if !target.IsTURN() {
		scheme = "stun"
	}
	targets := make([]wire.ServerURI, 0, len(transports))
	for _, t := range transports {
		u := wire.ServerURI{Scheme: scheme, Host: target.Host, Port: target.Port, Transport: "udp"}
		if t == TCP || t == TLS {
			u.Transport = "tcp"
		}
		if t == TLS || t == DTLS {
			u.Scheme += "s"
		}
		if isDefault := target.Port == 3478 || target.Port == 5349; isDefault && u.Secure() != target.Secure() {
			u.Port = 0
		}
		targets = append(targets, u)
	}
	return targets
}

// reliable tells that the transport itself repeats what gets lost.
func (t Transport) reliable() bool { return t == TCP || t == TLS }

// carrier moves whole STUN and ChannelData messages.
type carrier interface {
	// read gives one message and, over UDP, its sender.
	read(b []byte) (n int, from netip.AddrPort, err error)
	write(b []byte) error
	local() netip.AddrPort
	Close() error
}

// secured is what a TLS or DTLS handshake showed.
type secured struct {
	version, cipher string
	took            time.Duration
	chain           []*x509.Certificate // as the server sent it; nobody has judged it yet
}

// dialer opens sockets to one server.
type dialer struct {
	service   string // stun or turn: the prefix of finding codes
	transport Transport
	host      string // the name that a certificate must have
	server    netip.AddrPort
	schedule  Schedule
}

// dial connects, and does the handshake over TLS and DTLS. Both together have
// the time of one transaction. It takes any certificate: who uses the socket
// judges it. The error is a *Refusal.
func (d dialer) dial(ctx context.Context) (*socket, error) {
	ctx, cancel := d.schedule.bounded(ctx, 0)
	defer cancel()
	switch d.transport {
	case TCP:
		conn, err := d.connect(ctx, "tcp")
		if err != nil {
			return nil, err
		}
		return d.socket(newStream(conn, d.schedule.GiveUp), nil), nil
	case TLS:
		return d.dialTLS(ctx)
	case DTLS:
		return d.dialDTLS(ctx)
	}
	conn, err := d.connect(ctx, "udp")
	if err != nil {
		return nil, err
	}
	return d.socket(datagrams{UDPConn: conn.(*net.UDPConn)}, nil), nil
}

func (d dialer) connect(ctx context.Context, network string) (net.Conn, error) {
	started := time.Now()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, d.server.String())
	if err != nil {
		return nil, d.unreachable(ctx, "connect", err, started)
	}
	return conn, nil
}

func (d dialer) dialTLS(ctx context.Context) (*socket, error) {
	plain, err := d.connect(ctx, "tcp")
	if err != nil {
		return nil, err
	}
	started := time.Now()
	conn := tls.Client(plain, &tls.Config{
		ServerName: d.host, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: true, // the chain is judged by its reader, which names what is wrong with it
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = plain.Close()
		return nil, d.handshakeFailed(ctx, "TLS handshake", err, started)
	}
	state := conn.ConnectionState()
	return d.socket(newStream(conn, d.schedule.GiveUp), &secured{
		version: tls.VersionName(state.Version), cipher: tls.CipherSuiteName(state.CipherSuite),
		took: time.Since(started), chain: state.PeerCertificates,
	}), nil
}

// handshakeFailed tells a server that speaks no TLS from one that refuses.
func (d dialer) handshakeFailed(ctx context.Context, step string, err error, started time.Time) error {
	r := d.unreachable(ctx, step, err, started)
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &plain):
		r.Code, r.Reason, r.Err = CodeTLSNoListener, "it answers without TLS", nil
	case errors.Is(r.Err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		r.Code, r.Reason, r.Err = CodeTLSHandshake, "the connection was closed", nil
	case r.Code == CodeLocalFault:
		r.Code, r.Reason = CodeTLSHandshake, "not completed"
	case r.Code == d.service+".silent":
		r.Code = CodeTLSHandshake
	}
	return r
}

// unreachable names why there is no connection.
func (d dialer) unreachable(ctx context.Context, step string, err error, started time.Time) *Refusal {
	r := &Refusal{Code: CodeLocalFault, Step: step, Server: d.server.String(), After: time.Since(started)}
	r.Reason, r.Err = "not possible", err
	timedOut := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT)
	switch {
	case interrupted(ctx):
		r.Code, r.Reason, r.Err = d.service+".interrupted", "no answer", context.Cause(ctx)
	case ctx.Err() != nil, timedOut:
		r.Code, r.Reason, r.Err = d.service+".silent", "no answer", nil
	case errors.Is(err, syscall.ECONNREFUSED):
		r.Code, r.Reason = d.service+".closed", "port closed"
	case errors.Is(err, syscall.EHOSTUNREACH):
		r.Code, r.Reason = d.service+".unreachable", "host unreachable"
	}
	return r
}

func (d dialer) socket(c carrier, s *secured) *socket {
	return newSocket(d.service, c, d.server, d.transport, s, d.schedule)
}

// inside names silence and garbage within TLS: another service listens there.
func (s *socket) inside(err error) error {
	if s.secured == nil {
		return err
	}
	switch refusalCode(err) {
	case s.service + ".silent", s.service + ".garbled", s.service + ".hangup":
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.answered {
			return withCode(err, CodeTLSNotTURN)
		}
	}
	return err
}

// judged are the problems with the certificate that the server presented.
func (s *socket) judged(target wire.ServerURI, roots *x509.CertPool, limits Limits) []Finding {
	if s.secured == nil {
		return nil
	}
	_, problems := Certificate{Chain: s.secured.chain, Name: target.Host, Roots: roots, Limits: limits, Now: time.Now()}.Judge()
	return problems
}

// facts are those of the connection.
func (s *socket) facts() []Fact {
	facts := []Fact{{"address", s.server.String()}, {"transport", string(s.transport)}}
	if s.secured != nil {
		facts = append(facts, Fact{"tls_version", s.secured.version}, Fact{"cipher", s.secured.cipher},
			Fact{"handshake_ms", millis(s.secured.took)})
	}
	return facts
}

// datagrams is a UDP socket. An unconnected one has to, and hears everybody.
type datagrams struct {
	*net.UDPConn
	to netip.AddrPort
}

func (d datagrams) read(b []byte) (int, netip.AddrPort, error) {
	n, from, err := d.ReadFromUDPAddrPort(b)
	return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
}

func (d datagrams) write(b []byte) error {
	if d.to.IsValid() {
		return d.writeTo(b, d.to)
	}
	_, err := d.Write(b)
	return err
}

func (d datagrams) writeTo(b []byte, to netip.AddrPort) error {
	_, err := d.WriteToUDPAddrPort(b, to)
	return err
}

func (d datagrams) local() netip.AddrPort { return localAddress(d.LocalAddr()) }

func localAddress(a net.Addr) netip.AddrPort {
	var found netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		found = a.AddrPort()
	case *net.TCPAddr:
		found = a.AddrPort()
	}
	return netip.AddrPortFrom(found.Addr().Unmap(), found.Port())
}
