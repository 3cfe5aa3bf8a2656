package mesh

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/pion/datachannel"
	"github.com/pion/webrtc/v4"
)

const (
	// channelLabel is the data channel that carries IFMessages.
	channelLabel = "if-agent-messaging"
	// firstBuffer is the read buffer of a channel until a longer message comes.
	// pion's own reader takes 64 KiB for each, which a full mesh cannot afford.
	firstBuffer = 2 << 10
	// longestRead is what a peer can send that minds no limit: more does not fit
	// SCTP's own buffer. It is read to get to what comes after it.
	longestRead = 2 << 20
	// maxChannels is how many channels of a connection the peer may open. Each
	// one takes a goroutine.
	maxChannels = 8
)

// channel is a data channel whose messages are read here, not by pion.
type channel struct {
	dc    *webrtc.DataChannel
	state atomic.Int32 // channelNew, channelOpen, channelClosed
}

const (
	channelNew = iota
	channelOpen
	channelClosed
)

// open tells whether the channel was opened and not closed since.
func (h *channel) open() bool { return h != nil && h.state.Load() == channelOpen }

func (h *channel) closed() bool { return h != nil && h.state.Load() == channelClosed }

func (h *channel) buffered() uint64 { return h.dc.BufferedAmount() }

func (h *channel) send(text []byte) error {
	if !h.open() {
		return ErrNoChannel
	}
	return h.dc.SendText(string(text))
}

// serve has every message of a channel given to receive, which must not keep
// the bytes. opened and ended are called once each, from another goroutine.
func (c *connection) serve(dc *webrtc.DataChannel, opened func(), receive func([]byte), ended func(error)) *channel {
	h := &channel{dc: dc}
	dc.OnOpen(func() {
		raw, err := dc.Detach()
		if err != nil || !c.hold() {
			return
		}
		h.state.Store(channelOpen)
		go func() {
			defer c.readers.Done()
			opened()
			err := c.read(raw, receive)
			h.state.Store(channelClosed)
			ended(err)
		}()
	})
	return h
}

// read returns when the channel is closed, nil when the peer closed it.
func (c *connection) read(raw datachannel.Reader, receive func([]byte)) error {
	buffer := make([]byte, firstBuffer)
	for {
		n, _, err := raw.ReadDataChannel(buffer)
		switch {
		case err == nil:
			c.heard.Add(1)
			receive(buffer[:n])
		case errors.Is(err, io.ErrShortBuffer) && len(buffer) < longestRead:
			buffer = make([]byte, min(max(2*len(buffer), n), longestRead))
		case errors.Is(err, io.EOF):
			return nil
		default:
			return err
		}
	}
}
