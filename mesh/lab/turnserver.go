package lab

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/pion/stun/v3"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
)

const realm = "lab.meshctl"

// TURNServer is one TURN server of the lab.
type TURNServer struct {
	Name       string // turn-1, turn-2, turn-3
	URI        wire.ServerURI
	InRotation bool // in the list that agents start with
}

// The faults of a TURN server.
const (
	faultKilled      = "turn-killed"
	faultSilent      = "turn-silent"
	faultRefuses     = "turn-refuses-allocate"
	faultDrains      = "turn-draining"
	faultSecret      = "turn-wrong-secret"
	faultQuota       = "turn-quota"
	faultPorts       = "turn-ports-used-up"
	faultRangeClosed = "turn-range-closed"
	faultExternal    = "turn-wrong-external-address"
	faultExpiry      = "turn-credentials-expire"
)

// wrongAddress is what a server with a wrong external address announces:
// nothing is there.
const wrongAddress = "127.0.0.99"

// relay is a TURN server that can be broken.
type relay interface {
	address() string
	// set breaks a server that works, or makes it whole again, on the same port.
	set(ctx context.Context, fault string, on bool) error
	close() error
}

type credentials struct {
	username string
	password secret.Secret
}

// turnServer keeps apart the faults of one server: only one at a time.
type turnServer struct {
	TURNServer
	relay relay

	mu    sync.Mutex
	fault string // "" = works
}

func (t *turnServer) inject(ctx context.Context, fault string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fault == fault {
		return nil
	}
	if t.fault != "" {
		return fmt.Errorf("%s has %s already: heal that first", t.Name, t.fault)
	}
	if err := t.relay.set(ctx, fault, true); err != nil {
		return err
	}
	t.fault = fault
	return nil
}

func (t *turnServer) heal(ctx context.Context, fault string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fault != fault {
		return nil
	}
	if err := t.relay.set(ctx, fault, false); err != nil {
		return err
	}
	t.fault = ""
	return nil
}

// holdPort keeps others from getting a port by chance. A connected UDP socket
// takes packets of its peer only: to everybody else the port is closed, and
// the kernel says so.
func holdPort(addr *net.UDPAddr) (net.Conn, error) {
	return net.DialUDP("udp4", addr, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9})
}

// bindingAnswered asks a STUN server once. Nil means that it answered.
func bindingAnswered(address string, wait time.Duration) error {
	conn, err := net.Dial("udp4", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	request, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	if err != nil {
		return err
	}
	if _, err := conn.Write(request.Raw); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	reply := &stun.Message{Raw: make([]byte, 1500)}
	n, err := conn.Read(reply.Raw)
	if err != nil {
		return fmt.Errorf("STUN binding %s: %w", address, err)
	}
	reply.Raw = reply.Raw[:n]
	if err := reply.Decode(); err != nil {
		return fmt.Errorf("STUN binding %s: %w", address, err)
	}
	if reply.TransactionID != request.TransactionID || reply.Type != stun.BindingSuccess {
		return fmt.Errorf("STUN binding %s: answered with %s", address, reply.Type)
	}
	return nil
}
