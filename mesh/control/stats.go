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
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	reply, err := c.api.Get(ctx, "read stats", "/stats")
	if err != nil {
		return Stats{}, err
	}
	stats, err := parseStats(reply.Body)
	if err != nil {
		return Stats{}, reply.Invalid("%s", err)
	}
	stats.Date = reply.Date
	return stats, nil
}

func parseStats(body []byte) (Stats, error) {
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
	d.each(root.Get("connections"), "connections", func(v gjson.Result, path string) {
		stats.Connections = append(stats.Connections, d.link(v, path))
	})
	if d.err != nil {
		return Stats{}, d.err
	}
	return stats, nil
}

// link reads a connection object; every field but state is optional.
func (d *decoder) link(v gjson.Result, path string) wire.Link {
	var l wire.Link
	if !v.IsObject() {
		d.fail(path, "is a JSON %s, not an object", httpapi.TypeName(v))
		return l
	}
	l.State = d.text(v.Get("state"), path+".state")
	if d.err == nil && !wire.KnownState(l.State) {
		d.fail(path+".state", "is %q, which is no connection state", l.State)
	}
	v.ForEach(func(key, value gjson.Result) bool {
		if given(value) {
			d.linkField(&l, key.Str, value, path+"."+key.Str)
		}
		return d.err == nil
	})
	return l
}

func (d *decoder) linkField(l *wire.Link, name string, v gjson.Result, path string) {
	switch name {
	case "id":
		l.ID = d.text(v, path)
	case "local":
		l.Local = d.text(v, path)
	case "peer":
		l.Peer = d.text(v, path)
	case "path":
		l.Path = d.text(v, path)
	case "turn_server":
		l.TURNServer = pointer(d.text(v, path))
	case "rtt_ms":
		l.RTTMillis = pointer(d.measure(v, path))
	case "rtt_age_ms":
		l.RTTAgeMillis = pointer(d.measure(v, path))
	case "jitter_ms":
		l.JitterMillis = pointer(d.measure(v, path))
	case "loss_tx":
		l.LossTx = pointer(d.share(v, path))
	case "loss_rx":
		l.LossRx = pointer(d.share(v, path))
	case "requests_sent":
		l.RequestsSent = pointer(d.count(v, path, maxCounter))
	case "responses_received":
		l.ResponsesReceived = pointer(d.count(v, path, maxCounter))
	case "bytes_sent":
		l.BytesSent = pointer(d.count(v, path, maxCounter))
	case "bytes_received":
		l.BytesReceived = pointer(d.count(v, path, maxCounter))
	case "buffered_amount":
		l.BufferedAmount = pointer(d.count(v, path, maxCounter))
	case "created_at":
		l.CreatedAt = pointer(d.time(v, path))
	case "last_rx_at":
		l.LastRxAt = pointer(d.time(v, path))
	case "key_epoch":
		l.KeyEpoch = pointer(int64(d.count(v, path, maxCounter)))
	case "local_fingerprint":
		l.LocalFingerprint = d.text(v, path)
	case "remote_fingerprint":
		l.RemoteFingerprint = d.text(v, path)
	}
}

func pointer[T any](v T) *T { return &v }

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
	d.each(root.Get("agents"), "agents", func(v gjson.Result, path string) {
		id := d.text(v.Get("agent_id"), path+".agent_id")
		if id == "" {
			d.fail(path+".agent_id", "is empty")
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
