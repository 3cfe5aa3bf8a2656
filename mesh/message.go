package mesh

import (
	"errors"
	"fmt"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

const (
	messageLevel = 1
	// maxBuffered is what may wait in a channel that does not drain: pion takes
	// messages for a dead link without an error and without end.
	maxBuffered = 1 << 20
)

// ErrNoChannel says that no open data channel leads to the peer.
var ErrNoChannel = errors.New("no open channel")

// Send signs a message and sends it on the if-agent-messaging channel. The
// payload must encode as a JSON object. A message that was sent is delivered
// unless the link is down for longer than the channel retransmits. Errors:
// ErrNoChannel.
func (a *Agent) Send(peer string, payload any) (wire.Message, error) {
	message, err := a.send(peer, payload)
	if err != nil {
		return wire.Message{}, fmt.Errorf("send to %s: %w", peer, err)
	}
	return message, nil
}

func (a *Agent) send(peer string, payload any) (wire.Message, error) {
	l := a.existing(peer)
	if l == nil {
		return wire.Message{}, ErrNoChannel
	}
	c, _ := l.current()
	if c == nil || c.channel.Load() == nil {
		return wire.Message{}, ErrNoChannel
	}
	channel := c.channel.Load()
	if waiting := channel.BufferedAmount(); waiting > maxBuffered {
		return wire.Message{}, fmt.Errorf("%d bytes wait already", waiting)
	}
	message, err := wire.NewMessage(a.o.ID, peer, messageLevel, payload)
	if err != nil {
		return message, err
	}
	if err := message.Sign(a.o.SignKey); err != nil {
		return message, err
	}
	data, err := message.Encode()
	if err != nil {
		return message, err
	}
	if err := channel.SendText(string(data)); err != nil {
		return message, fmt.Errorf("%w: %w", ErrNoChannel, err)
	}
	return message, nil
}

// deliver hands a received message on if its signature is right.
func (a *Agent) deliver(from string, data []byte, at time.Time) {
	err := wire.Verify(data)
	var message wire.Message
	if err == nil {
		message, err = wire.DecodeMessage(data)
	}
	if err != nil {
		a.emit("signature_verification_failed", from, metadata{"reason": err.Error()})
		return
	}
	if a.o.OnMessage != nil {
		a.o.OnMessage(from, message, at)
	}
}
