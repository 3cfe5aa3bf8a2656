package witnessclient

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestVerifyJournal(t *testing.T) {
	data, _ := sample(t)
	lines := bytes.SplitAfter(data, []byte("\n"))
	upTo := func(n int) []byte { return bytes.Join(lines[:n], nil) }
	flipped := bytes.Clone(data)
	flipped[len(lines[0])+20] ^= 1
	continued := func(do func(j *Journal) error) []byte {
		path := t.TempDir() + "/j.jsonl"
		writeFile(t, path, data)
		j, err := OpenJournal(path)
		if err == nil {
			err = errors.Join(do(j), j.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		return readFile(t, path)
	}
	event := func(name string) func(*Journal) error {
		return func(j *Journal) error { _, err := j.Append(Event{Name: name}); return err }
	}
	for _, test := range []struct {
		name string
		data []byte
		want Verification
		why  string
	}{
		{"finished, acknowledged", data, Verification{Lines: 8, Events: 4, Acked: 2, Finished: true, Chain: ChainOK}, ""},
		{"last acknowledgement cut off", upTo(7), Verification{Lines: 7, Events: 4, Acked: 1, Finished: true, Chain: ChainOK}, ""},
		{"end cut off", upTo(6), Verification{Lines: 6, Events: 3, Acked: 1, Chain: ChainUnanchored}, "no run_finished"},
		{"header only", upTo(1), Verification{Lines: 1, Chain: ChainUnanchored}, "no run_finished"},
		{"torn", data[:len(data)-3], Verification{Lines: 7, Events: 4, Acked: 1, Finished: true, Torn: true, Chain: ChainUnanchored}, "unfinished line"},
		{"continued", continued(event("x")), Verification{Lines: 9, Events: 5, Acked: 2, Chain: ChainUnanchored}, "no run_finished"},
		{"note after the end", continued(func(j *Journal) error { _, err := j.AppendNote("n", 1); return err }),
			Verification{Lines: 9, Events: 4, Acked: 2, Chain: ChainUnanchored}, "no run_finished"},
		{"finished twice", continued(event(RunFinished)), Verification{Lines: 9, Events: 5, Acked: 2, Finished: true, Chain: ChainOK}, ""},
		{"changed", flipped, Verification{Lines: 1, Chain: ChainBroken, Line: 2}, "sequence|chain|record"},
		{"line lost", bytes.Join([][]byte{upTo(3), data[len(upTo(4)):]}, nil), Verification{Lines: 3, Events: 1, Acked: 1, Chain: ChainBroken, Line: 4}, "lost"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := t.TempDir() + "/j.jsonl"
			writeFile(t, path, test.data)
			test.want.Path, test.want.Run = path, "01RUN"
			got, err := VerifyJournal(path)
			if err != nil {
				t.Fatal(err)
			}
			ignore := cmpopts.IgnoreFields(Verification{}, "Head", "Reason", "contents")
			if test.name == "changed" { // which of the two lines shows it depends on the byte
				ignore = cmpopts.IgnoreFields(Verification{}, "Head", "Reason", "contents", "Line", "Lines", "Events", "Acked")
			}
			if diff := cmp.Diff(test.want, got, ignore); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if test.name != "changed" && !strings.Contains(got.Reason, test.why) || (test.why == "") != (got.Reason == "") {
				t.Errorf("reason %q, want %q", got.Reason, test.why)
			}
			if !bytes.Equal(test.data, readFile(t, path)) {
				t.Error("the file was changed")
			}
		})
	}
	if _, err := VerifyJournal(t.TempDir() + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestVerifyWitness(t *testing.T) {
	metadata := func(e map[string]any) map[string]any { return e["metadata"].(map[string]any) }
	for _, test := range []struct {
		name   string
		change func(w *witness)
		want   Comparison
	}{
		{"equal", func(*witness) {}, Comparison{Matching: 3}},
		{"events of other runs and added fields", func(w *witness) {
			w.stored[0]["received_at"], metadata(w.stored[0])["shard"] = "now", 7
			w.stored = append(w.stored, map[string]any{"event": "x", "metadata": map[string]any{"run": "02"}})
		}, Comparison{Matching: 3}},
		{"one lost", func(w *witness) { w.stored = w.stored[1:] }, Comparison{Matching: 2, Missing: 1}},
		{"all lost", func(w *witness) { w.stored = nil }, Comparison{Missing: 3}},
		{"one twice", func(w *witness) { w.stored = append(w.stored, w.stored[0]) }, Comparison{Matching: 3, Duplicated: 1}},
		{"one more", func(w *witness) {
			w.stored = append(w.stored, map[string]any{"event": "x", "metadata": map[string]any{"run": "01RUN", "seq": 44}})
		}, Comparison{Matching: 3, Extra: 1, Beyond: 1}},
		{"one without a number", func(w *witness) { delete(metadata(w.stored[1]), "seq") }, Comparison{Matching: 2, Missing: 1, Extra: 1}},
		{"hash changed", func(w *witness) { metadata(w.stored[1])["hash"] = "00" }, Comparison{Matching: 2, Altered: 1}},
		{"hash missing", func(w *witness) { delete(metadata(w.stored[1]), "hash") }, Comparison{Matching: 2, Altered: 1}},
		{"operator changed", func(w *witness) { metadata(w.stored[1])["operator"] = "eve@x" }, Comparison{Matching: 2, Altered: 1}},
		{"name changed", func(w *witness) { w.stored[2]["event"] = "run_undone" }, Comparison{Matching: 2, Altered: 1}},
		{"metric changed", func(w *witness) { w.stored[1]["metrics"] = map[string]any{"users": 4} }, Comparison{Matching: 2, Altered: 1}},
		{"timestamp changed", func(w *witness) { w.stored[1]["timestamp"] = "2020-01-01T00:00:00Z" }, Comparison{Matching: 2, Altered: 1}},
		{"severity added", func(w *witness) { w.stored[1]["severity"] = "low" }, Comparison{Matching: 2, Altered: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := startWitness(t, "127.0.0.1:0")
			c, j := w.client(t), testJournal(t, RunStarted)
			mustAppend(t, j, Event{Name: "run_step_done", Metrics: map[string]any{"users": 3}})
			mustAppend(t, j, Event{Name: RunFinished})
			deliver(t, c, j)
			w.edit(func() { test.change(w) })
			v, err := VerifyJournal(j.Path())
			if err != nil {
				t.Fatal(err)
			}
			got, err := VerifyWitness(t.Context(), c, v)
			if err != nil {
				t.Fatal(err)
			}
			reason := got.Reason
			got.Run, got.Reason = "", ""
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if ok := test.want == (Comparison{Matching: 3}); got.OK() != ok || (reason == "") != ok {
				t.Errorf("OK() = %v, reason %q", got.OK(), reason)
			}
		})
	}
}

// What the chain alone cannot see.
func TestVerifyWitnessFindsWhatTheChainCannot(t *testing.T) {
	w := startWitness(t, "127.0.0.1:0")
	c, j := w.client(t), testJournal(t, RunStarted, "b", RunFinished)
	before := readFile(t, j.Path())
	deliver(t, c, j)
	for name, data := range map[string][]byte{
		"last line changed": bytes.Replace(before, []byte(`"events":2`), []byte(`"events":2,"outcome":"done"`), 1),
		"last line cut off": before[:bytes.LastIndexByte(before[:len(before)-1], '\n')+1],
	} {
		writeFile(t, j.Path(), data)
		v, err := VerifyJournal(j.Path())
		if err != nil || v.Chain == ChainBroken {
			t.Fatalf("%s: %+v, %v", name, v, err)
		}
		if got, err := VerifyWitness(t.Context(), c, v); err != nil || got.OK() {
			t.Errorf("%s: %+v, %v, want a difference", name, got, err)
		}
	}
}

func TestVerifyWitnessUnknown(t *testing.T) {
	j := testJournal(t, RunStarted, RunFinished)
	v, err := VerifyJournal(j.Path())
	if err != nil {
		t.Fatal(err)
	}
	for _, do := range []int{401, 500, drop, htmlPage, halfReply} {
		w := startWitness(t, "127.0.0.1:0")
		w.queries = []int{do}
		if got, err := VerifyWitness(t.Context(), w.client(t), v); err == nil {
			t.Errorf("%d: %+v, want an error", do, got)
		}
	}
	w := startWitness(t, "127.0.0.1:0")
	v.Chain = ChainBroken
	if _, err := VerifyWitness(t.Context(), w.client(t), v); err == nil {
		t.Error("a broken journal was compared")
	}
	if _, err := VerifyWitness(t.Context(), w.client(t), Verification{}); err == nil {
		t.Error("nothing was compared")
	}
}

func TestList(t *testing.T) {
	data, _ := sample(t)
	lines := bytes.SplitAfter(data, []byte("\n"))
	dir := t.TempDir()
	write := func(name string, data []byte) { writeFile(t, dir+"/"+name, data) }
	write("1-finished.jsonl", data)
	write("2-running.jsonl", bytes.Join(lines[:4], nil))
	write("3-damaged.jsonl", bytes.Replace(data, []byte(`"step":"env"`), []byte(`"step":"ENV"`), 1))
	write("4-foreign.jsonl", []byte("hello\n"))
	write("5-torn.jsonl", append(bytes.Clone(data), "{"...))
	write("notes.txt", data)
	if err := os.Mkdir(dir+"/dir.jsonl", 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		Name, Run         string
		Started, Finished bool
		Events, Unacked   int
		Torn, Damaged     bool
	}
	var rows []row
	for _, s := range got {
		var damage *DamageError
		rows = append(rows, row{strings.TrimPrefix(s.Path, dir+"/"), s.Stamp.Run, s.Started != nil, s.Finished != nil, s.Events, s.Unacked, s.Torn, errors.As(s.Err, &damage)})
		if s.Finished != nil && s.Finished.Metadata["outcome"] != "done" {
			t.Errorf("outcome of %s: %v", s.Path, s.Finished.Metadata)
		}
	}
	want := []row{
		{"1-finished.jsonl", "01RUN", true, true, 4, 2, false, false},
		{"2-running.jsonl", "01RUN", true, false, 2, 1, false, false},
		{"3-damaged.jsonl", "01RUN", true, false, 2, 1, false, true},
		{"4-foreign.jsonl", "", false, false, 0, 0, false, true},
		{"5-torn.jsonl", "01RUN", true, true, 4, 2, true, false},
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if none, err := List(dir + "/none"); err != nil || len(none) != 0 {
		t.Errorf("no directory: %v, %v", none, err)
	}
	if _, err := List(dir + "/notes.txt"); err == nil {
		t.Error("a file was listed as a directory")
	}
}
