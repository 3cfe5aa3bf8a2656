package control

import (
	"context"
	"time"

	"github.com/tidwall/gjson"

	"github.com/infrafabric/meshctl/mesh/httpapi"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// maxEntries bounds every list of a reply: a small JSON text can stand for a
// large amount of memory.
const maxEntries = 200_000

// Stats is the reply to GET /stats.
type Stats struct {
	TotalAgents int         // registered agents
	Connections []wire.Link // of all states
	Server      string      // which signaling server answered; "" = it did not say
	LocalAgents []string    // agents whose socket is on that server; nil = it did not say
	Date        time.Time   // the server's clock; zero = it did not say
}

// Stats asks GET /stats. A reply without total_agents or connections, or with
// anything of a wrong type, is a *ReplyError and never a count of zero.
func (c *Client) Stats(ctx context.Context) (Stats, error) { return c.read(ctx, parseStats) }

// Scan is Stats for a reply of any length: it keeps no connections, but gives
// each to the caller, valid for that call only. With an error all that was
// given before means nothing.
func (c *Client) Scan(ctx context.Context, each func(wire.Link)) (Stats, error) {
	return c.read(ctx, func(body []byte) (Stats, error) {
		var reused linkReader
		return scanStats(body, func() *linkReader { reused = linkReader{}; return &reused }, each)
	})
}

func (c *Client) read(ctx context.Context, parse func(body []byte) (Stats, error)) (Stats, error) {
	reply, err := c.api.Get(ctx, "read stats", "/stats")
	if err != nil {
		return Stats{}, err
	}
	stats, err := parse(reply.Body)
	if err != nil {
		return Stats{}, unusable(reply, err)
	}
	stats.Date = reply.Date
	return stats, nil
}

func parseStats(body []byte) (Stats, error) {
	var links []wire.Link
	stats, err := scanStats(body, func() *linkReader { return &linkReader{} }, func(l wire.Link) { links = append(links, l) })
	if err != nil {
		return Stats{}, err
	}
	stats.Connections = links
	return stats, nil
}

func scanStats(body []byte, reader func() *linkReader, each func(wire.Link)) (Stats, error) {
	root, err := httpapi.Object(body)
	if err != nil {
		return Stats{}, err
	}
	d := decoder{}
	stats := Stats{TotalAgents: int(d.count(root.Get("total_agents"), "total_agents", maxCount))}
	if v := root.Get("server"); given(v) {
		stats.Server = d.text(v, "server")
	}
	if v := root.Get("local_agents"); given(v) {
		stats.LocalAgents = d.texts(v, "local_agents")
	}
	d.each(root.Get("connections"), "connections", func(v gjson.Result) {
		r := reader()
		r.read(&d, v)
		each(r.link)
	})
	if d.err != nil {
		return Stats{}, d.err
	}
	return stats, nil
}

// Agents asks GET /agents for the ids of the registered agents.
func (c *Client) Agents(ctx context.Context) ([]string, error) {
	reply, err := c.api.Get(ctx, "read agents", "/agents")
	if err != nil {
		return nil, err
	}
	root, err := reply.Object()
	if err != nil {
		return nil, err
	}
	d := decoder{}
	ids := []string{}
	d.each(root.Get("agents"), "agents", func(v gjson.Result) {
		id := d.text(v.Get("agent_id"), "agent_id")
		if id == "" {
			d.fail("agent_id", "is empty")
		}
		ids = append(ids, id)
	})
	if err := d.replyError(reply); err != nil {
		return nil, err
	}
	return ids, nil
}

// Config is what of GET /config concerns the relays.
type Config struct {
	TURNServers []string // URIs, as agents get them now
	Offered     bool     // the reply had turn_servers; without it nothing is known
}

// Config asks GET /config.
func (c *Client) Config(ctx context.Context) (Config, error) {
	reply, err := c.api.Get(ctx, "read config", "/config")
	if err != nil {
		return Config{}, err
	}
	root, err := reply.Object()
	if err != nil {
		return Config{}, err
	}
	v := root.Get("turn_servers")
	if !v.Exists() {
		return Config{}, errorInside(reply, root)
	}
	d := decoder{}
	servers := d.texts(v, "turn_servers")
	if err := d.replyError(reply); err != nil {
		return Config{}, err
	}
	return Config{TURNServers: servers, Offered: true}, nil
}
