package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
)

// allocation is one that the lab itself holds.
type allocation struct {
	conn   net.PacketConn
	client *turn.Client
	relay  net.PacketConn
}

func (a *allocation) Close() error {
	if a.relay != nil {
		_ = a.relay.Close() // the server may be gone: its own timer ends the allocation then
	}
	a.client.Close()
	return a.conn.Close()
}

// useUpQuota takes the only allocation that the user may have. Nil without an
// error means that an agent has it already.
func useUpQuota(ctx context.Context, server string, c credentials) (io.Closer, error) {
	conn, err := net.ListenPacket("udp4", loopback)
	if err != nil {
		return nil, err
	}
	a := &allocation{conn: conn}
	a.client, err = turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: server, TURNServerAddr: server, Conn: conn, Username: c.username, Password: c.password.Reveal(),
		Realm: realm, LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard},
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := a.client.Listen(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	a.relay, err = a.client.AllocateWithContext(bounded)
	var refusal *stun.TurnError
	switch {
	case errors.As(err, &refusal) && refusal.ErrorCodeAttr.Code == stun.CodeAllocQuotaReached:
		return nil, a.Close()
	case err != nil:
		return nil, errors.Join(fmt.Errorf("use up the quota of %s: %w", server, err), a.Close())
	}
	return a, nil
}
