package witnessclient

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/secret"
)

const testKey = "canary-key-55aa"

// Ways to treat one request.
const (
	accept    = 0    // store it, answer 201
	loseReply = -1   // store it, close the connection without an answer
	drop      = -2   // close the connection without an answer
	hang      = -3   // do not store it and do not answer
	hangStore = -4   // store it and do not answer
	halfReply = -5   // store it, answer 200 and break off
	hangLate  = -6   // do not answer, and store it after the second query that follows
	pause     = -7   // store it, call onHang and answer 201
	htmlPage  = -200 // 200, and not what was asked for
)

// witness is a scripted IF.witness that counts raw requests.
type witness struct {
	*httptest.Server
	mu      sync.Mutex
	dedup   bool
	logs    []int  // how the next POSTs of an event are treated; then accept. Numbers > 0 are a status
	queries []int  // the same for queries
	onHang  func() // called when a request hangs
	keys    []string
	stored  []map[string]any
	late    []map[string]any // events that are stored after
	wait    int              // so many queries
	order   []string         // all requests
	bad     []string
}

func startWitness(t testing.TB, address string) *witness {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{onHang: func() {}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/log", w.log)
	mux.HandleFunc("POST /api/query", w.query)
	w.Server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: mux}}
	w.Start()
	t.Cleanup(func() {
		w.Close()
		for _, fault := range w.bad {
			t.Error(fault)
		}
	})
	return w
}

// client gives one that waits longer for an answer than any loaded machine needs.
func (w *witness) client(t testing.TB) *Client { return testClient(t, w.URL, time.Minute) }

func testClient(t testing.TB, url string, timeout time.Duration) *Client {
	t.Helper()
	c, err := New(Options{URL: url, APIKey: secret.New(testKey), Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.patience, c.grace = 0, 0 // see late_test.go
	return c
}

// take reads a request and gives its body and what to do with it.
func (w *witness) take(r *http.Request, script *[]int) (body map[string]any, do int) {
	raw, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(raw, &body) != nil {
		w.bad = append(w.bad, "unusable request "+string(raw))
	}
	if r.Header.Get("Authorization") != "Bearer "+testKey {
		w.bad = append(w.bad, "request without the key")
	}
	w.order = append(w.order, r.URL.Path)
	if len(*script) > 0 {
		do, *script = (*script)[0], (*script)[1:]
	}
	return body, do
}

func (w *witness) log(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	event, do := w.take(r, &w.logs)
	key := r.Header.Get("Idempotency-Key")
	w.keys = append(w.keys, key)
	known := slices.Contains(w.keys[:len(w.keys)-1], key)
	switch do {
	case accept, loseReply, hangStore, halfReply, pause:
		if w.dedup && known {
			do = http.StatusConflict
			break
		}
		w.stored = append(w.stored, event)
	case hangLate:
		w.late, w.wait = append(w.late, event), 2
	}
	w.mu.Unlock()
	w.answer(rw, r, do, http.StatusCreated, []byte("{}"))
}

func (w *witness) query(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	request, do := w.take(r, &w.queries)
	found := []any{}
	match, _ := request["query"].(map[string]any)
	for _, e := range w.stored {
		metadata, _ := e["metadata"].(map[string]any)
		seq, bySeq := match["metadata.seq"]
		if metadata["run"] == match["metadata.run"] && (!bySeq || metadata["seq"] == seq) {
			found = append(found, e)
		}
	}
	body, err := json.Marshal(map[string]any{"results": found})
	if err != nil {
		w.bad = append(w.bad, err.Error())
	}
	if w.wait--; w.wait == 0 {
		w.stored, w.late = append(w.stored, w.late...), nil
	}
	w.mu.Unlock()
	w.answer(rw, r, do, http.StatusOK, body)
}

func (w *witness) answer(rw http.ResponseWriter, r *http.Request, do, ok int, body []byte) {
	switch do {
	case accept, pause:
		if do == pause {
			w.onHang()
		}
		rw.WriteHeader(ok)
		_, _ = rw.Write(body)
	case loseReply, drop:
		panic(http.ErrAbortHandler)
	case hang, hangStore, hangLate:
		w.onHang()
		<-r.Context().Done() // the client gave up
	case halfReply:
		rw.Header().Set("Content-Length", "1000")
		_, _ = rw.Write([]byte(`{"resul`))
		panic(http.ErrAbortHandler)
	case htmlPage:
		_, _ = rw.Write([]byte("<html>captive portal</html>"))
	default:
		rw.WriteHeader(do)
	}
}

// edit changes or reads what the witness has, between requests.
func (w *witness) edit(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

// requests gives the paths of all raw requests.
func (w *witness) requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.order)
}

func (w *witness) sentKeys() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.keys)
}

// posts gives the number of raw POSTs of an event.
func (w *witness) posts() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.keys)
}

// holds gives the stored events in order, such as "run_started/2".
func (w *witness) holds() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := []string{}
	for _, e := range w.stored {
		metadata := e["metadata"].(map[string]any)
		seq, _ := json.Marshal(metadata["seq"])
		list = append(list, e["event"].(string)+"/"+string(seq))
	}
	return list
}

// deadAddress is a loopback address where nothing listens.
func deadAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
