package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/witnessclient"
)

const (
	maxEvents = 200_000          // kept in memory; the file has all
	slowness  = 10 * time.Second // of witness-slow, as long as the client waits
)

// witness is the audit log of the lab.
type witness struct {
	key      secret.Secret
	noDedup  bool
	slowness time.Duration
	faults   switches
	file     *os.File

	mu       sync.Mutex
	events   []logged
	requests int
	accepted int
	byKey    map[string]int
}

// logged is one event as it came, and as queries see it. It never changes.
type logged struct {
	raw    json.RawMessage
	fields map[string]any
	at     time.Time
	key    string // Idempotency-Key; "" = none
}

// WitnessCount is what reached the witness over HTTP; the events of the lab's
// own agents are not in it.
type WitnessCount struct {
	Requests int            `json:"requests"` // POST /api/log with the right key, whatever came of it
	Accepted int            `json:"accepted"` // of these: stored
	ByKey    map[string]int `json:"by_key"`   // stored, by Idempotency-Key
}

// newWitness stores events in memory and appends them to the file.
func newWitness(file string, key secret.Secret, noDedup bool) (*witness, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &witness{key: key, noDedup: noDedup, slowness: slowness, file: f, byKey: map[string]int{}}, nil
}

func (w *witness) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(rw http.ResponseWriter, _ *http.Request) { writeOK(rw) })
	mux.HandleFunc("POST /api/log", authorized(w.key, w.log))
	mux.HandleFunc("POST /api/query", authorized(w.key, w.query))
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.faults.is("witness-401") {
			writeError(rw, http.StatusUnauthorized, errors.New("unauthorized"))
			return
		}
		if w.faults.is("witness-slow") && !waited(r, w.slowness) {
			panic(http.ErrAbortHandler)
		}
		mux.ServeHTTP(rw, r)
	})
}

// waited is false when the client gave up first, which a server notices only
// when it has read the body.
func waited(r *http.Request, d time.Duration) bool {
	body, err := readBody(r)
	if err != nil {
		return false
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

func (w *witness) log(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.requests++
	w.mu.Unlock()
	body, err := readBody(r)
	if err != nil {
		writeError(rw, http.StatusRequestEntityTooLarge, err)
		return
	}
	e, err := parseEvent(body)
	if err != nil {
		writeError(rw, http.StatusBadRequest, err)
		return
	}
	e.key = r.Header.Get("Idempotency-Key")
	repeated, err := w.store(e, true)
	switch {
	case err != nil:
		writeError(rw, http.StatusInternalServerError, err)
	case repeated:
		writeError(rw, http.StatusConflict, errors.New("an event with this Idempotency-Key is stored already"))
	case w.faults.take("witness-loses-reply"):
		panic(http.ErrAbortHandler)
	default:
		writeOK(rw)
	}
}

func parseEvent(body []byte) (logged, error) {
	e := logged{}
	if err := decode(body, &e.fields); err != nil {
		return e, err
	}
	if name, _ := e.fields["event"].(string); name == "" {
		return e, errors.New("event: missing or not a string")
	}
	stamp, _ := e.fields["timestamp"].(string)
	at, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		return e, errors.New("timestamp: missing or not an RFC 3339 time")
	}
	var line bytes.Buffer
	err = json.Compact(&line, body)
	e.at, e.raw = at, line.Bytes()
	return e, err
}

// store keeps an event unless its key was seen before.
func (w *witness) store(e logged, counted bool) (repeated bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.key != "" && w.byKey[e.key] > 0 && !w.noDedup {
		return true, nil
	}
	if _, err := w.file.Write(append(slices.Clip(e.raw), '\n')); err != nil {
		return false, fmt.Errorf("store event: %w", err)
	}
	if len(w.events) >= maxEvents {
		w.forget(maxEvents / 10)
	}
	w.events = append(w.events, e)
	if counted {
		w.accepted++
	}
	if e.key != "" {
		w.byKey[e.key]++
	}
	return false, nil
}

// forget drops the oldest events, with their keys.
func (w *witness) forget(n int) {
	for _, e := range w.events[:n] {
		delete(w.byKey, e.key)
	}
	w.events = slices.Clone(w.events[n:])
}

// add stores an event of the lab's own agents. It is lost where a request of
// theirs would be.
func (w *witness) add(e witnessclient.Event) {
	if w.faults.is("witness-down") || w.faults.is("witness-401") {
		return
	}
	body, err := json.Marshal(e)
	if err != nil {
		return
	}
	if stored, err := parseEvent(body); err == nil {
		_, _ = w.store(stored, false) // an agent cannot do anything about it
	}
}

func (w *witness) query(rw http.ResponseWriter, r *http.Request) {
	body, err := readBody(r)
	if err != nil {
		writeError(rw, http.StatusRequestEntityTooLarge, err)
		return
	}
	q, err := parseQuery(body, time.Now())
	if err != nil {
		writeError(rw, http.StatusBadRequest, err)
		return
	}
	writeJSON(rw, http.StatusOK, map[string]any{"results": w.find(q)})
}

// find gives the selected events, oldest first.
func (w *witness) find(q query) []json.RawMessage {
	w.mu.Lock()
	events := w.events // only ever appended to: what is here now stays
	w.mu.Unlock()
	var found []logged
	for _, e := range events {
		if q.matches(e.fields, e.at) {
			found = append(found, e)
		}
	}
	slices.SortStableFunc(found, func(a, b logged) int { return a.at.Compare(b.at) })
	results := make([]json.RawMessage, 0, len(found))
	for _, e := range found {
		results = append(results, e.raw)
	}
	return results
}

func (w *witness) count() WitnessCount {
	w.mu.Lock()
	defer w.mu.Unlock()
	return WitnessCount{Requests: w.requests, Accepted: w.accepted, ByKey: maps.Clone(w.byKey)}
}
