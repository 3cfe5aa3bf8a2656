package probes

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/logging"
)

const maxRecord = 1 << 14 // bytes of a DTLS record's content, RFC 6347 section 4.1

// records carries one message in each DTLS record. ChannelData is not padded
// there, so that it must not be read as a stream.
type records struct {
	*dtls.Conn
	udp net.Conn
	own []byte
}

func (r *records) read(b []byte) (int, netip.AddrPort, error) {
	n, err := r.Read(r.own) // a larger record than b must not end the connection
	return copy(b, r.own[:n]), netip.AddrPort{}, err
}

func (r *records) write(b []byte) error {
	_, err := r.Write(b)
	return err
}

func (r *records) local() netip.AddrPort { return localAddress(r.udp.LocalAddr()) }

// dialDTLS does a DTLS 1.2 handshake.
func (d dialer) dialDTLS(ctx context.Context) (*socket, error) {
	udp, err := d.connect(ctx, "udp")
	if err != nil {
		return nil, err
	}
	started := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	heard := &packets{Conn: udp, refused: cancel}
	conn, err := d.handshakeDTLS(ctx, heard)
	if err != nil {
		_ = udp.Close()
		return nil, d.dtlsFailed(ctx, heard, err, started)
	}
	state, _ := conn.ConnectionState()
	chain := make([]*x509.Certificate, 0, len(state.PeerCertificates))
	for _, raw := range state.PeerCertificates {
		if c, err := x509.ParseCertificate(raw); err == nil {
			chain = append(chain, c)
		}
	}
	s := &secured{version: "DTLS 1.2", cipher: state.CipherSuiteID.String(), took: time.Since(started), chain: chain}
	return d.socket(&records{Conn: conn, udp: udp, own: make([]byte, maxRecord)}, s), nil
}

func (d dialer) handshakeDTLS(ctx context.Context, over *packets) (*dtls.Conn, error) {
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	conn, err := dtls.ClientWithOptions(over, over.RemoteAddr(),
		dtls.WithServerName(d.host), dtls.WithInsecureSkipVerify(true), // the chain is judged by its reader
		dtls.WithFlightInterval(d.schedule.First), dtls.WithLoggerFactory(quiet))
	if err != nil {
		return nil, err
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// dtlsFailed tells silence and a closed port from a handshake that went wrong.
func (d dialer) dtlsFailed(ctx context.Context, heard *packets, err error, started time.Time) error {
	if cause := context.Cause(ctx); errors.Is(cause, syscall.ECONNREFUSED) || errors.Is(cause, syscall.EHOSTUNREACH) {
		return d.unreachable(context.Background(), "DTLS handshake", cause, started)
	}
	if heard.count.Load() == 0 {
		return d.unreachable(ctx, "DTLS handshake", err, started)
	}
	return d.handshakeFailed(ctx, "DTLS handshake", err, started)
}

// packets is a connected UDP socket as pion/dtls wants it. That library waits
// on when an ICMP message says that nobody is there; refused is told.
type packets struct {
	net.Conn
	count   atomic.Int32
	refused context.CancelCauseFunc
}

func (p *packets) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := p.Read(b)
	if err == nil {
		p.count.Add(1)
	} else if errno := syscall.Errno(0); errors.As(err, &errno) {
		p.refused(errno)
	}
	return n, p.RemoteAddr(), err
}

func (p *packets) WriteTo(b []byte, _ net.Addr) (int, error) {
	n, err := p.Write(b)
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		p.refused(errno)
	}
	return n, err
}
