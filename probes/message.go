package probes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/pion/stun/v3"
)

const (
	maxDatagram = 4096 // bytes; honest replies fit into one packet of the path
	maxText     = 763  // bytes of a realm, nonce or reason, RFC 8489 section 14
	maxShown    = 80   // characters of a server's text that are shown
)

type transactionID = [stun.TransactionIDSize]byte

// reply is a STUN response whose attributes have all been checked. Its texts
// come from the network: realm and nonce are kept as sent, the others are made
// fit to print.
type reply struct {
	message                    *stun.Message
	code                       int // of ERROR-CODE; 0 in a success response
	reason, software           string
	realm, nonce               string
	mapped, relayed, alternate netip.AddrPort
}

func parseReply(m *stun.Message) (reply, error) {
	r := reply{message: m}
	if m.Type.Class == stun.ClassErrorResponse {
		var code stun.ErrorCodeAttribute
		if err := code.GetFrom(m); err != nil || code.Code < 300 || code.Code > 699 {
			return r, errors.New("error response without a valid ERROR-CODE")
		}
		r.code, r.reason = int(code.Code), printable(string(code.Reason))
	}
	texts := []struct {
		attribute stun.AttrType
		to        *string
	}{{stun.AttrRealm, &r.realm}, {stun.AttrNonce, &r.nonce}, {stun.AttrSoftware, &r.software}}
	for _, t := range texts {
		value, _ := m.Get(t.attribute)
		if len(value) > maxText {
			return r, fmt.Errorf("%s of %d bytes", t.attribute, len(value))
		}
		*t.to = string(value)
	}
	r.software = printable(r.software)
	addresses := []struct {
		attribute stun.AttrType
		to        *netip.AddrPort
	}{{stun.AttrXORMappedAddress, &r.mapped}, {stun.AttrXORRelayedAddress, &r.relayed}, {stun.AttrAlternateServer, &r.alternate}}
	for _, a := range addresses {
		var err error
		if *a.to, err = address(m, a.attribute); err != nil {
			return r, err
		}
	}
	return r, nil
}

// address reads an address attribute; a message without it gives the zero
// AddrPort. The codec takes any length, so it is checked here.
func address(m *stun.Message, attribute stun.AttrType) (netip.AddrPort, error) {
	value, err := m.Get(attribute)
	if err != nil {
		return netip.AddrPort{}, nil
	}
	if len(value) != 8 && len(value) != 20 || (value[1] == 1) != (len(value) == 8) {
		return netip.AddrPort{}, fmt.Errorf("%s of %d bytes", attribute, len(value))
	}
	var a stun.XORMappedAddress
	if attribute == stun.AttrAlternateServer {
		err = (*stun.AlternateServer)(&a).GetFrom(m)
	} else {
		err = a.GetFromAs(m, attribute)
	}
	ip, ok := netip.AddrFromSlice(a.IP)
	if err != nil || !ok || a.Port == 0 {
		return netip.AddrPort{}, fmt.Errorf("%s is not an address", attribute)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(a.Port)), nil
}

// printable makes a text from the network fit for a terminal and a log line.
func printable(s string) string {
	s = strings.ToValidUTF8(strings.TrimRight(s, "\x00"), "?") // some servers pad with zeros
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
	if runes := []rune(s); len(runes) > maxShown {
		return string(runes[:maxShown]) + "..."
	}
	return s
}

// datagram is data that came without being a reply. from is the source as the
// receiving end knows it; it is invalid for ChannelData, where the channel
// stands for it.
type datagram struct {
	from    netip.AddrPort
	payload []byte
}

// channelData frames a payload (RFC 8656 section 12.4). Over UDP it is not
// padded.
func channelData(channel uint16, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, channel)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	return append(b, payload...)
}

func parseChannelData(b []byte) (payload []byte, ok bool) {
	if len(b) < 4 || b[0]>>4 != 4 {
		return nil, false
	}
	end := 4 + int(binary.BigEndian.Uint16(b[2:4]))
	if end > len(b) {
		return nil, false
	}
	return b[4:end], true
}

// parseDataIndication reads data from a peer that has no channel (RFC 8656
// section 11.6).
func parseDataIndication(m *stun.Message) (datagram, bool) {
	from, err := address(m, stun.AttrXORPeerAddress)
	payload, noData := m.Get(stun.AttrData)
	return datagram{from, payload}, err == nil && noData == nil && from.IsValid()
}

// setter is one attribute of a request.
type setter func(m *stun.Message) error

func (s setter) AddTo(m *stun.Message) error { return s(m) }

func attribute(t stun.AttrType, value ...byte) stun.Setter {
	return setter(func(m *stun.Message) error { m.Add(t, value); return nil })
}

func requestedTransportUDP() stun.Setter {
	return attribute(stun.AttrRequestedTransport, 17, 0, 0, 0)
}

func requestedFamily(f Family) stun.Setter {
	number := byte(1)
	if f == IPv6 {
		number = 2
	}
	return attribute(stun.AttrRequestedAddressFamily, number, 0, 0, 0)
}

func lifetime(d time.Duration) stun.Setter {
	return attribute(stun.AttrLifetime, binary.BigEndian.AppendUint32(nil, uint32(d/time.Second))...)
}

func channelNumber(channel uint16) stun.Setter {
	return attribute(stun.AttrChannelNumber, byte(channel>>8), byte(channel), 0, 0)
}

func peerAddress(a netip.AddrPort) stun.Setter {
	return setter(func(m *stun.Message) error {
		x := stun.XORMappedAddress{IP: a.Addr().AsSlice(), Port: int(a.Port())}
		return x.AddToAs(m, stun.AttrXORPeerAddress)
	})
}
