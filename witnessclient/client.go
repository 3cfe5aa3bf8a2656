package witnessclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tidwall/gjson"

	"github.com/infrafabric/meshctl/mesh/httpapi"
	"github.com/infrafabric/meshctl/mesh/secret"
)

const (
	// DefaultTimeout bounds one call: the audit log must not hold up a recovery.
	DefaultTimeout = 3 * time.Second

	lateness = 2 * time.Second // after Timeout an event may still arrive for so long
	grace    = time.Second     // an event that is being sent may end when all else is stopped

	maxReply = 16 << 20 // bytes
)

// Options say where the witness is and how to call it.
type Options struct {
	URL      string
	APIKey   secret.Secret // sent as bearer
	Insecure bool          // allow the key over plain http to a host that is not loopback
	CAFile   string        // PEM roots added to those of the system
	Timeout  time.Duration // one call; 0 = DefaultTimeout
	// Patience is how long after it began an attempt to which no answer came may
	// still bring its event to the witness; 0 = 2 s more than Timeout.
	Patience time.Duration
}

// Client calls the witness API. It is safe for concurrent use; Close it when
// done. Its calls fail with the errors of package httpapi.
type Client struct {
	api             *httpapi.Client
	patience, grace time.Duration
}

// New checks the options; nothing is sent.
func New(o Options) (*Client, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Patience <= 0 {
		o.Patience = o.Timeout + lateness
	}
	api, err := httpapi.New(httpapi.Options{
		Service: "witness", URL: o.URL, Bearer: o.APIKey, Insecure: o.Insecure,
		CAFile: o.CAFile, Timeout: o.Timeout, MaxBody: maxReply,
	})
	if err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	return &Client{api: api, patience: o.Patience, grace: grace}, nil
}

// Close drops the idle connections.
func (c *Client) Close() { c.api.Close() }

// Log sends one event with key as its Idempotency-Key, in exactly one attempt
// on the wire. Nil means that the witness has it: a 2xx reply, or 409 for one
// that it had before. After any error the outcome is unknown.
func (c *Client) Log(ctx context.Context, e Event, key string) error {
	_, err := c.log(ctx, e, key)
	return err
}

func (c *Client) log(ctx context.Context, event any, key string) (already bool, err error) {
	_, err = c.api.Post(ctx, "log event", "/api/log", key, event, false)
	var status *httpapi.StatusError
	if errors.As(err, &status) && status.Code == http.StatusConflict {
		return true, nil
	}
	return false, err
}

// Query selects events. Match maps fields, also dotted paths such as
// "metadata.run", to a value or an operator such as {"regex": RE} or {"$gt": N}.
// From and To are "now", relative ("-5m", "-1h", "-7d") or RFC 3339; empty
// leaves the limit to the witness.
type Query struct {
	Match    map[string]any
	From, To string
}

// MarshalJSON implements json.Marshaler.
func (q Query) MarshalJSON() ([]byte, error) {
	match := q.Match
	if match == nil {
		match = map[string]any{}
	}
	span := map[string]string{}
	if q.From != "" {
		span["from"] = q.From
	}
	if q.To != "" {
		span["to"] = q.To
	}
	return encode(struct {
		Match map[string]any    `json:"query"`
		Span  map[string]string `json:"time_range,omitempty"`
	}{match, span})
}

// Query asks for events. An error, also a *httpapi.ReplyError for a reply
// without usable results, means unknown, never zero events.
func (c *Client) Query(ctx context.Context, q Query) ([]Event, error) {
	reply, err := c.api.Post(ctx, "query events", "/api/query", "", q, false)
	if err != nil {
		return nil, err
	}
	root, err := reply.Object()
	if err != nil {
		return nil, err
	}
	results := root.Get("results")
	if !results.IsArray() {
		return nil, reply.Invalid("results is %s, not array", httpapi.TypeName(results))
	}
	events := []Event{}
	for i, result := range results.Array() {
		e, err := parseResult(result)
		if err != nil {
			return nil, reply.Invalid("results[%d]: %s", i, err)
		}
		events = append(events, e)
	}
	return events, nil
}

func parseResult(result gjson.Result) (Event, error) {
	var e Event
	if !result.IsObject() {
		return e, fmt.Errorf("is %s, not object", httpapi.TypeName(result))
	}
	if name := result.Get("event"); name.Type != gjson.String {
		return e, fmt.Errorf("event is %s, not string", httpapi.TypeName(name))
	}
	err := json.Unmarshal([]byte(result.Raw), &e)
	return e, err
}

// Health asks whether the witness says that it is well. It proves neither that
// events are accepted nor that they can be found.
func (c *Client) Health(ctx context.Context) error {
	reply, err := c.api.Get(ctx, "read health", "/health")
	if err != nil {
		return err
	}
	if bytes.EqualFold(bytes.TrimSpace(reply.Body), []byte("ok")) {
		return nil
	}
	root, err := reply.Object()
	if err != nil {
		return err
	}
	if status := root.Get("status"); status.Type != gjson.String || status.Str != "ok" {
		return reply.Invalid("its status is not ok")
	}
	return nil
}
