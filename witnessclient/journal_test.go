package witnessclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/secret"
)

func TestJournalLines(t *testing.T) {
	j := testJournal(t)
	at := time.Date(2026, 3, 1, 13, 0, 0, 5_600_000, time.FixedZone("", 3600))
	first := mustAppend(t, j, Event{
		Name: RunStarted, Timestamp: at, Scenario: "B", Metrics: map[string]any{"agents": 4},
		Metadata: map[string]any{"why": "a <b> & c", "run": "forged", "seq": 99, "hash": "forged", "operator": "forged"},
	})
	if err := j.Ack(first.Seq); err != nil {
		t.Fatal(err)
	}
	note, err := j.AppendNote("undo", map[string]string{"before": "x"})
	if err != nil {
		t.Fatal(err)
	}
	last := mustAppend(t, j, Event{Name: RunFinished, Metadata: map[string]any{"outcome": "done", "events": 77, "head": "forged"}})

	lines := strings.Split(strings.TrimSuffix(string(readFile(t, j.Path())), "\n"), "\n")
	if len(lines) != 5 {
		t.Fatalf("%d lines, want 5:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	var header map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &header); err != nil {
		t.Fatal(err)
	}
	if header["journal"] != "header" || header["format"] != 1.0 || header["run"] != "01RUN" || header["prev"] != strings.Repeat("0", 64) {
		t.Errorf("header = %s", lines[0])
	}
	want := `{"event":"run_started","timestamp":"2026-03-01T12:00:00.005Z","failover_id":"F-1","incident_id":"INC-7","scenario":"B",` +
		`"metrics":{"agents":4},"metadata":{"events":0,"host":"bastion","meshctl_version":"1.0.0","operator":"alice@bastion","operator_source":"sudo",` +
		`"prev":"` + first.Prev + `","run":"01RUN","seq":2,"why":"a <b> & c"}}`
	if diff := cmp.Diff(want, lines[1]); diff != "" {
		t.Errorf("event line (-want +got):\n%s", diff)
	}
	if string(note.Data) != `{"before":"x"}` || note.IsEvent() || note.Seq != 4 {
		t.Errorf("note = %+v", note)
	}
	got := last.Event.Metadata
	if got["events"] != 1.0 || got["head"] != note.Hash || got["outcome"] != "done" || last.Prev != note.Hash {
		t.Errorf("run_finished metadata = %v, want 1 event and head %s", got, note.Hash)
	}
	if j.Head() != last.Hash || j.Count() != 2 {
		t.Errorf("Head, Count = %s, %d, want %s, 2", j.Head(), j.Count(), last.Hash)
	}
}

func TestReadGivesWhatWasWritten(t *testing.T) {
	j := testJournal(t, RunStarted, "run_step_intent")
	if _, err := j.AppendNote("undo", []int{1}); err != nil {
		t.Fatal(err)
	}
	if err := j.Ack(2); err != nil {
		t.Fatal(err)
	}
	if err := j.Ack(2); err != nil {
		t.Errorf("second Ack: %v, want nil", err)
	}
	mustAppend(t, j, Event{Name: RunFinished})
	want := j.Contents()
	got, err := ReadJournal(j.Path())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Contents{})); diff != "" {
		t.Errorf("read (-written +read):\n%s", diff)
	}
	again := reopen(t, j)
	if diff := cmp.Diff(want.Records, again.Records()); diff != "" {
		t.Errorf("open (-written +opened):\n%s", diff)
	}
	if got := names(again.Unacked()); got != "3:run_step_intent 6:run_finished " {
		t.Errorf("Unacked = %s", got)
	}
	if got.Stamp != testStamp {
		t.Errorf("Stamp = %+v", got.Stamp)
	}
}

func TestContinuedRunNamesItsOwnOperator(t *testing.T) {
	j := reopen(t, testJournal(t, RunStarted))
	nobody := mustAppend(t, j, Event{Name: "run_step_intent"}).Event
	if _, claimed := nobody.Metadata["operator"]; claimed {
		t.Errorf("continued without SetActor, the event claims %v", nobody.Metadata)
	}
	j.SetActor(Stamp{Run: "ignored", Operator: "bob@laptop", Host: "laptop"})
	e := mustAppend(t, j, Event{Name: "run_step_done"}).Event
	if e.Metadata["operator"] != "bob@laptop" || e.Metadata["host"] != "laptop" || e.Metadata["run"] != "01RUN" || e.FailoverID != "F-1" {
		t.Errorf("event of the continued run = %+v", e)
	}
}

