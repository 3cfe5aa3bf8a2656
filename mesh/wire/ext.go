package wire

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ExtLabel is the data channel that our own agents have beside the one for
// messages: unordered and without retransmission.
const ExtLabel = "meshctl-ext"

// The types of frames on the ExtLabel channel.
const (
	ExtHeartbeat = "hb"
	ExtAck       = "ack"
)

const (
	maxExt    = 16 << 10 // bytes of a frame
	maxExtIDs = 256      // acknowledged ids in one frame
)

// Ext is one frame of the ExtLabel channel. Which fields are set depends on
// Type.
type Ext struct {
	Type   string     `json:"t"`
	Seq    int64      `json:"seq,omitempty"` // of heartbeats: 1, 2, 3 ...
	At     int64      `json:"at,omitempty"`  // sender's clock, Unix nanoseconds
	Echo   *ExtEcho   `json:"echo,omitempty"`
	Stream *ExtStream `json:"stream,omitempty"`
	IDs    []string   `json:"ids,omitempty"` // of messages that arrived, in "ack"
}

// ExtEcho says what its sender last heard of the other side's heartbeats.
type ExtEcho struct {
	Seq  int64   `json:"seq"`
	At   int64   `json:"at"`   // as it was in that heartbeat
	Held int64   `json:"held"` // nanoseconds between its arrival and this answer
	Loss float64 `json:"loss"` // share of recent heartbeats that did not arrive, 0..1
}

// ExtStream says how far a stream of reliable messages is: all below Low are
// acknowledged.
type ExtStream struct {
	ID  string `json:"id"`
	Low int64  `json:"low"`
}

// DecodeExt reads a frame and checks that it has the fields its type needs. A
// frame of another type decodes without checks; callers ignore it.
func DecodeExt(frame []byte) (Ext, error) {
	var x Ext
	if len(frame) > maxExt {
		return x, fmt.Errorf("ext frame: %d bytes, more than %d", len(frame), maxExt)
	}
	if err := json.Unmarshal(frame, &x); err != nil {
		return Ext{}, fmt.Errorf("ext frame: %w", err)
	}
	if err := x.check(); err != nil {
		return Ext{}, fmt.Errorf("ext frame %s: %w", shorten(x.Type, 40), err)
	}
	return x, nil
}

func (x Ext) check() error {
	switch x.Type {
	case "":
		return errors.New("no type")
	case ExtHeartbeat:
		if x.Seq < 1 {
			return errors.New("no seq")
		}
		if x.Echo != nil && (x.Echo.Seq < 1 || x.Echo.Held < 0 || x.Echo.Loss < 0 || x.Echo.Loss > 1) {
			return errors.New("echo out of range")
		}
		if x.Stream != nil && (x.Stream.ID == "" || len(x.Stream.ID) > maxText || x.Stream.Low < 1) {
			return errors.New("stream out of range")
		}
	case ExtAck:
		if len(x.IDs) > maxExtIDs {
			return fmt.Errorf("more than %d ids", maxExtIDs)
		}
	}
	return nil
}

// Encode writes the frame as it goes over the channel.
func (x Ext) Encode() []byte {
	frame, err := json.Marshal(x)
	if err != nil { // strings and numbers only: cannot fail
		panic(err)
	}
	return frame
}
