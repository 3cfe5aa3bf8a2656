package witnessclient

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// An event that the witness stores after its sender has given up, or died, and
// after it was asked once, is there once.
func TestLateArrival(t *testing.T) {
	for _, test := range []struct {
		name  string
		again func(t *testing.T, j *Journal) *Journal // the journal of the second delivery
	}{
		{"same process", func(_ *testing.T, j *Journal) *Journal { return j }},
		{"another process", func(t *testing.T, j *Journal) *Journal { return reopen(t, j) }},
		{"another process, with a clock that is an hour behind", func(t *testing.T, j *Journal) *Journal {
			again := reopen(t, j)
			again.contents.Records[0].Sent = time.Now().Add(time.Hour)
			return again
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := startWitness(t, "127.0.0.1:0")
			w.logs = []int{hangLate}
			c, j := w.client(t), testJournal(t, "a", "b", "c")
			c.patience = 10 * time.Second
			ctx, cancel := context.WithCancel(t.Context())
			w.onHang = cancel
			if d, err := Deliver(ctx, c, j); err != nil || d.Left != 3 {
				t.Fatalf("%+v, %v", d, err)
			}
			if d := deliver(t, c, test.again(t, j)); d.AlreadyThere != 1 || d.Sent != 2 || d.Left != 0 {
				t.Errorf("%+v", d)
			}
			if diff := cmp.Diff([]string{"a/2", "b/3", "c/4"}, w.holds()); diff != "" || w.posts() != 3 {
				t.Errorf("%d posts, held (-want +got):\n%s", w.posts(), diff)
			}
		})
	}
}

// What the witness itself has refused, what could not be sent, and what was sent
// so long ago that it cannot be on its way, waits for nothing; the next process
// knows that too.
func TestNoPatienceWithoutNeed(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	c, j := w.client(t), testJournal(t, "a")
	c.patience = time.Hour
	nowhere := testClient(t, "http://"+deadAddress(t), time.Minute)
	for _, attempt := range []func(*testing.T){
		func(*testing.T) {},
		func(t *testing.T) { deliver(t, nowhere, j) },
		func(t *testing.T) {
			w.edit(func() { w.logs = []int{500, 503, 401} })
			for range 3 {
				deliver(t, c, j)
			}
		},
		func(t *testing.T) {
			w.edit(func() { w.logs = []int{drop} })
			deliver(t, c, j)
			j.contents.Records[0].Sent = time.Now().Add(-time.Hour)
		},
	} {
		attempt(t)
		if len(j.Unacked()) != 1 {
			t.Fatalf("delivered after %d posts", w.posts())
		}
	}
	if d := deliver(t, c, j); d.Sent != 1 {
		t.Errorf("%+v", d)
	}
}

func TestTheNextProcessKnowsWhatFailed(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	w.logs = []int{500}
	c, j := w.client(t), testJournal(t, "a")
	c.patience = time.Hour
	deliver(t, c, j)
	again := reopen(t, j)
	if d := deliver(t, c, again); d.Sent != 1 {
		t.Errorf("%+v", d)
	}
	if diff := cmp.Diff([]string{"/api/log", "/api/query", "/api/log"}, w.requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// A delivery that is stopped leaves nothing in doubt when the witness answers
// within a moment, and begins nothing new.
func TestTheLastEventIsNotCutShort(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	w.logs = []int{pause}
	c, j := w.client(t), testJournal(t, "a", "b")
	c.grace = time.Minute
	stopped, stop := context.WithCancel(t.Context())
	w.onHang = stop
	if d, err := Deliver(stopped, c, j); err != nil || d.Sent != 1 || d.Left != 1 || d.LastError == nil {
		t.Errorf("%+v, %v", d, err)
	}
	c.patience = time.Hour
	if d := deliver(t, c, reopen(t, j)); d.Sent != 1 || d.Left != 0 {
		t.Errorf("the next process: %+v", d)
	}
	if diff := cmp.Diff([]string{"a/2", "b/3"}, w.holds()); diff != "" || w.posts() != 2 {
		t.Errorf("%d posts, held (-want +got):\n%s", w.posts(), diff)
	}
}

func TestQuestionsEndWithTheContext(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	w.logs = []int{drop}
	c, j := w.client(t), testJournal(t, "a")
	c.patience = time.Hour
	deliver(t, c, j)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if d, err := Deliver(ctx, c, j); err != nil || d.Left != 1 || d.LastError == nil || w.posts() != 1 {
		t.Errorf("%+v, %v, %d posts", d, err, w.posts())
	}
}
