package lab

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	maxRequests = 10_000  // kept
	maxLogged   = 4 << 10 // bytes of a body that are kept
)

// Request is one call that the controller got, as its log has it.
type Request struct {
	At     time.Time `json:"at"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Status int       `json:"status"`
	Key    string    `json:"idempotency_key,omitempty"`
	Body   string    `json:"body,omitempty"` // the first 4 KiB
}

// Write tells a call that may change something.
func (r Request) Write() bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }

// requestLog remembers the latest calls.
type requestLog struct {
	mu       sync.Mutex
	requests []Request
}

// record logs every call when it has been answered.
func (l *requestLog) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entry := Request{At: time.Now(), Method: r.Method, Path: r.URL.Path, Key: r.Header.Get("Idempotency-Key")}
		body, err := readBody(r)
		entry.Body = string(body[:min(len(body), maxLogged)])
		out := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		if err != nil {
			writeError(out, http.StatusRequestEntityTooLarge, err)
		} else {
			r.Body = io.NopCloser(bytes.NewReader(body))
			next.ServeHTTP(out, r)
		}
		entry.Status = out.status
		l.add(entry)
	})
}

func (l *requestLog) add(entry Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.requests) == maxRequests {
		l.requests = slices.Delete(l.requests, 0, maxRequests/10)
	}
	l.requests = append(l.requests, entry)
}

func (l *requestLog) all() []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.requests)
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
