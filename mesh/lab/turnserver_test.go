package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"

	"github.com/infrafabric/meshctl/mesh/lab/network"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
)

var turnLogin = credentials{username: "lab", password: secret.New("pw")}

// startRelay starts one TURN server of the backend.
func startRelay(t *testing.T, backend string) *turnServer {
	t.Helper()
	var r relay
	var err error
	if backend == "coturn" {
		need(t, "turnserver")
		r, err = newCoturnRelay(t.Context(), filepath.Join(t.TempDir(), "coturn"), turnLogin, 11_000)
	} else {
		r, err = newPionRelay(turnLogin, 0, network.New(1))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	uri, err := wire.ParseServerURI("turn:" + r.address())
	if err != nil {
		t.Fatal(err)
	}
	return &turnServer{TURNServer: TURNServer{Name: "turn-1", URI: uri}, relay: r}
}

// user is a client of a TURN server.
type user struct {
	client *turn.Client
	relay  net.PacketConn
}

// allocate makes an allocation, or gives the code of the refusal.
func allocate(t *testing.T, server, password string) (*user, stun.ErrorCode, error) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", loopback)
	if err != nil {
		t.Fatal(err)
	}
	c, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: server, TURNServerAddr: server, Conn: conn,
		Username: turnLogin.username, Password: password, Realm: realm,
		LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		_ = conn.Close()
	})
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	relayed, err := c.AllocateWithContext(ctx)
	var refusal *stun.TurnError
	if errors.As(err, &refusal) {
		return nil, refusal.ErrorCodeAttr.Code, err
	}
	if err != nil {
		return nil, 0, err
	}
	t.Cleanup(func() { _ = relayed.Close() })
	return &user{c, relayed}, 0, nil
}

func mustAllocate(t *testing.T, server string) *user {
	t.Helper()
	var u *user
	eventually(t, "allocate", func() (err error) { // coturn may remember the port of another client: 437
		u, _, err = allocate(t, server, turnLogin.password.Reveal())
		return err
	})
	return u
}

// echo sends one packet from the relay to a peer on loopback.
func (u *user) echo(t *testing.T, wait time.Duration) error {
	t.Helper()
	peer, err := net.ListenPacket("udp4", loopback)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	if err := peer.SetReadDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = u.relay.WriteTo([]byte("hello"), peer.LocalAddr()) }() // waits for the permission
	buf := make([]byte, 100)
	n, from, err := peer.ReadFrom(buf)
	if err != nil {
		return err
	}
	if string(buf[:n]) != "hello" || from.String() != u.relay.LocalAddr().String() {
		return fmt.Errorf("got %q from %s", buf[:n], from)
	}
	return nil
}

