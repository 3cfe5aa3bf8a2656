package probes

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/stun/v3"
)

const magicCookie = 0x2112a442 // RFC 8489 section 5

// stream carries messages over TCP or TLS, where their headers say how long
// they are (RFC 8656 section 12.5).
type stream struct {
	net.Conn
	in       *bufio.Reader
	patience time.Duration // for a write that the server does not take
}

// framingError says that what came is no sequence of STUN messages and
// ChannelData. Nothing after it can be read.
type framingError struct{ why string }

func (e *framingError) Error() string { return e.why }

func newStream(conn net.Conn, patience time.Duration) *stream {
	return &stream{Conn: conn, in: bufio.NewReaderSize(conn, maxDatagram), patience: patience}
}

func (s *stream) read(b []byte) (int, netip.AddrPort, error) {
	head, err := s.in.Peek(4)
	if err == nil && head[0]>>6 == 0 { // STUN: the cookie shows it
		head, err = s.in.Peek(8)
	}
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	size, keep, err := frame(head)
	if err != nil {
		start, _ := s.in.Peek(min(s.in.Buffered(), maxShown))
		return 0, netip.AddrPort{}, &framingError{fmt.Sprintf("%s: %s", err, printable(string(start)))}
	}
	if _, err := io.ReadFull(s.in, b[:size]); err != nil {
		return 0, netip.AddrPort{}, err
	}
	return keep, netip.AddrPort{}, nil
}

// frame reads from the first bytes, four of ChannelData or eight of STUN, how
// long a message is, with and without its padding.
func frame(head []byte) (size, keep int, err error) {
	length := int(binary.BigEndian.Uint16(head[2:4]))
	channel := binary.BigEndian.Uint16(head)
	switch {
	case channel >= reflexiveChannel && channel <= givenChannel:
		keep = 4 + length
		size = (keep + 3) &^ 3
	case len(head) >= 8 && binary.BigEndian.Uint32(head[4:8]) == magicCookie && length%4 == 0:
		keep = 20 + length
		size = keep
	default:
		return 0, 0, fmt.Errorf("neither STUN nor ChannelData")
	}
	if size > maxDatagram {
		return 0, 0, fmt.Errorf("a message of %d bytes", size)
	}
	return size, keep, nil
}

// write pads ChannelData to a multiple of four bytes.
func (s *stream) write(b []byte) error {
	if padding := -len(b) & 3; padding > 0 && !stun.IsMessage(b) {
		b = append(slices.Clip(b), make([]byte, padding)...)
	}
	if err := s.SetWriteDeadline(time.Now().Add(s.patience)); err != nil {
		return err
	}
	_, err := s.Write(b)
	return err
}

func (s *stream) local() netip.AddrPort { return localAddress(s.LocalAddr()) }
