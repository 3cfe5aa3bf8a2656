package control

import (
	"context"
	"encoding/json"
	"net/url"

	"github.com/tidwall/gjson"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// Paths asks GET /connections/{local}/{peer} how one end of a link sees its
// ways to the other. Few controllers offer it.
func (c *Client) Paths(ctx context.Context, local, peer string) (wire.PathReport, error) {
	path := "/connections/" + url.PathEscape(local) + "/" + url.PathEscape(peer)
	reply, err := c.api.Get(ctx, "read paths", path)
	if err != nil {
		return wire.PathReport{}, err
	}
	root, err := reply.Object()
	if err != nil {
		return wire.PathReport{}, err
	}
	d := decoder{}
	report := wire.PathReport{Local: d.text(root.Get("local"), "local"), Peer: d.text(root.Get("peer"), "peer")}
	if d.err == nil && (report.Local != local || report.Peer != peer) {
		d.fail("local", "is %q to %q, which was not asked for", report.Local, report.Peer)
	}
	for _, list := range []string{"local_candidates", "remote_candidates", "pairs"} {
		d.each(root.Get(list), list, func(gjson.Result) {})
	}
	if d.err == nil {
		if err := json.Unmarshal(reply.Body, &report); err != nil {
			d.fail("reply", "%s", err)
		}
	}
	return report, d.replyError(reply)
}
