// Package control answers: what do the controller and the signaling servers of
// the mesh say about it, and did they take an order?
//
// Every reply is checked whole before anything of it is used. What a server
// does not offer is an error of its own kind, and never an empty answer.
package control

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/infrafabric/meshctl/mesh/httpapi"
	"github.com/infrafabric/meshctl/mesh/secret"
)

// UnreachableError says that there was no complete reply.
type UnreachableError = httpapi.UnreachableError

// StatusError is a reply that is not 2xx.
type StatusError = httpapi.StatusError

// NotOfferedError says that this server does not have the call (404).
type NotOfferedError = httpapi.NotOfferedError

// ReplyError is a 2xx reply that is not what was asked for.
type ReplyError = httpapi.ReplyError

// Options say where the controller, or the HTTP side of a signaling server, is.
type Options struct {
	Service  string        // what errors call it; default "controller"
	URL      string        // http or https, with an optional base path
	AdminKey secret.Secret // bearer token; may be empty for reading
	Insecure bool          // allow the bearer over plain http to a host that is not loopback
	CAFile   string        // PEM file of roots added to those of the system
	Timeout  time.Duration // one call with all its attempts; 0 = 5 s
}

// Client asks one controller or signaling server. Close it when done.
type Client struct{ api *httpapi.Client }

// New checks the options; nothing is sent.
func New(o Options) (*Client, error) {
	if o.Service == "" {
		o.Service = "controller"
	}
	api, err := httpapi.New(httpapi.Options{
		Service: o.Service, URL: o.URL, Bearer: o.AdminKey, Insecure: o.Insecure, CAFile: o.CAFile, Timeout: o.Timeout,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Service, err)
	}
	return &Client{api: api}, nil
}

// Close drops the idle connections.
func (c *Client) Close() { c.api.Close() }

// Health asks GET /health. Through a load balancer the answer proves only the
// balancer. Nil means the text "ok" or {"status":"ok"}.
func (c *Client) Health(ctx context.Context) error {
	reply, err := c.api.Get(ctx, "read health", "/health")
	if err != nil {
		return err
	}
	if strings.EqualFold(string(bytes.TrimSpace(reply.Body)), "ok") {
		return nil
	}
	root, err := reply.Object()
	if err != nil {
		return err
	}
	d := decoder{}
	status := d.text(root.Get("status"), "status")
	if d.err == nil && !strings.EqualFold(status, "ok") {
		d.fail("status", "is %q, not \"ok\"", status)
	}
	return d.replyError(reply)
}

// ReloadConfig gives the controller the whole new list of TURN servers. key
// makes repeated attempts one order; with an empty key there is one attempt.
// Nil says that the order was taken, not that it was carried out: read Config.
func (c *Client) ReloadConfig(ctx context.Context, key string, servers []string) error {
	body := struct {
		TURNServers []string `json:"turn_servers"`
	}{append([]string{}, servers...)} // [] and not null when empty
	return c.order(ctx, "reload config", "/admin/reload-config", key, body)
}

// ReconnectTURNPeers tells the controller to reconnect the agents that use a
// relay. Nil says that the order was taken, not that they reconnected: read
// Stats.
func (c *Client) ReconnectTURNPeers(ctx context.Context, key string) error {
	return c.order(ctx, "reconnect turn peers", "/admin/reconnect-turn-peers", key, nil)
}

// order posts a change. The body of the reply is free, but a page of HTML (the
// login of some proxy) or an error with status 200 is not an agreement.
func (c *Client) order(ctx context.Context, op, path, key string, body any) error {
	reply, err := c.api.Post(ctx, op, path, key, body, true)
	if err != nil {
		return err
	}
	text := bytes.TrimSpace(reply.Body)
	if len(text) == 0 || (text[0] != '<' && text[0] != '{') {
		return nil
	}
	root, err := reply.Object()
	if err != nil {
		return err
	}
	return errorInside(reply, root)
}

// errorInside finds the error of a reply whose status says success.
func errorInside(reply *httpapi.Reply, root gjson.Result) error {
	switch e := root.Get("error"); {
	case !given(e) || e.Type == gjson.False || e.String() == "":
		return nil
	default:
		return reply.Invalid("HTTP %d, but with an error in it: %q", reply.Code, e.String())
	}
}
