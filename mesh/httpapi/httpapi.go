// Package httpapi answers: how is one JSON call made to a service of the mesh,
// and what exactly went wrong?
//
// A call either yields a complete 2xx reply or one of four typed errors:
// UnreachableError (no reply), StatusError (a reply that is not 2xx),
// NotOfferedError (404) or ReplyError (a 2xx reply that cannot be used).
package httpapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/infrafabric/meshctl/mesh/secret"
)

const (
	// DefaultTimeout bounds one call with all its attempts: a controller
	// that needs longer is of no use to somebody who is recovering a mesh.
	DefaultTimeout = 5 * time.Second

	// DefaultMaxBody holds the statistics of some 100,000 connections.
	DefaultMaxBody = 64 << 20

	retryMax     = 2 // three attempts in all
	retryWaitMin = 50 * time.Millisecond
	retryWaitMax = 200 * time.Millisecond
	maxCAFile    = 4 << 20
)

// Options say which service is called and how.
type Options struct {
	Service   string        // what errors call it, such as "controller"; default "server"
	URL       string        // http or https, with an optional base path
	Bearer    secret.Secret // sent as "Authorization: Bearer ..." on every call; may be empty
	Insecure  bool          // allow the bearer over plain http to a host that is not loopback; TLS is always verified
	CAFile    string        // PEM file of roots added to those of the system
	Timeout   time.Duration // one call with all its attempts; 0 = DefaultTimeout
	MaxBody   int64         // bytes of a reply; 0 = DefaultMaxBody
	UserAgent string        // default "meshctl"
}

// Client calls one service. It is safe for concurrent use; Close it when done.
type Client struct {
	options Options
	base    *url.URL
	retried *retryablehttp.Client
	once    *retryablehttp.Client
}

// New checks the options and makes a client; nothing is sent. It refuses a URL
// that carries credentials, and a bearer that would travel unencrypted.
func New(o Options) (*Client, error) {
	base, err := parseBase(o.URL)
	if err != nil {
		return nil, err
	}
	if err := checkBearer(o, base); err != nil {
		return nil, fmt.Errorf("url %s: %w", o.URL, err)
	}
	roots, err := LoadRoots(o.CAFile)
	if err != nil {
		return nil, err
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxBody <= 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.Service == "" {
		o.Service = "server"
	}
	if o.UserAgent == "" {
		o.UserAgent = "meshctl"
	}
	return &Client{
		options: o,
		base:    base,
		retried: newRetryable(newTransport(roots, o.Timeout), retryMax),
		once:    newRetryable(newOnceTransport(roots, o.Timeout), 0),
	}, nil
}

// Close drops the idle connections; the client must not be used afterwards.
func (c *Client) Close() {
	c.retried.HTTPClient.CloseIdleConnections()
	c.once.HTTPClient.CloseIdleConnections()
}

func parseBase(raw string) (*url.URL, error) {
	if strings.Contains(raw, "@") { // checked on the text: a parse error would quote the password
		return nil, errors.New("url: must not carry a user name or password")
	}
	u, err := url.Parse(raw)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fmt.Errorf("url %q: %w", raw, err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("url %q: must start with http:// or https://", raw)
	case u.Hostname() == "":
		return nil, fmt.Errorf("url %q: no host", raw)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("url %q: must not have a query or fragment", raw)
	}
	return u, nil
}

func checkBearer(o Options, base *url.URL) error {
	if o.Bearer.Empty() {
		return nil
	}
	for _, r := range o.Bearer.Reveal() {
		if r <= ' ' || r > '~' {
			return errors.New("the bearer token has a space, line end or non-ASCII character in it")
		}
	}
	if base.Scheme == "http" && !o.Insecure && !isLoopback(base.Hostname()) {
		return errors.New("a bearer token is not sent over plain http: use https, or set insecure: true for this endpoint")
	}
	return nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// LoadRoots gives the roots of the system and those of a PEM file; without a
// file nil, which means those of the system.
func LoadRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil // the roots of the system
	}
	pem, err := readLimited(path, maxCAFile)
	if err != nil {
		return nil, fmt.Errorf("ca file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca file %s: no certificate in it", path)
	}
	return roots, nil
}

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	return data, err
}

// newTransport has no proxy (that would read the environment) and speaks
// HTTP/1.1 only: HTTP/2 repeats requests on its own. The timeouts are for what
// net/http goes on with after the call has been given up.
func newTransport(roots *x509.CertPool, timeout time.Duration) *http.Transport {
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: timeout}).DialContext,
		TLSHandshakeTimeout:    timeout,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		MaxIdleConns:           4,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
	}
}

// newOnceTransport never reuses a connection: net/http itself repeats a
// request with an Idempotency-Key when a reused connection turns out dead.
func newOnceTransport(roots *x509.CertPool, timeout time.Duration) *http.Transport {
	t := newTransport(roots, timeout)
	t.DisableKeepAlives = true
	return t
}

func newRetryable(t *http.Transport, retries int) *retryablehttp.Client {
	return &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport: t,
			// A followed redirect could carry the bearer elsewhere, and turns a
			// POST into a GET that changes nothing and answers 200.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryMax:     retries,
		RetryWaitMin: retryWaitMin,
		RetryWaitMax: retryWaitMax,
		CheckRetry:   checkRetry,
		Backoff:      backoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
}

// checkRetry stops when the next attempt would hardly begin: the reply at hand
// says more than "no answer".
func checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < retryWaitMax {
		return false, nil
	}
	return retryablehttp.DefaultRetryPolicy(ctx, resp, err)
}

// backoff doubles the wait and ignores Retry-After, which could outlast the
// call and hide the status that was answered.
func backoff(shortest, longest time.Duration, attempt int, _ *http.Response) time.Duration {
	return min(shortest<<attempt, longest)
}
