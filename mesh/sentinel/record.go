package sentinel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"github.com/infrafabric/meshctl/witnessclient"
)

const (
	queueLength  = 4096
	perJournal   = 1000 // events: a journal is kept in memory
	openOlder    = 8    // older journals in memory; the others wait on disk for their turn
	keptJournals = 20   // delivered ones that stay as evidence
	finalTime    = 10 * time.Second
)

// unrecorded are events of which there is one every few seconds and link: the
// metrics hold what they say.
func unrecorded(name string) bool {
	switch name {
	case "connection_quality_update", "ice_candidate_sent", "turn_server_health_check_success":
		return true
	}
	return false
}

// recorder writes events into journals, one after the other, and has them
// delivered.
type recorder struct {
	o       Options
	queue   chan witnessclient.Event
	dropped atomic.Int64
	left    atomic.Int64 // events that the witness does not have
	broken  atomic.Bool

	journal *witnessclient.Journal
	outbox  *witnessclient.Outbox
	full    int          // events of a journal
	older   []*leftover  // being delivered
	shelf   []shelved    // to be delivered after them
	lock    *flock.Flock // of the directory, while this process writes there
}

// RunningError says that a sentinel of this id runs on this machine already.
// Two of one id would take the place at the signaling server from each other
// for ever.
type RunningError struct{ ID string }

func (e *RunningError) Error() string { return e.ID + " runs on this machine already" }

// leftover is a full journal, or one of an earlier process, that is not
// delivered yet.
type leftover struct {
	journal *witnessclient.Journal
	outbox  *witnessclient.Outbox
}

// shelved is a journal that is not open.
type shelved struct {
	path        string
	undelivered int
}

func newRecorder(o Options) (*recorder, error) {
	r := &recorder{o: o, queue: make(chan witnessclient.Event, queueLength), full: perJournal}
	if o.Journals == "" {
		return r, nil
	}
	if err := os.MkdirAll(o.Journals, 0o700); err != nil {
		return nil, err
	}
	r.lock = flock.New(filepath.Join(o.Journals, "lock"), flock.SetPermissions(0o600))
	switch ok, err := r.lock.TryLock(); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, &RunningError{o.Agent.ID}
	}
	err := r.resume()
	if err == nil {
		err = r.open()
	}
	if err != nil {
		_ = r.lock.Unlock()
	}
	return r, err
}

// resume goes on with what an earlier process could not deliver. A journal
// that is damaged or in use is left alone.
func (r *recorder) resume() error {
	list, err := witnessclient.List(r.o.Journals)
	if err != nil {
		return err
	}
	for _, j := range list {
		switch {
		case j.Err != nil:
			r.o.Log.Error("a journal is damaged", "path", j.Path, "error", j.Err)
		case j.Unacked > 0 && r.o.Witness != nil:
			r.shelf = append(r.shelf, shelved{j.Path, j.Unacked})
		}
	}
	r.unshelve()
	return nil
}

// unshelve opens as many journals as there is room for, the oldest first.
func (r *recorder) unshelve() {
	for len(r.older) < openOlder && len(r.shelf) > 0 {
		path := r.shelf[0].path
		r.shelf = r.shelf[1:]
		journal, err := witnessclient.OpenJournal(path)
		if err != nil {
			r.o.Log.Error("a journal cannot be opened", "path", path, "error", err)
			continue
		}
		r.older = append(r.older, &leftover{journal, witnessclient.NewOutbox(r.o.Witness, journal)})
	}
}

func (r *recorder) open() error {
	stamp := r.o.Stamp
	stamp.Run = r.o.NewRun()
	path := filepath.Join(r.o.Journals, stamp.Run+".jsonl")
	journal, err := witnessclient.CreateJournal(path, stamp)
	if err != nil {
		return err
	}
	r.journal = journal
	if r.o.Witness != nil {
		r.outbox = witnessclient.NewOutbox(r.o.Witness, journal)
	}
	_, err = journal.Append(witnessclient.Event{
		Name: witnessclient.RunStarted, AgentID: r.o.Agent.ID, Metadata: map[string]any{"runbook": "mesh agent", "pid": os.Getpid()},
	})
	return err
}

