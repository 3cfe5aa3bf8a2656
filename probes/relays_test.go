package probes_test

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"

	"github.com/infrafabric/meshctl/mesh/wire"
)

func relay(c *turn.ServerConfig, g turn.RelayAddressGenerator) {
	c.PacketConnConfigs[0].RelayAddressGenerator = g
}

// noQuota grants nobody an allocation.
func noQuota(string, string, net.Addr) bool { return false }

// brokenRelay has no ports.
type brokenRelay struct{ turn.RelayAddressGeneratorNone }

func (*brokenRelay) Validate() error { return nil }

func (*brokenRelay) AllocatePacketConn(turn.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	return nil, nil, errors.New("no port left")
}

// wrongRelay announces an address that it does not have.
func wrongRelay() turn.RelayAddressGenerator {
	return &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(203, 0, 113, 9), Address: "127.0.0.1"}
}

// filteredRelay relays from 127.0.0.2 and loses what in and out say, by the
// address of the peer. It may alter what it passes.
type filteredRelay struct {
	turn.RelayAddressGeneratorNone
	in, out func(net.IP) bool
	alter   bool
}

func (r *filteredRelay) Validate() error {
	r.Address = "127.0.0.2"
	return r.RelayAddressGeneratorNone.Validate()
}

func (r *filteredRelay) AllocatePacketConn(c turn.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	conn, addr, err := r.RelayAddressGeneratorNone.AllocatePacketConn(c)
	return &filteredConn{conn, r}, addr, err
}

type filteredConn struct {
	net.PacketConn
	relay *filteredRelay
}

func (c *filteredConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(b)
		if err != nil || !c.relay.in(from.(*net.UDPAddr).IP) {
			c.relay.spoil(b[:n])
			return n, from, err
		}
	}
}

func (r *filteredRelay) spoil(b []byte) {
	if r.alter && len(b) > 0 {
		b[len(b)-1]++
	}
}

func (c *filteredConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.relay.out(to.(*net.UDPAddr).IP) {
		return len(b), nil
	}
	b = bytes.Clone(b)
	c.relay.spoil(b)
	return c.PacketConn.WriteTo(b, to)
}

// restHandler is that of pion for REST credentials.
func restHandler(a *turn.RequestAttributes) (string, []byte, bool) {
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	return turn.LongTermTURNRESTAuthHandler(restSecret, quiet.NewLogger("turn"))(a)
}

// onePort gives coturn a single relay port.
func onePort(t *testing.T) []string {
	_, port, err := net.SplitHostPort(closedPort(t).String())
	if err != nil {
		t.Fatal(err)
	}
	return []string{"--min-port", port, "--max-port", port}
}

// holding takes one allocation on the server, with pion's client, and keeps it
// for the test.
func holding(begin start) start {
	return func(t *testing.T) wire.ServerURI {
		target := begin(t)
		hold(t, target)
		return target
	}
}

func hold(t *testing.T, target wire.ServerURI) {
	t.Helper()
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	var allocated net.PacketConn
	// Where the server remembers an earlier owner of our port it refuses.
	granted := poll(t, 10*time.Second, func() bool {
		client, err := turn.NewClient(&turn.ClientConfig{
			TURNServerAddr: target.Address(), STUNServerAddr: target.Address(), Conn: listen(t),
			Username: user, Password: password, Realm: realm, LoggerFactory: quiet,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		if err := client.Listen(); err != nil {
			t.Fatal(err)
		}
		allocated, err = client.AllocateWithContext(t.Context())
		return err == nil
	})
	if !granted {
		t.Fatal("the server grants no allocation")
	}
	t.Cleanup(func() { _ = allocated.Close() })
}