func TestWhatCannotBeRecordedIsRefused(t *testing.T) {
	j := testJournal(t, RunStarted)
	before := readFile(t, j.Path())
	deep := any("x")
	for range 20000 {
		deep = []any{deep}
	}
	for _, test := range []struct {
		name string
		do   func() error
	}{
		{"no name", func() error { _, err := j.Append(Event{}); return err }},
		{"not JSON", func() error {
			_, err := j.Append(Event{Name: "x", Metrics: map[string]any{"v": math.NaN()}})
			return err
		}},
		{"nested too deeply", func() error {
			_, err := j.Append(Event{Name: "x", Metadata: map[string]any{"v": deep}})
			return err
		}},
		{"line too long", func() error {
			_, err := j.Append(Event{Name: "x", SDPHash: strings.Repeat("a", MaxLine)})
			return err
		}},
		{"note without a kind", func() error { _, err := j.AppendNote("", nil); return err }},
		{"note not JSON", func() error { _, err := j.AppendNote("k", make(chan int)); return err }},
		{"ack of nothing", func() error { return j.Ack(17) }},
		{"ack of the header", func() error { return j.Ack(1) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := test.do(); err == nil {
				t.Error("no error")
			}
		})
	}
	if after := readFile(t, j.Path()); !bytes.Equal(before, after) {
		t.Errorf("the file was changed:\n%s", after)
	}
	mustAppend(t, j, Event{Name: "still_works"})
}

func TestLongestLineCanBeReadAgain(t *testing.T) {
	j := testJournal(t)
	probe := mustAppend(t, j, Event{Name: "probe", SDPHash: "a"})
	longest := MaxLine - len(probe.Line) + 1
	if _, err := j.Append(Event{Name: "probe", SDPHash: strings.Repeat("a", longest+1)}); err == nil {
		t.Error("a line of MaxLine+1 bytes was accepted")
	}
	r := mustAppend(t, j, Event{Name: "probe", SDPHash: strings.Repeat("a", longest)})
	if len(r.Line) != MaxLine {
		t.Fatalf("line has %d bytes, want %d", len(r.Line), MaxLine)
	}
	if c, err := ReadJournal(j.Path()); err != nil || c.Events != 2 || c.Torn {
		t.Errorf("read: %d events, torn %v, %v", c.Events, c.Torn, err)
	}
}

func TestCreate(t *testing.T) {
	private, shared := t.TempDir(), t.TempDir()
	if err := errors.Join(os.Chmod(private, 0o755), os.Chmod(shared, 0o2775)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, dir string
		mode      fs.FileMode
	}{{"private", private, 0o600}, {"shared", shared, 0o660}} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(test.dir, "r.jsonl")
			j, err := CreateJournal(path, testStamp)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != test.mode {
				t.Errorf("mode %v, %v, want %v", info.Mode(), err, test.mode)
			}
			if err := j.Close(); err != nil {
				t.Error(err)
			}
			before := readFile(t, path)
			if _, err := CreateJournal(path, testStamp); !errors.Is(err, fs.ErrExist) {
				t.Errorf("create again: %v, want fs.ErrExist", err)
			}
			if !bytes.Equal(before, readFile(t, path)) {
				t.Error("creating again changed the file")
			}
			if files, _ := os.ReadDir(test.dir); len(files) != 1 {
				t.Errorf("left behind: %v", files)
			}
		})
	}
	if _, err := CreateJournal(filepath.Join(private, "x.jsonl"), Stamp{}); err == nil {
		t.Error("a journal without a run was created")
	}
	if _, err := CreateJournal(filepath.Join(private, "none", "x.jsonl"), testStamp); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v, want fs.ErrNotExist", err)
	}
}

func TestOneWriter(t *testing.T) {
	j := testJournal(t, RunStarted)
	var busy *BusyError
	if _, err := OpenJournal(j.Path()); !errors.As(err, &busy) || busy.Path != j.Path() {
		t.Fatalf("open while open: %v, want *BusyError with the path", err)
	}
	if _, err := ReadJournal(j.Path()); err != nil {
		t.Errorf("read while open: %v", err)
	}
	mustAppend(t, j, Event{Name: "goes_on"})
	if err := errors.Join(j.Close(), j.Close()); err != nil {
		t.Errorf("Close twice: %v", err)
	}
	if _, err := j.Append(Event{Name: "late"}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Append after Close: %v, want os.ErrClosed", err)
	}
	reopen(t, j)
}

// disk stands for the file of a journal on a failing disk.
type disk struct {
	calls               []string
	writeFails, fsyncOK bool
	err                 error
}

