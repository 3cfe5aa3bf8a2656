package witnessclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOutboxDeliversWhileTheRunGoesOn(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	j := testJournal(t, RunStarted)
	o := NewOutbox(w.client(t), j)
	poll(t, "run_started is delivered", func() bool { return len(w.holds()) == 1 })
	mustAppend(t, j, Event{Name: "run_step_intent"})
	poll(t, "the intent is delivered without a call", func() bool { return o.State().Sent == 2 })
	mustAppend(t, j, Event{Name: RunFinished})
	if d := o.Final(t.Context()); d.Sent != 3 || d.Left != 0 || d.LastError != nil {
		t.Errorf("Final: %+v", d)
	}
	if d := o.Final(t.Context()); d.Sent != 3 || w.posts() != 3 {
		t.Errorf("Final again: %+v, %d posts", d, w.posts())
	}
}

func TestOutboxDoesNotHoldTheRunUp(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	w.logs = []int{hang}
	j := testJournal(t)
	o := NewOutbox(testClient(t, w.URL, time.Hour), j)
	for i := range 20 { // all of it while the first request hangs
		mustAppend(t, j, Event{Name: fmt.Sprintf("e%d", i)})
	}
	poll(t, "the first request", func() bool { return w.posts() == 1 })
	if d := o.State(); d.Left != 20 || d.Sent != 0 {
		t.Errorf("State: %+v", d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d := o.Final(ctx); d.Left != 20 || !errors.Is(d.LastError, context.Canceled) || w.posts() != 1 {
		t.Errorf("Final without time: %+v, %d posts", d, w.posts())
	}
}

func TestOutboxComesBackByItself(t *testing.T) {
	for _, lost := range [][]int{{loseReply, loseReply, loseReply}, {500, drop, 503}, {halfReply, drop, halfReply}} {
		w := startWitness(t, "127.0.0.1:0")
		w.logs, w.queries = lost, []int{500, accept}
		j := testJournal(t, "a", "b", "c", "d")
		o := newOutbox(w.client(t), j, time.Millisecond)
		poll(t, "all events are delivered", func() bool { return len(j.Unacked()) == 0 })
		if d := o.Final(t.Context()); d.Sent+d.AlreadyThere != 4 || d.LastError != nil {
			t.Errorf("%v: %+v", lost, d)
		}
		if diff := cmp.Diff([]string{"a/2", "b/3", "c/4", "d/5"}, w.holds()); diff != "" {
			t.Errorf("%v: held (-want +got):\n%s", lost, diff)
		}
	}
}

func TestOutboxWaitsAfterAFailure(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	w.logs = []int{500}
	j := testJournal(t, "a")
	o := newOutbox(w.client(t), j, time.Hour)
	poll(t, "the first failure", func() bool { return o.State().LastError != nil })
	for range 10 { // an append does not cut the wait short
		mustAppend(t, j, Event{Name: "b"})
	}
	if d := o.State(); w.posts() != 1 || d.Left != 11 {
		t.Errorf("%d posts, %+v", w.posts(), d)
	}
	if d := o.Final(t.Context()); d.Sent != 11 || d.LastError != nil {
		t.Errorf("Final: %+v", d)
	}
	if posts := w.sentKeys(); len(slices.Compact(slices.Clone(posts))) != 11 || len(posts) != 12 {
		t.Errorf("posted %v", posts)
	}
}

func TestFinalIsBounded(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	w.logs, w.queries = []int{503, 503, 503, 503, 503}, []int{accept, accept, accept, accept, accept}
	j := testJournal(t)
	o := newOutbox(w.client(t), j, time.Millisecond)
	o.stop()
	<-o.done
	mustAppend(t, j, Event{Name: "a"})
	if d := o.Final(t.Context()); d.Left != 1 || d.LastError == nil || w.posts() != finalTries {
		t.Errorf("Final: %+v after %d posts, want %d tries", d, w.posts(), finalTries)
	}
}

func TestOutboxEndsWithABrokenJournal(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	j := testJournal(t, "a")
	good := j.file
	defer func() { _ = good.Close() }()
	j.file = &disk{err: errors.New("input/output error")}
	o := newOutbox(w.client(t), j, time.Millisecond)
	<-o.done
	var broken *BrokenError
	if d := o.Final(t.Context()); !errors.As(d.LastError, &broken) || d.Left != 1 || w.posts() != 0 {
		t.Errorf("%+v, %d posts", d, w.posts())
	}
}