// hears lets a peer on loopback send one packet to the relay.
func (u *user) hears(t *testing.T, text string, wait time.Duration) error {
	t.Helper()
	peer, err := net.Dial("udp4", u.relay.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	if _, err := peer.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := u.relay.SetReadDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, _, err := u.relay.ReadFrom(buf)
	if err == nil && string(buf[:n]) != text {
		err = fmt.Errorf("got %q", buf[:n])
	}
	return err
}

func forBackends(t *testing.T, test func(t *testing.T, s *turnServer)) {
	for _, backend := range []string{"pion", "coturn"} {
		t.Run(backend, func(t *testing.T) { test(t, startRelay(t, backend)) })
	}
}

func (t *turnServer) mustInject(tb testing.TB, fault string) {
	tb.Helper()
	if err := t.inject(tb.Context(), fault); err != nil {
		tb.Fatal(err)
	}
}

func (t *turnServer) mustHeal(tb testing.TB, fault string) {
	tb.Helper()
	if err := t.heal(tb.Context(), fault); err != nil {
		tb.Fatal(err)
	}
}

func (t *turnServer) mustServe(tb *testing.T) {
	tb.Helper()
	if err := bindingAnswered(t.relay.address(), patience); err != nil {
		tb.Error(err)
	}
	if err := mustAllocate(tb, t.relay.address()).echo(tb, patience); err != nil {
		tb.Errorf("relay: %v", err)
	}
}

func TestTURNServes(t *testing.T) {
	forBackends(t, func(t *testing.T, s *turnServer) {
		s.mustServe(t)
		if _, code, err := allocate(t, s.relay.address(), "wrong"); code != stun.CodeUnauthorized {
			t.Errorf("wrong password: code %d, error %v", code, err)
		}
	})
}

func TestTURNKilled(t *testing.T) {
	forBackends(t, func(t *testing.T, s *turnServer) {
		address := s.relay.address()
		s.mustInject(t, "turn-killed")
		if err := bindingAnswered(address, time.Second); !refused(err) {
			t.Errorf("killed: %v, want connection refused", err)
		}
		if conn, err := net.ListenPacket("udp4", address); err == nil {
			_ = conn.Close()
			t.Error("the port can be taken by somebody else")
		}
		s.mustHeal(t, "turn-killed")
		if s.relay.address() != address {
			t.Errorf("came back as %s, was %s", s.relay.address(), address)
		}
		s.mustServe(t)
	})
}

func TestTURNSilent(t *testing.T) {
	forBackends(t, func(t *testing.T, s *turnServer) {
		u := mustAllocate(t, s.relay.address())
		if err := u.echo(t, patience); err != nil {
			t.Fatal(err)
		}
		if err := u.hears(t, "before", patience); err != nil {
			t.Fatal(err)
		}
		s.mustInject(t, "turn-silent")
		var timeout net.Error
		if err := bindingAnswered(s.relay.address(), 300*time.Millisecond); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("silent: %v, want no answer", err)
		}
		if err := u.echo(t, 300*time.Millisecond); err == nil {
			t.Error("a silent server relays")
		}
		if err := u.hears(t, "silent", 300*time.Millisecond); err == nil {
			t.Error("a silent server relays to its client")
		}
		s.mustHeal(t, "turn-silent")
		s.mustServe(t)
	})
}

func TestTURNRefusesAllocate(t *testing.T) {
	forBackends(t, func(t *testing.T, s *turnServer) {
		u := mustAllocate(t, s.relay.address())
		s.mustInject(t, "turn-refuses-allocate")
		if err := bindingAnswered(s.relay.address(), patience); err != nil {
			t.Errorf("binding: %v", err)
		}
		_, code, err := allocate(t, s.relay.address(), turnLogin.password.Reveal())
		if code != stun.CodeAllocQuotaReached && code != stun.CodeUnsupportedTransProto {
			t.Errorf("allocate: code %d, error %v", code, err)
		}
		if err := u.echo(t, patience); err != nil {
			t.Errorf("an allocation from before: %v", err)
		}
		s.mustHeal(t, "turn-refuses-allocate")
		s.mustServe(t)
	})
}

// A server that drains says so with a signed 403, and goes on for its users.
func TestTURNDrains(t *testing.T) {
	s := startRelay(t, "pion")
	u := mustAllocate(t, s.relay.address())
	s.mustInject(t, faultDrains)
	s.mustRefuse(t, stun.CodeForbidden)
	if err := u.echo(t, patience); err != nil {
		t.Errorf("an allocation from before: %v", err)
	}
	s.mustHeal(t, faultDrains)
	s.mustServe(t)
	coturn := &coturnRelay{}
	if err := coturn.set(t.Context(), faultDrains, true); err == nil || !strings.Contains(err.Error(), "use --turn pion") {
		t.Errorf("coturn: %v", err)
	}
}

func TestTURNOneFaultAtATime(t *testing.T) {
	s := startRelay(t, "pion")
	s.mustInject(t, "turn-killed")
	s.mustInject(t, "turn-killed")
	if err := s.inject(t.Context(), "turn-silent"); err == nil {
		t.Error("a killed server fell silent")
	}
	s.mustHeal(t, "turn-silent") // is not there
	if err := bindingAnswered(s.relay.address(), time.Second); !refused(err) {
		t.Errorf("healing another fault: %v, want connection refused", err)
	}
	s.mustHeal(t, "turn-killed")
	s.mustHeal(t, "turn-killed")
	s.mustServe(t)
}
