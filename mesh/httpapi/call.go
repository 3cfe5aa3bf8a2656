package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/infrafabric/meshctl/mesh/secret"
)

// Get reads path, such as "/stats", below the URL of the service. op names the
// operation in errors ("read stats"). A failed attempt is repeated up to twice.
// Errors: *UnreachableError, *StatusError, *NotOfferedError, *ReplyError.
func (c *Client) Get(ctx context.Context, op, path string) (*Reply, error) {
	return c.GetQuery(ctx, op, path, nil)
}

// GetQuery is Get with a query, which errors do not name.
func (c *Client) GetQuery(ctx context.Context, op, path string, query url.Values) (*Reply, error) {
	return c.call(ctx, c.retried, request{op: op, method: http.MethodGet, path: path, query: query})
}

// Post sends body as JSON (nil: no body) with key as its Idempotency-Key; an
// empty key sends none. With retry, and only with a key, an attempt that got no
// reply, 429 or 5xx is repeated up to twice with the same key and body;
// otherwise there is exactly one attempt on the wire. Errors as for Get, and
// one for a body that cannot be encoded.
func (c *Client) Post(ctx context.Context, op, path, key string, body any, retry bool) (*Reply, error) {
	r := request{op: op, method: http.MethodPost, path: path, key: key}
	if body != nil {
		var err error
		if r.body, err = encode(body); err != nil {
			return nil, fmt.Errorf("%s: encode request: %w", op, err)
		}
	}
	if retry && key != "" {
		return c.call(ctx, c.retried, r)
	}
	return c.call(ctx, c.once, r)
}

type request struct {
	op, method, path, key string
	query                 url.Values
	body                  []byte
}

// encode keeps <, > and & as they are, so that a line of a journal is sent
// byte for byte.
func encode(body any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(body)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func (c *Client) call(parent context.Context, via *retryablehttp.Client, r request) (*Reply, error) {
	target := c.base.JoinPath(r.path).String()
	started := time.Now()
	ctx, cancel := context.WithTimeout(parent, c.options.Timeout)
	defer cancel()

	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { sent.Store(true) },
	})
	unreachable := func(err error) error {
		return &UnreachableError{Op: r.op, URL: target, After: time.Since(started), Err: err, Sent: sent.Load()}
	}
	req, err := c.newRequest(ctx, r, target)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.op, target, err)
	}
	resp, err := via.Do(req)
	if resp != nil {
		defer func() { _ = resp.Body.Close() }() // what was needed of it has been read
	}
	if err != nil {
		return nil, unreachable(err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, c.refused(r, target, resp)
	}
	reply := &Reply{Code: resp.StatusCode, Op: r.op, URL: target, bearer: c.options.Bearer}
	reply.Date, _ = http.ParseTime(resp.Header.Get("Date")) // absent or wrong: zero
	if resp.ContentLength > c.options.MaxBody {
		return nil, reply.TooLarge("larger than the limit of %s", size(c.options.MaxBody))
	}
	reply.Body, err = readBody(resp, c.options.MaxBody)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, unreachable(err)
	case err != nil:
		return nil, reply.Invalid("cut short after %d bytes: %s", len(reply.Body), clean(innermost(err), maxDetail))
	case int64(len(reply.Body)) > c.options.MaxBody:
		return nil, reply.TooLarge("larger than the limit of %s", size(c.options.MaxBody))
	}
	reply.Body = withoutBearer(reply.Body, c.options.Bearer)
	return reply, nil
}

// minBearer keeps a toy of a token from being cut out of every word.
const minBearer = 8

// withoutBearer takes out a token that a server gives back: what a reply holds
// is shown and written down.
func withoutBearer(body []byte, bearer secret.Secret) []byte {
	token := []byte(bearer.Reveal())
	if len(token) < minBearer || !bytes.Contains(body, token) {
		return body
	}
	return bytes.ReplaceAll(body, token, []byte("[redacted]"))
}

func (c *Client) newRequest(ctx context.Context, r request, target string) (*retryablehttp.Request, error) {
	var body any
	if r.body != nil {
		body = r.body
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, err
	}
	req.URL.RawQuery = r.query.Encode()
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.options.UserAgent)
	if !c.options.Bearer.Empty() {
		req.Header.Set("Authorization", "Bearer "+c.options.Bearer.Reveal())
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	return req, nil
}

// refused turns a reply that is not 2xx into its error.
func (c *Client) refused(r request, target string, resp *http.Response) error {
	if resp.StatusCode == http.StatusNotFound {
		return &NotOfferedError{Op: r.op, URL: target, Service: c.options.Service, Call: r.method + " " + r.path}
	}
	e := &StatusError{Op: r.op, URL: target, Code: resp.StatusCode}
	if to, err := resp.Location(); err == nil {
		where := url.URL{Scheme: to.Scheme, Host: to.Host, Path: to.Path}
		e.Detail = clean("redirects to "+where.String()+", which is not followed", maxDetail)
		return e
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // a lost detail does not change the verdict
	e.Detail = detail([]byte(redact(string(body), c.options.Bearer)))
	return e
}

// readBody reads up to one byte more than the limit. It takes little more
// memory than the body: io.ReadAll would take a multiple of a large one.
func readBody(resp *http.Response, limit int64) ([]byte, error) {
	from := io.LimitReader(resp.Body, limit+1)
	if n := resp.ContentLength; n >= 0 {
		body := make([]byte, n)
		read, err := io.ReadFull(from, body)
		return body[:read], err
	}
	var pieces [][]byte
	for size := firstPiece; ; size = min(2*size, largestPiece) {
		piece, err := fill(from, make([]byte, size))
		pieces = append(pieces, piece)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return bytes.Join(pieces, nil), err
		}
	}
}

// fill reads until the piece is full. Unlike io.ReadFull it tells the end of a
// body from one that was cut short.
func fill(from io.Reader, piece []byte) ([]byte, error) {
	n := 0
	for n < len(piece) {
		read, err := from.Read(piece[n:])
		n += read
		if err != nil {
			return piece[:n], err
		}
	}
	return piece, nil
}

const firstPiece, largestPiece = 4 << 10, 1 << 20

func size(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}
