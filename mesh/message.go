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

var errPlain = errors.New("the peer acknowledges nothing")

// Send signs a message and sends it on the if-agent-messaging channel. The
// payload must encode as a JSON object. A message that was sent is delivered
// unless the link fails meanwhile. Errors: ErrNoChannel, ErrPaced.
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
	c := l.sending()
	if c == nil {
		return wire.Message{}, ErrNoChannel
	}
	channel := c.messages.Load()
	if waiting := channel.buffered(); waiting > maxBuffered {
		return wire.Message{}, fmt.Errorf("%d bytes wait already", waiting)
	}
	message, data, err := a.encode(peer, payload, "", 0)
	if err != nil {
		return message, err
	}
	if !l.pacer.take(len(data), time.Now()) {
		return message, ErrPaced
	}
	if err := channel.send(data); err != nil {
		return message, fmt.Errorf("%w: %w", ErrNoChannel, err)
	}
	return message, nil
}

// SendReliable signs a message and takes it in charge: it is delivered once,
// and in the order of the other reliable messages to this peer, whatever the
// link goes through, as long as both agents live. It needs a link that has
// been made, not one that is up. To a plain agent it is Send. Errors:
// ErrNoChannel, ErrFull.
func (a *Agent) SendReliable(peer string, payload any) (wire.Message, error) {
	l := a.existing(peer)
	if l == nil {
		return wire.Message{}, fmt.Errorf("send to %s: %w", peer, ErrNoChannel)
	}
	m, err := l.out.add(l.sending(), func(stream string, seq int64) (wire.Message, []byte, error) {
		if l.kind.Load() == kindPlain { // asked here, since the outbox is emptied when it becomes one
			return wire.Message{}, nil, errPlain
		}
		return a.encode(peer, payload, stream, seq)
	})
	if errors.Is(err, errPlain) {
		return a.Send(peer, payload)
	}
	if err != nil {
		return wire.Message{}, fmt.Errorf("send to %s: %w", peer, err)
	}
	return m, nil
}

// Unacknowledged counts the reliable messages to a peer that have not been
// acknowledged yet.
func (a *Agent) Unacknowledged(peer string) int {
	if l := a.existing(peer); l != nil {
		return l.out.pending()
	}
	return 0
}

// encode makes and signs a message; one in a stream has a number.
func (a *Agent) encode(peer string, payload any, stream string, seq int64) (wire.Message, []byte, error) {
	m, err := wire.NewMessage(a.o.ID, peer, messageLevel, payload)
	if err != nil {
		return m, nil, err
	}
	if stream != "" {
		m.ConversationID, m.SequenceNum = stream, &seq
	}
	if err := m.Sign(a.o.SignKey); err != nil {
		return m, nil, err
	}
	data, err := m.Encode()
	return m, data, err
}

// deliver hands a received message on if its signature is right.
func (l *link) deliver(c *connection, data []byte, at time.Time) {
	err := wire.Verify(data)
	var message wire.Message
	if err == nil {
		message, err = wire.DecodeMessage(data)
	}
	if err != nil {
		if count := l.forged.add(at); count > 0 {
			l.reportForged(count, err.Error())
		}
		return
	}
	// The ext channel of one of ours is there before the first message.
	ours := l.ours() || c.ext.Load() != nil
	if l.in.take(message, len(data), at, ours, l.hand) {
		time.AfterFunc(ackDelay, l.acknowledge)
	}
}

func (l *link) hand(m wire.Message, at time.Time) {
	if l.agent.o.OnMessage != nil {
		l.agent.o.OnMessage(l.peer, m, at)
	}
}
