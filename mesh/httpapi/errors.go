package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// UnreachableError says that no complete reply came: the name was not found,
// the connection was refused or broke, the certificate was not accepted, or
// the time was up. It unwraps to Err, so that errors.Is tells an interrupt
// (context.Canceled) from the rest.
type UnreachableError struct {
	Op, URL string
	After   time.Duration // from the start of the call to giving up
	Err     error
	Sent    bool // the request may have reached the server; false only when no attempt got a connection
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s %s: %s", e.Op, e.URL, e.reason())
}

// Unwrap gives the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

func (e *UnreachableError) reason() string {
	after := fmt.Sprintf("%.1fs", e.After.Seconds())
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(e.Err, context.Canceled):
		return "stopped after " + after
	case errors.Is(e.Err, context.DeadlineExceeded), errors.As(e.Err, &timeout) && timeout.Timeout():
		if !e.Sent {
			return "no answer to the connection attempt after " + after
		}
		return "no answer after " + after
	case errors.Is(e.Err, io.EOF), errors.Is(e.Err, io.ErrUnexpectedEOF):
		return "connection closed before an answer"
	}
	return clean(innermost(e.Err), maxDetail)
}

// innermost drops what net/http wraps around a cause: the method and URL,
// which the message has already, and addresses and ports of our side.
func innermost(err error) string {
	var syscallErr *os.SyscallError
	var certificate *tls.CertificateVerificationError
	var name *net.DNSError
	var request *url.Error
	switch {
	case errors.As(err, &syscallErr):
		return syscallErr.Err.Error()
	case errors.As(err, &certificate):
		return "certificate not accepted: " + certificate.Err.Error()
	case errors.As(err, &name):
		return "name lookup: " + name.Err
	case errors.As(err, &request):
		return request.Err.Error()
	}
	return err.Error()
}

// StatusError is a complete reply whose status is not 2xx. Redirects are not
// followed and end here too.
type StatusError struct {
	Op, URL string
	Code    int
	Detail  string // what the server said, shortened, without control characters and secrets; may be empty
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s %s: HTTP %d", e.Op, e.URL, e.Code)
	if name := http.StatusText(e.Code); name != "" {
		text += " " + name
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// NotOfferedError says that this service does not have the call (404), which
// is no fault: optional parts of the mesh may be missing.
type NotOfferedError struct {
	Op, URL string
	Service string // such as "controller"
	Call    string // such as "GET /config"
}

func (e *NotOfferedError) Error() string {
	return fmt.Sprintf("%s %s: the %s does not offer %s", e.Op, e.URL, e.Service, e.Call)
}

// ReplyError is a 2xx reply that cannot be used: too large, cut short, not
// JSON, or without a field or type that was expected. Its meaning is
// "unknown", never zero.
type ReplyError struct {
	Op, URL  string
	Reason   string
	TooLarge bool // well-formed as far as it was read, and beyond a limit
}

func (e *ReplyError) Error() string {
	return fmt.Sprintf("%s %s: unusable reply: %s", e.Op, e.URL, e.Reason)
}
