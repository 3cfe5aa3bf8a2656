package network

import (
	"io"
	"net"
	"testing"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"
)

// turnServer starts a TURN server whose relay sockets pass the network.
func turnServer(t *testing.T, n *Network) *net.UDPAddr {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	addr := conn.LocalAddr().(*net.UDPAddr)
	n.LearnServer(addr.AddrPort(), "turn-1")
	key := turn.GenerateAuthKey("u", "r", "p")
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: "r", LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard},
		AuthHandler: func(*turn.RequestAttributes) (string, []byte, bool) { return "u", key, true },
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: conn, RelayAddressGenerator: &RelayAddresses{
			Network: n,
			RelayAddressGenerator: &turn.RelayAddressGeneratorStatic{
				RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1",
			},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return addr
}

// allocate gives a relay address whose client sends from conn.
func allocate(t *testing.T, server *net.UDPAddr, conn net.PacketConn) net.PacketConn {
	t.Helper()
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: server.String(), Conn: conn, Username: "u", Password: "p", Realm: "r",
		LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	relayed, err := client.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = relayed.Close() })
	return relayed
}

// through sends packets that all get lost.
func through(t *testing.T, n *Network, relayed net.PacketConn, from string, to net.PacketConn, name string) {
	t.Helper()
	for range 20 { // the first go as Send indications, the others by channel
		send(t, relayed, "lost", to.LocalAddr())
	}
	if c := n.Counts(from, name); c.Dropped != 20 {
		t.Errorf("%s to %s through TURN: %+v, not 20 dropped", from, name, c)
	}
}

func TestRulesReachThroughTURN(t *testing.T) {
	n := newNetwork(t)
	server := turnServer(t, n)
	own, err := n.Net("a")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := own.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	relayed, b := allocate(t, server, socket), listen(t, n, "b")
	n.Learn(addrPort(relayed.LocalAddr()), "a")
	send(t, relayed, "first", b.LocalAddr())
	if got := receive(t, b); got != "first" {
		t.Fatalf("got %q", got)
	}
	cut := Rule{"a", "b", Impairment{Cut: true}, false}
	add(t, n, cut)
	through(t, n, relayed, "a", b, "b")
	send(t, b, "back", relayed.LocalAddr())
	if got := receive(t, relayed); got != "back" {
		t.Errorf("got %q", got)
	}
	n.Remove(cut)
	send(t, relayed, "after", b.LocalAddr())
	if got := receive(t, b); got != "after" {
		t.Errorf("got %q", got)
	}
}

func TestAgentOfAnotherProcess(t *testing.T) {
	n := newNetwork(t)
	server := turnServer(t, n)
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	relayed, b := allocate(t, server, socket), listen(t, n, "b")
	n.Learn(addrPort(relayed.LocalAddr()), "far")
	cut := Rule{"far", "*", Impairment{Cut: true}, false}
	add(t, n, cut)
	for range 5 {
		send(t, relayed, "lost", b.LocalAddr())
	}
	// The server's relay handles packets in order, but not before it gets them.
	ask := func() bool { return n.Counts("far", "b").Dropped == 5 }
	for range 2000 {
		if ask() {
			break
		}
		send(t, b, "tick", relayed.LocalAddr())
		_ = receive(t, relayed)
	}
	if !ask() {
		t.Errorf("%+v, not 5 dropped", n.Counts("far", "b"))
	}
	n.Remove(cut)
	send(t, relayed, "after", b.LocalAddr())
	if got := receive(t, b); got != "after" {
		t.Errorf("got %q", got)
	}
}
