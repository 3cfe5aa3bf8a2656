package witnessclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/httpapi"
)

func deliver(t testing.TB, c *Client, j *Journal) Delivery {
	t.Helper()
	d, err := Deliver(t.Context(), c, j)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDeliver(t *testing.T) {
	type want struct{ sent, already, left int }
	const log, query = "/api/log", "/api/query"
	for _, test := range []struct {
		name           string
		logs, queries  []int
		dedup          bool
		rounds         []want   // of one Deliver after the other
		order          []string // of raw requests
		posts, holding int
	}{
		{"healthy", nil, nil, false, []want{{3, 0, 0}, {0, 0, 0}}, []string{log, log, log}, 3, 3},
		{"lost reply, no de-duplication", []int{accept, loseReply}, nil, false,
			[]want{{1, 0, 2}, {1, 1, 0}}, []string{log, log, query, log}, 3, 3},
		{"lost reply, de-duplication", []int{loseReply}, nil, true,
			[]want{{0, 0, 3}, {2, 1, 0}}, []string{log, query, log, log}, 3, 3},
		{"reply breaks off", []int{halfReply}, nil, false,
			[]want{{0, 0, 3}, {2, 1, 0}}, []string{log, query, log, log}, 3, 3},
		{"slow, but accepted", []int{hangStore}, nil, false,
			[]want{{0, 0, 3}, {2, 1, 0}}, []string{log, query, log, log}, 3, 3},
		{"slow, and lost", []int{hang}, nil, false,
			[]want{{0, 0, 3}, {3, 0, 0}}, []string{log, query, log, log, log}, 4, 3},
		{"connection dropped", []int{drop}, nil, false,
			[]want{{0, 0, 3}, {3, 0, 0}}, []string{log, query, log, log, log}, 4, 3},
		{"409", []int{409}, nil, false, []want{{2, 1, 0}}, []string{log, log, log}, 3, 2},
		{"500, then ok", []int{500}, nil, false,
			[]want{{0, 0, 3}, {3, 0, 0}}, []string{log, query, log, log, log}, 4, 3},
		{"key refused throughout", []int{401}, []int{401, 401}, false,
			[]want{{0, 0, 3}, {0, 0, 3}, {0, 0, 3}}, []string{log, query, query}, 1, 0},
		{"one bad record", []int{accept, 422}, nil, false, []want{{2, 0, 1}, {0, 0, 1}}, []string{log, log, log}, 3, 2},
		{"all bad", []int{400, 413, 422}, nil, false, []want{{0, 0, 3}, {0, 0, 3}}, []string{log, log, log}, 3, 0},
		{"lost reply, then the query fails in every way", []int{loseReply}, []int{500, drop, htmlPage, halfReply, hang}, false,
			[]want{{0, 0, 3}, {0, 0, 3}, {0, 0, 3}, {0, 0, 3}, {0, 0, 3}, {0, 0, 3}, {2, 1, 0}},
			[]string{log, query, query, query, query, query, query, log, log}, 3, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := startWitness(t, "127.0.0.1:0")
			w.logs, w.queries, w.dedup = test.logs, test.queries, test.dedup
			j := testJournal(t, RunStarted, "run_step_intent", "run_step_done")
			c := w.client(t)
			for i, round := range test.rounds {
				ctx, cancel := context.WithCancel(t.Context())
				w.edit(func() { w.onHang = cancel }) // the end of patience, on any machine
				d, err := Deliver(ctx, c, j)
				cancel()
				if err != nil {
					t.Fatal(err)
				}
				got := want{d.Sent, d.AlreadyThere, d.Left}
				if got != round || (d.LastError == nil) != (d.Left == 0) || len(j.Unacked()) != d.Left {
					t.Errorf("round %d: %+v, want %+v", i+1, d, round)
				}
			}
			if diff := cmp.Diff(test.order, w.requests()); diff != "" {
				t.Errorf("raw requests (-want +got):\n%s", diff)
			}
			if w.posts() != test.posts || len(w.holds()) != test.holding {
				t.Errorf("%d posts, holding %v; want %d, %d", w.posts(), w.holds(), test.posts, test.holding)
			}
		})
	}
}

func TestDeliveredEventCarriesKeyAndHash(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	j := testJournal(t)
	r := mustAppend(t, j, Event{Name: "x", Metrics: map[string]any{"ns": int64(1772366400123456789)}})
	deliver(t, w.client(t), j)
	want := strings.Replace(string(r.Line), `"host":`, `"hash":"`+r.Hash+`","host":`, 1)
	if body, err := posted(r); err != nil || !strings.Contains(string(body), "1772366400123456789") || len(body) != len(want) {
		t.Errorf("posted %s, %v\nwant %s", body, err, want)
	}
	var metadata map[string]any
	w.edit(func() { metadata = w.stored[0]["metadata"].(map[string]any) })
	if metadata["hash"] != r.Hash || metadata["run"] != "01RUN" || metadata["prev"] != r.Prev || metadata["operator"] != "alice@bastion" {
		t.Errorf("metadata = %v", metadata)
	}
	if diff := cmp.Diff([]string{"01RUN/2"}, w.sentKeys()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestNotesAndAcksAreNotDelivered(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	j := testJournal(t, RunStarted)
	if _, err := j.AppendNote("undo", 1); err != nil {
		t.Fatal(err)
	}
	c := w.client(t)
	deliver(t, c, j)
	mustAppend(t, j, Event{Name: RunFinished})
	deliver(t, c, j)
	if diff := cmp.Diff([]string{"run_started/2", "run_finished/6"}, w.holds()); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
}

func TestWitnessDownForTheWholeRun(t *testing.T) {
	address := deadAddress(t)
	c := testClient(t, "http://"+address, time.Minute)
	j := testJournal(t)
	for i := range 5 {
		mustAppend(t, j, Event{Name: fmt.Sprintf("e%d", i)})
		var unreachable *httpapi.UnreachableError
		if d := deliver(t, c, j); d.Left != i+1 || !errors.As(d.LastError, &unreachable) {
			t.Errorf("while down: %+v", d)
		}
	}
	for name, continued := range map[string]bool{"same process": false, "another process": true} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir() + "/j.jsonl"
			here := j
			if continued {
				writeFile(t, path, readFile(t, j.Path()))
				var err error
				if here, err = OpenJournal(path); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = here.Close() }()
			} else {
				defer func(before []byte) { writeFile(t, j.Path(), before) }(readFile(t, j.Path()))
			}
			w := startWitness(t, address)
			defer w.Close()
			if d := deliver(t, c, here); d.Sent != 5 || d.Left != 0 || d.LastError != nil {
				t.Errorf("up again: %+v", d)
			}
			if diff := cmp.Diff([]string{"e0/2", "e1/5", "e2/6", "e3/7", "e4/8"}, w.holds()); diff != "" || w.posts() != 5 {
				t.Errorf("%d posts, held (-want +got):\n%s", w.posts(), diff)
			}
		})
	}
}