func (d *disk) Write(p []byte) (int, error) {
	d.calls = append(d.calls, "write")
	if d.writeFails {
		return len(p) / 2, d.err
	}
	return len(p), nil
}

func (d *disk) Sync() error {
	d.calls = append(d.calls, "sync")
	if d.fsyncOK {
		return nil
	}
	return d.err
}

func (d *disk) Close() error { return nil }

func TestFirstWriteErrorIsFinal(t *testing.T) {
	cause := errors.New("input/output error")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("no /dev/full: %v", err)
	}
	defer func() { _ = full.Close() }()
	for _, test := range []struct {
		name  string
		file  File
		cause string
	}{
		{"write", &disk{writeFails: true, err: cause}, "input/output error"},
		{"sync", &disk{err: cause}, "input/output error"},
		{"disk full", full, "no space left on device"},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := testJournal(t, RunStarted)
			whole := j.Contents()
			good := j.file
			defer func() { _ = good.Close() }()
			j.file = test.file
			_, err := j.Append(Event{Name: "run_step_intent"})
			var broken *BrokenError
			if !errors.As(err, &broken) || broken.Path != j.Path() || !strings.Contains(err.Error(), test.cause) {
				t.Fatalf("Append: %v, want *BrokenError with %q", err, test.cause)
			}
			j.file = good // healthy again, and still not used
			_, appendErr := j.Append(Event{Name: "later"})
			_, noteErr := j.AppendNote("later", 1)
			for _, later := range []error{appendErr, noteErr, j.Ack(2)} {
				if !errors.As(later, &broken) {
					t.Errorf("later write: %v, want *BrokenError", later)
				}
			}
			if diff := cmp.Diff(whole, j.Contents(), cmp.AllowUnexported(Contents{})); diff != "" {
				t.Errorf("contents after the failure (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAppendIsOneWriteAndOneSync(t *testing.T) {
	j := testJournal(t)
	d := &disk{fsyncOK: true}
	good := j.file
	defer func() { _ = good.Close() }()
	j.file = d
	mustAppend(t, j, Event{Name: "a", SDPHash: strings.Repeat("x", 200_000)})
	mustAppend(t, j, Event{Name: "b"})
	if diff := cmp.Diff([]string{"write", "sync", "write", "sync"}, d.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestConcurrentUse(t *testing.T) {
	const writers, each = 8, 20
	j := testJournal(t)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				r, err := j.Append(Event{Name: fmt.Sprintf("e%d", w), Metadata: map[string]any{"i": i}})
				if err == nil && i%2 == 0 {
					err = j.Ack(r.Seq)
				}
				if err != nil {
					t.Error(err)
				}
				_, _, _ = j.Records(), j.Unacked(), j.Head()
			}
		})
	}
	all.Wait()
	c, err := ReadJournal(j.Path())
	if err != nil || c.Events != writers*each || c.Acked != writers*each/2 || c.Head != j.Head() {
		t.Errorf("%d events, %d acked, %v", c.Events, c.Acked, err)
	}
	next := map[string]float64{}
	for _, r := range c.Records {
		if r.Event.Metadata["i"] != next[r.Event.Name] {
			t.Errorf("%s: %v, want %v: out of order or lost", r.Event.Name, r.Event.Metadata["i"], next[r.Event.Name])
		}
		next[r.Event.Name]++
	}
}

func TestSecretsAreNotRecorded(t *testing.T) {
	const canary = "canary-91c4"
	j := testJournal(t)
	s := secret.New(canary)
	mustAppend(t, j, Event{Name: "x", Metadata: map[string]any{"key": s, "deep": []any{map[string]any{"key": &s}}}, Metrics: map[string]any{"m": s}})
	if _, err := j.AppendNote("undo", struct{ Key secret.Secret }{s}); err != nil {
		t.Fatal(err)
	}
	text := string(readFile(t, j.Path())) + fmt.Sprintf("%+v", j.Records())
	if strings.Contains(text, canary) {
		t.Errorf("the secret was recorded:\n%s", text)
	}
	if got := strings.Count(string(readFile(t, j.Path())), `"[redacted]"`); got != 4 {
		t.Errorf("%d times [redacted], want 4:\n%s", got, text)
	}
}

func TestAppendLeavesTheCallersMapAlone(t *testing.T) {
	metadata := map[string]any{"turn_server": "turn-1", "run": "mine"}
	mustAppend(t, testJournal(t), Event{Name: "x", Metadata: metadata})
	if diff := cmp.Diff(map[string]any{"turn_server": "turn-1", "run": "mine"}, metadata); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
}
