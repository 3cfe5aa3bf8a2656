package mesh

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// testPayload is what a delivery test sends. The hash is there because the
// signature of an IFMessage does not cover the payload.
type testPayload struct {
	Seq    int    `json:"seq"` // 1, 2, 3 ... per direction
	SHA256 string `json:"sha256"`
	Data   string `json:"data"`
}

// newTestPayload makes a payload with size bytes of data.
func newTestPayload(from, to string, seq, size int) testPayload {
	p := testPayload{Seq: seq, Data: strings.Repeat(fmt.Sprintf("%08x", seq), size/8+1)[:size]}
	p.SHA256 = p.sum(from, to)
	return p
}

func (p testPayload) sum(from, to string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%d\n%s", from, to, p.Seq, p.Data))
	return hex.EncodeToString(sum[:])
}

// count is what happened to the messages of one direction.
type count struct {
	mu                             sync.Mutex
	size                           int   // bytes of data in a message
	err                            error // why it is not connected
	sent                           []time.Time
	arrived                        []bool // by Seq-1
	newest                         int    // highest Seq that arrived
	refused                        int
	duplicated, reordered, corrupt int
	latencies                      []time.Duration
}

var errNotTried = errors.New("not tried to the end: the test ended before")

func newCount(size int) *count { return &count{size: size, err: errNotTried} }

func (c *count) connected(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// send sends the next message. The time is noted before, since the message can
// arrive before Send returns.
func (c *count) send(from *Agent, to string) {
	c.mu.Lock()
	c.sent = append(c.sent, time.Now())
	c.arrived = append(c.arrived, false)
	seq := len(c.sent)
	c.mu.Unlock()
	if _, err := from.Send(to, newTestPayload(from.ID(), to, seq, c.size)); err != nil {
		c.mu.Lock()
		c.sent, c.arrived = c.sent[:seq-1], c.arrived[:seq-1]
		c.refused++
		c.mu.Unlock()
	}
}

func (c *count) received(from, to string, m wire.Message, at time.Time) {
	var p testPayload
	err := json.Unmarshal(m.Payload, &p)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil || p.SHA256 != p.sum(from, to) || p.Seq < 1 || p.Seq > len(c.sent) ||
		m.Source != from || m.Destination != to:
		c.corrupt++
	case c.arrived[p.Seq-1]:
		c.duplicated++
	default:
		c.arrived[p.Seq-1] = true
		c.latencies = append(c.latencies, at.Sub(c.sent[p.Seq-1]))
		if p.Seq < c.newest {
			c.reordered++
		}
		c.newest = max(c.newest, p.Seq)
	}
}

func (c *count) soFar() (sent, received int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sent), len(c.latencies)
}

func (c *count) complete() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.latencies) == len(c.sent)
}