// The process before sent two events and died before it recorded the
// acknowledgements.
func TestDeliverAfterACrash(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	c := w.client(t)
	j := testJournal(t, "a", "b", "c")
	before := readFile(t, j.Path())
	w.logs = []int{accept, accept, drop}
	if d := deliver(t, c, j); d.Sent != 2 {
		t.Fatalf("%+v", d)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	writeFile(t, j.Path(), before)
	again, err := OpenJournal(j.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	mustAppend(t, again, Event{Name: "d"})
	if d := deliver(t, c, again); d.AlreadyThere != 2 || d.Sent != 2 || d.Left != 0 {
		t.Errorf("%+v", d)
	}
	if diff := cmp.Diff([]string{"a/2", "b/3", "c/4", "d/5"}, w.holds()); diff != "" || w.posts() != 5 {
		t.Errorf("%d posts, held (-want +got):\n%s", w.posts(), diff)
	}
	if diff := cmp.Diff([]string{"/api/query", "/api/query", "/api/query", "/api/log", "/api/log"}, w.requests()[3:]); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestUnclearAnswerIsNotASend(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	w.logs = []int{loseReply}
	c, j := w.client(t), testJournal(t, "a")
	deliver(t, c, j)
	w.edit(func() { w.stored[0]["metadata"].(map[string]any)["hash"] = "00" })
	d := deliver(t, c, j)
	if d.LastError == nil || !strings.Contains(d.LastError.Error(), "holds another event as 01RUN/2") || w.posts() != 1 {
		t.Errorf("another event under the same number: %+v, %d posts", d, w.posts())
	}
	c, _, _ = reply(t, 200, `{"results":[{"event":"a","metadata":{"run":"other","seq":2}}]}`)
	j = reopen(t, testJournal(t, "a"))
	if d := deliver(t, c, j); d.LastError == nil || !strings.Contains(d.LastError.Error(), "1 other events") {
		t.Errorf("a witness that ignores the question: %+v", d)
	}
}

func TestDeliveriesTakeTurns(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	c, j := w.client(t), testJournal(t)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for range 10 {
				mustAppend(t, j, Event{Name: fmt.Sprintf("e%d", i)})
				deliver(t, c, j)
			}
		})
	}
	all.Wait()
	if w.posts() != 40 || len(w.holds()) != 40 || len(j.Unacked()) != 0 {
		t.Errorf("%d posts, %d held, %d left", w.posts(), len(w.holds()), len(j.Unacked()))
	}
	j.delivering <- struct{}{} // another delivery is under way
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := Deliver(ctx, c, j); err != nil || !errors.Is(d.LastError, context.Canceled) {
		t.Errorf("cancelled while waiting: %+v, %v", d, err)
	}
}

func TestDeliverStopsWhenTheJournalIsBroken(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	c, j := w.client(t), testJournal(t, "a", "b")
	good := j.file
	defer func() { _ = good.Close() }()
	j.file = &disk{err: errors.New("input/output error")}
	for range 2 {
		var broken *BrokenError
		if d, err := Deliver(t.Context(), c, j); !errors.As(err, &broken) || d.Left != 2 {
			t.Errorf("%+v, %v, want *BrokenError", d, err)
		}
	}
	if w.posts() != 0 {
		t.Errorf("%d posts that no record tells of", w.posts())
	}
}

// What was set aside is tried again by the next process, after a question.
func TestSetAsideIsReportedAndTriedAgainLater(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	w.logs = []int{accept, 400}
	c, j := w.client(t), testJournal(t, RunStarted, "bad", "good")
	d, err := Deliver(t.Context(), c, j)
	if err != nil || d.Aside != 1 || d.Left != 1 || d.LastError == nil || !strings.Contains(d.LastError.Error(), "bad (line 3) is refused and set aside") {
		t.Fatalf("%+v, %v", d, err)
	}
	again := reopen(t, j)
	if d, err := Deliver(t.Context(), c, again); err != nil || d.Left != 0 || d.Sent != 1 {
		t.Errorf("%+v, %v", d, err)
	}
	if diff := cmp.Diff([]string{"run_started/2", "good/4", "bad/3"}, w.holds()); diff != "" {
		t.Error(diff)
	}
}