// add never waits: an event that finds the queue full is counted as dropped.
func (r *recorder) add(e witnessclient.Event) {
	if r.o.Journals == "" || unrecorded(e.Name) {
		return
	}
	select {
	case r.queue <- e:
	default:
		r.dropped.Add(1)
	}
}

// run writes until ctx ends, and then what is queued.
func (r *recorder) run(ctx context.Context) error {
	if r.journal == nil {
		<-ctx.Done()
		return nil
	}
	defer r.close()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		var err error
		select {
		case e := <-r.queue:
			err = r.write(e)
		case <-ticker.C:
			r.settle()
		case <-ctx.Done():
			return r.drain()
		}
		if err != nil {
			r.broken.Store(true)
			return err
		}
	}
}

func (r *recorder) drain() error {
	for {
		select {
		case e := <-r.queue:
			if err := r.write(e); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func (r *recorder) write(e witnessclient.Event) error {
	if r.journal.Count() >= r.full {
		if err := r.rotate(); err != nil {
			return err
		}
	}
	_, err := r.journal.Append(e)
	return err
}

// rotate ends a journal, which is then delivered beside the next one, or after
// those that the witness has not taken for long.
func (r *recorder) rotate() error {
	if err := r.finish(); err != nil {
		return err
	}
	ended := &leftover{r.journal, r.outbox}
	if len(r.older) < openOlder {
		r.older = append(r.older, ended)
	} else {
		ended.close(0)
		r.shelf = append(r.shelf, shelved{ended.journal.Path(), undelivered(ended.journal)})
	}
	if err := r.open(); err != nil {
		return fmt.Errorf("next journal: %w", err)
	}
	r.settle()
	return nil
}

func (r *recorder) finish() error {
	_, err := r.journal.Append(witnessclient.Event{
		Name: witnessclient.RunFinished, AgentID: r.o.Agent.ID, Metadata: map[string]any{"outcome": "done"},
	})
	return err
}

// settle closes older journals that are delivered, and counts what is not.
func (r *recorder) settle() {
	before, waiting := len(r.older), r.older[:0]
	for _, o := range r.older {
		if o.outbox != nil && undelivered(o.journal) > 0 {
			waiting = append(waiting, o)
			continue
		}
		o.close(finalTime)
	}
	r.older = waiting
	r.unshelve()
	left := undelivered(r.journal)
	for _, o := range r.older {
		left += undelivered(o.journal)
	}
	for _, s := range r.shelf {
		left += s.undelivered
	}
	r.left.Store(int64(left))
	if before > 0 && len(r.older) == 0 {
		r.prune()
	}
}

func undelivered(j *witnessclient.Journal) int { return len(j.Unacked()) }

func (o *leftover) close(within time.Duration) {
	if o.outbox != nil {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		o.outbox.Final(ctx)
		cancel()
	}
	_ = o.journal.Close()
}

// prune removes the oldest delivered journals.
func (r *recorder) prune() {
	list, err := witnessclient.List(r.o.Journals)
	if err != nil || r.o.Witness == nil {
		return
	}
	for _, j := range list[:max(0, len(list)-keptJournals)] {
		if j.Err == nil && j.Unacked == 0 && j.Path != r.journal.Path() {
			_ = os.Remove(j.Path)
		}
	}
}

func (r *recorder) close() {
	defer func() { _ = r.lock.Unlock() }()
	err := r.finish()
	for _, o := range append(r.older, &leftover{r.journal, r.outbox}) {
		o.close(finalTime / time.Duration(len(r.older)+1))
	}
	if err != nil && !errors.Is(err, os.ErrClosed) {
		r.o.Log.Error("the journal could not be ended", "error", err)
	}
}
