package control

import (
	"context"

	"github.com/tidwall/gjson"
)

// Bandwidth is how agents bound what they send.
type Bandwidth struct {
	Adapt bool    `json:"enableBandwidthAdaptation"` // follow the loss of each path
	Mbps  float64 `json:"maxBitrateMbps"`            // to each peer; 0 = no bound
}

const maxMbps = 1e6

// Bandwidth reads from GET /config how agents bound what they send; offered is
// false when this controller does not show it.
func (c *Client) Bandwidth(ctx context.Context) (b Bandwidth, offered bool, err error) {
	reply, err := c.api.Get(ctx, "read config", "/config")
	if err != nil {
		return Bandwidth{}, false, err
	}
	root, err := reply.Object()
	if err != nil {
		return Bandwidth{}, false, err
	}
	v := root.Get("bandwidth")
	if !v.Exists() {
		return Bandwidth{}, false, errorInside(reply, root)
	}
	d := decoder{}
	if adapt := v.Get("enableBandwidthAdaptation"); adapt.Type == gjson.True || adapt.Type == gjson.False {
		b.Adapt = adapt.Bool()
	} else {
		d.fail("bandwidth.enableBandwidthAdaptation", "is not true or false")
	}
	b.Mbps = d.number(v.Get("maxBitrateMbps"), "bandwidth.maxBitrateMbps", maxMbps)
	if err := d.replyError(reply); err != nil {
		return Bandwidth{}, false, err
	}
	return b, true, nil
}

// SetBandwidth tells all agents how to bound what they send. Nil says that the
// order was taken, not that it was carried out: read Bandwidth.
func (c *Client) SetBandwidth(ctx context.Context, key string, b Bandwidth) error {
	return c.order(ctx, "set bandwidth", "/config/bandwidth", key, b)
}
