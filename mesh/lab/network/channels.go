package network

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"github.com/pion/stun/v4"
)

// channels knows to which peer a packet for a TURN server goes on: the server
// alone is not where it ends (RFC 8656 sections 11 and 12).
type channels struct {
	mu    sync.Mutex
	peers map[uint16]netip.AddrPort
}

// peer looks into a packet to a TURN server and gives where it will be relayed
// to; zero: nowhere.
func (c *channels) peer(p []byte) netip.AddrPort {
	if len(p) < 4 {
		return netip.AddrPort{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p[0]>>6 == 1 {
		return c.peers[binary.BigEndian.Uint16(p)]
	}
	if !stun.IsMessage(p) {
		return netip.AddrPort{}
	}
	switch binary.BigEndian.Uint16(p) {
	case 0x0009: // ChannelBind request
		m := stun.Message{Raw: p}
		if m.Decode() == nil {
			c.bind(&m)
		}
	case 0x0016: // Send indication
		m := stun.Message{Raw: p}
		if m.Decode() == nil {
			return peerAddress(&m)
		}
	}
	return netip.AddrPort{}
}

func (c *channels) bind(m *stun.Message) {
	if number, err := m.Get(stun.AttrChannelNumber); err == nil && len(number) >= 2 {
		if c.peers == nil {
			c.peers = map[uint16]netip.AddrPort{}
		}
		c.peers[binary.BigEndian.Uint16(number)] = peerAddress(m)
	}
}

func peerAddress(m *stun.Message) netip.AddrPort {
	var a stun.XORMappedAddress
	if a.GetFromAs(m, stun.AttrXORPeerAddress) != nil {
		return netip.AddrPort{}
	}
	ip, ok := netip.AddrFromSlice(a.IP)
	if !ok {
		return netip.AddrPort{}
	}
	return unmap(netip.AddrPortFrom(ip, uint16(a.Port))) //nolint:gosec // 16 bits on the wire
}
