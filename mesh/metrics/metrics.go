// Package metrics answers: what does Prometheus know about the mesh, and how
// fresh is that?
//
// No series, a NaN and an old sample are no data, and never a good value.
package metrics

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"github.com/infrafabric/meshctl/mesh/httpapi"
	"github.com/infrafabric/meshctl/mesh/secret"
)

const (
	maxSamples = 10_000
	maxBody    = 8 << 20
)

// Options say where Prometheus is.
type Options struct {
	URL      string // http or https, with an optional base path
	Bearer   secret.Secret
	Insecure bool          // allow the bearer over plain http to a host that is not loopback
	CAFile   string        // PEM file of roots added to those of the system
	Timeout  time.Duration // one query; 0 = 5 s
}

// Client asks one Prometheus. Close it when done.
type Client struct{ api *httpapi.Client }

// New checks the options; nothing is sent.
func New(o Options) (*Client, error) {
	api, err := httpapi.New(httpapi.Options{
		Service: "prometheus", URL: o.URL, Bearer: o.Bearer, Insecure: o.Insecure, CAFile: o.CAFile,
		Timeout: o.Timeout, MaxBody: maxBody,
	})
	if err != nil {
		return nil, fmt.Errorf("prometheus: %w", err)
	}
	return &Client{api: api}, nil
}

// Close drops the idle connections.
func (c *Client) Close() { c.api.Close() }

// Sample is one value of an instant vector. It can be NaN.
type Sample struct {
	Labels map[string]string
	Value  float64
	At     time.Time // when it was evaluated, not when it was scraped
}

// Query evaluates an expression now, GET /api/v1/query; it must give an
// instant vector. An empty one is no error: the caller knows what it means.
func (c *Client) Query(ctx context.Context, expression string) ([]Sample, error) {
	reply, err := c.api.GetQuery(ctx, "query prometheus", "/api/v1/query", url.Values{"query": {expression}})
	if err != nil {
		return nil, err
	}
	root, err := reply.Object()
	if err != nil {
		return nil, err
	}
	samples, err := vector(root)
	if err != nil {
		return nil, reply.Invalid("%s", err)
	}
	return samples, nil
}

func vector(root gjson.Result) ([]Sample, error) {
	if status := root.Get("status"); status.Type != gjson.String || status.Str != "success" {
		return nil, fmt.Errorf("status is %.60s, not \"success\"", status.Raw)
	}
	if kind := root.Get("data.resultType"); kind.Str != "vector" {
		return nil, fmt.Errorf("data.resultType is %.60s, not \"vector\"", kind.Raw)
	}
	result := root.Get("data.result")
	if !result.IsArray() {
		return nil, fmt.Errorf("data.result is %.60q, not an array", result.Raw)
	}
	samples := []Sample{}
	var err error
	result.ForEach(func(_, v gjson.Result) bool {
		var s Sample
		if s, err = sample(v); err == nil && len(samples) == maxSamples {
			err = fmt.Errorf("data.result has more than %d samples", maxSamples)
		}
		samples = append(samples, s)
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	return samples, nil
}

// sample reads {"metric":{NAME:VALUE...},"value":[UNIX_SECONDS,"NUMBER"]}.
func sample(v gjson.Result) (Sample, error) {
	metric, value := v.Get("metric"), v.Get("value").Array()
	if !metric.IsObject() || len(value) != 2 || value[0].Type != gjson.Number || value[1].Type != gjson.String {
		return Sample{}, fmt.Errorf("data.result has %.80q, which is no sample", v.Raw)
	}
	number, err := strconv.ParseFloat(value[1].Str, 64)
	if err != nil || math.Abs(value[0].Num) > 1<<40 {
		return Sample{}, fmt.Errorf("data.result has the value %.80q, which is no number at a time", v.Get("value").Raw)
	}
	s := Sample{Labels: map[string]string{}, Value: number, At: time.UnixMilli(int64(value[0].Num * 1000))}
	metric.ForEach(func(name, value gjson.Result) bool {
		s.Labels[name.Str] = value.String()
		return true
	})
	return s, nil
}
