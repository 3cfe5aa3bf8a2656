package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
	"unsafe"

	"github.com/tidwall/gjson"

	"github.com/infrafabric/meshctl/mesh/secret"
)

const maxDetail = 200 // characters of foreign text in an error

// Reply is a complete 2xx reply.
type Reply struct {
	Code    int
	Body    []byte    // must not be written to
	Date    time.Time // the server's clock (Date header); zero when it did not say
	Op, URL string    // of the call, for errors about the reply

	bearer secret.Secret // kept out of errors about the reply
}

// Invalid gives the error for a reply whose content is not what was expected.
func (r *Reply) Invalid(format string, args ...any) *ReplyError {
	reason := redact(fmt.Sprintf(format, args...), r.bearer) // before it is shortened
	return &ReplyError{Op: r.Op, URL: r.URL, Reason: clean(reason, maxDetail)}
}

// TooLarge gives the error for a reply that is beyond a limit.
func (r *Reply) TooLarge(format string, args ...any) *ReplyError {
	e := r.Invalid(format, args...)
	e.TooLarge = true
	return e
}

// Object gives the body as a JSON object whose whole text is well-formed; check
// Exists and Type of every field before use. Anything else is a *ReplyError.
func (r *Reply) Object() (gjson.Result, error) {
	root, err := object(r.Body, r.bearer)
	if err != nil {
		return gjson.Result{}, r.Invalid("%s", err)
	}
	return root, nil
}

// Object parses a body as Reply.Object does, for parsers that are tested
// without a server.
func Object(body []byte) (gjson.Result, error) { return object(body, secret.Secret{}) }

func object(body []byte, bearer secret.Secret) (gjson.Result, error) {
	body = bytes.TrimSpace(body)
	switch {
	case len(body) == 0:
		return gjson.Result{}, errors.New("the body is empty")
	case body[0] == '<':
		return gjson.Result{}, errors.New("a page of HTML or XML instead of JSON")
	// Not gjson.Valid, which recurses until the stack of the process is full;
	// encoding/json bounds the nesting.
	case !json.Valid(body):
		return gjson.Result{}, fmt.Errorf("not JSON, or cut short: %q", clean(redact(string(body), bearer), 60))
	}
	// Not gjson.ParseBytes, which copies. Nobody writes to the body of a reply.
	root := gjson.Parse(unsafe.String(unsafe.SliceData(body), len(body))) //nolint:gosec // its length is right
	if !root.IsObject() {
		return gjson.Result{}, fmt.Errorf("a JSON %s instead of an object", TypeName(root))
	}
	return root, nil
}

// TypeName names the JSON type of a value as an error message would.
func TypeName(v gjson.Result) string {
	switch {
	case !v.Exists():
		return "nothing"
	case v.IsArray():
		return "array"
	case v.IsObject():
		return "object"
	case v.Type == gjson.True || v.Type == gjson.False:
		return "boolean"
	}
	return strings.ToLower(v.Type.String())
}

// detail finds what a server says about its refusal.
func detail(body []byte) string {
	body = bytes.TrimSpace(body)
	if len(body) > 0 && body[0] == '<' {
		return "" // the status says more than a page of HTML
	}
	if root, err := Object(body); err == nil {
		for _, name := range []string{"error", "message", "detail"} {
			if v := root.Get(name); v.Type == gjson.String {
				return clean(v.Str, maxDetail)
			}
		}
	}
	return clean(string(body), maxDetail)
}

// redact removes a token that a server, or a proxy before it, has echoed.
func redact(text string, bearer secret.Secret) string {
	if bearer.Empty() {
		return text
	}
	return strings.ReplaceAll(text, bearer.Reveal(), "[redacted]")
}

// clean makes foreign text fit for a terminal: one line, no control or
// invisible characters, a limited length.
func clean(s string, limit int) string {
	if len(s) > 16*limit { // mostly padding, or never shown
		s = s[:16*limit]
	}
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > limit {
		return string(runes[:limit]) + "..."
	}
	return s
}
