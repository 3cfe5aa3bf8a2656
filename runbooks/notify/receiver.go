package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/infrafabric/meshctl/mesh/secret"
)

const (
	queueLength    = 64
	attempts       = 4
	attemptTimeout = 5 * time.Second
	firstWait      = 250 * time.Millisecond
	longestWait    = 2 * time.Second
	maxReply       = 64 << 10

	// DefaultPagerDuty is where PagerDuty takes Events API v2.
	DefaultPagerDuty = "https://events.pagerduty.com/v2/enqueue"
)

// receiver is a target with its queue.
type receiver struct {
	Target
	queue chan Message
	once  sync.Once // starts it, or marks that it never was
	done  chan struct{}
	ctx   context.Context //nolint:containedctx // ends what the receiver does when it is told to stop
	stop  context.CancelFunc
}

func newReceiver(t Target) *receiver {
	r := &receiver{Target: t, queue: make(chan Message, queueLength), done: make(chan struct{})}
	r.ctx, r.stop = context.WithCancel(context.Background())
	if r.Type == "pagerduty" && r.URL.Empty() {
		r.URL = secret.New(DefaultPagerDuty)
	}
	return r
}

// kinds are what the receiver wants; who is paged is not paged for a start.
func (r *receiver) kinds() []Kind {
	switch {
	case r.Kinds != nil:
		return r.Kinds
	case r.Type == "pagerduty":
		return []Kind{Failure, Finish, HealingFailed, TURNDown}
	}
	return []Kind{Start, Failure, Finish, HealingFailed, TURNDown}
}

// start sends what is queued, in order, until the queue is closed.
func (r *receiver) start(sent func(*receiver, Message, error)) {
	client := &http.Client{
		// A redirect would take the secret address, or the key, elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{ForceAttemptHTTP2: true, TLSHandshakeTimeout: attemptTimeout},
	}
	go func() {
		defer close(r.done)
		defer r.stop()
		defer client.CloseIdleConnections()
		for m := range r.queue {
			if body := r.body(m); body != nil {
				sent(r, m, r.deliver(client, body))
			}
		}
	}()
}

// deliver tries a few times, with growing waits that no two share.
func (r *receiver) deliver(client *http.Client, body []byte) error {
	if err := CheckURL(r.URL); err != nil {
		return err
	}
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval, wait.RandomizationFactor = firstWait, longestWait, 0.5
	_, err := backoff.Retry(r.ctx, func() (struct{}, error) { return struct{}{}, r.post(client, body) },
		backoff.WithBackOff(wait), backoff.WithMaxTries(attempts))
	if r.ctx.Err() != nil {
		return errors.New("there was no time left")
	}
	var permanent *backoff.PermanentError
	if errors.As(err, &permanent) {
		return permanent.Err
	}
	return err
}

// post makes one attempt. Its errors never hold the address.
func (r *receiver) post(client *http.Client, body []byte) error {
	ctx, cancel := context.WithTimeout(r.ctx, attemptTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL.Reveal(), bytes.NewReader(body))
	if err != nil {
		return backoff.Permanent(errors.New("the address is not one")) // the cause repeats it
	}
	request.Header.Set("Content-Type", "application/json")
	reply, err := client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("no reply within %s", attemptTimeout)
		}
		return bare(err)
	}
	defer reply.Body.Close() //nolint:errcheck // was read
	_, _ = io.Copy(io.Discard, io.LimitReader(reply.Body, maxReply))
	switch {
	case reply.StatusCode/100 == 2:
		return nil
	case reply.StatusCode == http.StatusTooManyRequests || reply.StatusCode >= 500:
		return fmt.Errorf("HTTP status %d", reply.StatusCode)
	}
	return backoff.Permanent(fmt.Errorf("HTTP status %d", reply.StatusCode))
}

// bare is a transport's error without the address that url.Error repeats.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// CheckURL tells whether an address can be used, without repeating it: https,
// or this machine.
func CheckURL(address secret.Secret) error {
	if address.Empty() {
		return errors.New("there is no address")
	}
	u, err := url.Parse(address.Reveal())
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("the address is not an https:// one")
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return errors.New("the address is not an https:// one: it is a secret that would be sent in the clear")
	}
	return nil
}

// body is a message as the receiver reads it; nil when there is nothing to say.
func (r *receiver) body(m Message) []byte {
	var v any = m
	switch r.Type {
	case "slack":
		v = map[string]string{"text": slackMark(m.Severity) + " " + slackText.Replace(m.Summary)}
	case "pagerduty":
		event := pagerDuty(r.Key, m)
		if event == nil {
			return nil
		}
		v = event
	}
	body, err := json.Marshal(v)
	if err != nil {
		return nil // strings and times always encode
	}
	return body
}

// slackText keeps foreign text from becoming a link or a mention
// (Slack's "Escaping text").
var slackText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func slackMark(severity string) string {
	switch severity {
	case "critical", "error":
		return ":red_circle:"
	case "warning":
		return ":large_yellow_circle:"
	}
	return ":large_green_circle:"
}

// pagerDuty is an event of its API v2: one alert for each run, opened by a
// failure and closed when the run has ended well.
func pagerDuty(key secret.Secret, m Message) map[string]any {
	event := map[string]any{"routing_key": key.Reveal(), "event_action": "trigger", "dedup_key": m.thread()}
	switch {
	case m.over():
		event["event_action"] = "resolve"
		return event
	case m.Kind == Start || m.Kind == Finish:
		return nil
	}
	event["payload"] = map[string]any{
		"summary": m.Summary, "source": m.Mesh, "severity": m.Severity, "timestamp": m.At.UTC().Format(time.RFC3339Nano),
		"component": m.Runbook, "class": string(m.Kind), "custom_details": m,
	}
	return event
}
