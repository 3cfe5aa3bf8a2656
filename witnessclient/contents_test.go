package witnessclient

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sample gives a finished run of eight lines: header, run_started, ack, intent,
// note, done, run_finished, ack.
func sample(t testing.TB) (data []byte, c Contents) {
	t.Helper()
	j := testJournal(t, RunStarted)
	steps := []error{j.Ack(2)}
	mustAppend(t, j, Event{Name: "run_step_intent", Metadata: map[string]any{"step": "env"}})
	_, err := j.AppendNote("undo", "before")
	steps = append(steps, err)
	mustAppend(t, j, Event{Name: "run_step_done"})
	r := mustAppend(t, j, Event{Name: RunFinished, Metadata: map[string]any{"outcome": "done"}})
	steps = append(steps, j.Ack(r.Seq))
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	return readFile(t, j.Path()), j.Contents()
}

func parse(data []byte) (Contents, error) { return readContents("j", bytes.NewReader(data)) }

func TestTornLastLineIsCutAtEveryByte(t *testing.T) {
	data, whole := sample(t)
	header := bytes.IndexByte(data, '\n') + 1
	for cut := header; cut < len(data); cut++ {
		c, err := parse(data[:cut])
		lines := bytes.Count(data[:cut], []byte("\n"))
		atEnd := data[cut-1] == '\n'
		if err != nil || c.Lines != lines || c.Torn == atEnd {
			t.Fatalf("cut at %d: %d lines, torn %v, %v; want %d lines", cut, c.Lines, c.Torn, err, lines)
		}
	}
	var damage *DamageError
	for cut := range header {
		if _, err := parse(data[:cut]); !errors.As(err, &damage) || damage.Line != 1 {
			t.Fatalf("cut at %d, inside the header: %v, want *DamageError", cut, err)
		}
	}
	if whole.Lines != 8 {
		t.Fatalf("the sample has %d lines, want 8", whole.Lines)
	}
}

func TestOpenCutsTornLineAndContinuesTheChain(t *testing.T) {
	data, _ := sample(t)
	for _, tail := range []string{`{"event":"run_st`, "\x00\x00\x00\x00", `{"journal":"ack","acked":4}`} {
		path := t.TempDir() + "/j.jsonl"
		writeFile(t, path, append(bytes.Clone(data), tail...))
		j, err := OpenJournal(path)
		if err != nil {
			t.Fatalf("tail %q: %v", tail, err)
		}
		if c := j.Contents(); !c.Torn || c.Lines != 8 {
			t.Errorf("tail %q: torn %v, %d lines", tail, c.Torn, c.Lines)
		}
		if !bytes.Equal(data, readFile(t, path)) {
			t.Errorf("tail %q: still in the file", tail)
		}
		mustAppend(t, j, Event{Name: "after"})
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		if c, err := ReadJournal(path); err != nil || c.Torn || c.Lines != 9 {
			t.Errorf("tail %q, after: torn %v, %d lines, %v", tail, c.Torn, c.Lines, err)
		}
	}
}

func TestEveryFlippedBitIsRefused(t *testing.T) {
	j, err := CreateJournal(t.TempDir()+"/j.jsonl", Stamp{Run: "R"}) // short, as each bit costs a read of all
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	mustAppend(t, j, Event{Name: RunStarted})
	_, err = j.AppendNote("undo", 1)
	if err := errors.Join(err, j.Ack(2)); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, Event{Name: RunFinished})
	data, whole := readFile(t, j.Path()), j.Contents()
	lastLine := bytes.LastIndexByte(data[:len(data)-1], '\n') + 1
	var damage *DamageError
	for i := range data {
		for bit := range 8 {
			data[i] ^= 1 << bit
			c, err := parse(data)
			data[i] ^= 1 << bit
			refused := errors.As(err, &damage)
			if i < lastLine && !refused {
				t.Fatalf("bit %d of byte %d (%q): %v, want *DamageError", bit, i, data[i], err)
			}
			// The last line is not covered by the chain; its change moves the head.
			if !refused && !c.Torn && c.Head == whole.Head {
				t.Fatalf("bit %d of byte %d: the head is still the same", bit, i)
			}
		}
	}
}

func TestLinesLostSwappedOrRepeatedAreRefused(t *testing.T) {
	data, _ := sample(t)
	lines := bytes.SplitAfter(data, []byte("\n"))
	lines = lines[:len(lines)-1]
	join := func(l ...[]byte) []byte { return bytes.Join(l, nil) }
	for i := range lines {
		cases := map[string][]byte{
			"repeated": join(slices.Insert(slices.Clone(lines), i, lines[i])...),
			"emptied":  join(slices.Insert(slices.Clone(lines), i, []byte("\n"))...),
		}
		if i < len(lines)-1 { // a lost last line is for the anchor, not for the chain
			cases["lost"] = join(slices.Delete(slices.Clone(lines), i, i+1)...)
			swapped := slices.Clone(lines)
			swapped[i], swapped[i+1] = lines[i+1], lines[i]
			cases["swapped"] = join(swapped...)
			cases["moved to the end"] = join(append(slices.Delete(slices.Clone(lines), i, i+1), lines[i])...)
		}
		for name, changed := range cases {
			var damage *DamageError
			if _, err := parse(changed); !errors.As(err, &damage) {
				t.Errorf("line %d %s: %v, want *DamageError", i+1, name, err)
			}
		}
	}
}

// chained builds a journal whose hashes are right, line by line; $PREV is
// replaced by the hash of the line before.
func chained(lines ...string) []byte {
	c, data := Contents{Head: genesis}, []byte(nil)
	for _, line := range lines {
		line = strings.ReplaceAll(line, "$PREV", c.Head)
		data = append(append(data, line...), '\n')
		c.take(entry{Journal: "?"}, []byte(line))
	}
	return data
}

func TestForeignAndForgedLinesAreRefused(t *testing.T) {
	const (
		header = `{"journal":"header","format":1,"run":"R","seq":1,"prev":"$PREV","timestamp":"2026-03-01T12:00:00Z"}`
		meta   = `"metadata":{"events":0,"run":"R","seq":2,"prev":"$PREV"}}`
		ack    = `{"journal":"ack","acked":2,"seq":2,"prev":"$PREV","timestamp":"2026-03-01T12:00:00Z"}`
		event  = `{"event":"x","timestamp":"2026-03-01T12:00:00Z",` + meta
	)
	if c, err := parse(chained(header, event)); err != nil || c.Events != 1 {
		t.Fatalf("the base of all cases: %d events, %v", c.Events, err)
	}
	for _, test := range []struct {
		name   string
		lines  []string
		line   int
		reason string
	}{
		{"no line", nil, 1, "no header"},
		{"not JSON", []string{"hello"}, 1, "not a record"},
		{"null", []string{"null"}, 1, "timestamp"},
		{"array", []string{"[]"}, 1, "not a record"},
		{"event first", []string{strings.Replace(event, `"seq":2`, `"seq":1`, 1)}, 1, "header"},
		{"second header", []string{header, strings.Replace(header, `"seq":1`, `"seq":2`, 1)}, 2, "header"},
		{"format of the future", []string{strings.Replace(header, `"format":1`, `"format":2`, 1)}, 1, "format 2 is not known"},
		{"no format", []string{strings.Replace(header, `"format":1,`, ``, 1)}, 1, "format 0"},
		{"no run", []string{strings.Replace(header, `"run":"R",`, ``, 1)}, 1, "without a run"},
		{"no timestamp", []string{header, `{"event":"x",` + meta}, 2, "timestamp"},
		{"other run", []string{header, strings.Replace(event, `"run":"R"`, `"run":"S"`, 1)}, 2, `run "S"`},
		{"no metadata", []string{header, `{"event":"x","timestamp":"2026-03-01T12:00:00Z"}`}, 2, "sequence number"},
		{"seq as text", []string{header, strings.Replace(event, `"seq":2`, `"seq":"2"`, 1)}, 2, "sequence number"},
		{"no name", []string{header, strings.Replace(event, `"event":"x",`, ``, 1)}, 2, "without a name"},
		{"trailing text", []string{header, event + "{}"}, 2, "not a record"},
		{"unknown kind", []string{header, `{"journal":"vote","seq":2,"prev":"$PREV","timestamp":"2026-03-01T12:00:00Z"}`}, 2, `"vote"`},
		{"note without a kind", []string{header, `{"journal":"note","seq":2,"prev":"$PREV","timestamp":"2026-03-01T12:00:00Z"}`}, 2, "without a kind"},
		{"ack of nothing", []string{header, ack}, 2, "no event that waits"},
		{"sent is nothing", []string{header, strings.Replace(ack, `"ack","acked"`, `"sent","line"`, 1)}, 2, "no event that waits"},
		{"failed is nothing", []string{header, strings.Replace(ack, `"ack","acked"`, `"failed","line"`, 1)}, 2, "no event that waits"},
		{"ack by another name", []string{header, event, strings.Replace(ack, `"acked":2,"seq":2`, `"line":2,"seq":3`, 1)}, 3, "no event that waits"},
		{"acked twice", []string{header, event, strings.Replace(ack, `"seq":2`, `"seq":3`, 1), strings.Replace(ack, `"seq":2`, `"seq":4`, 1)}, 4, "no event that waits"},
		{"too long", []string{header, strings.Repeat("x", MaxLine+1)}, 2, "longer than"},
		{"wrong count", []string{header, strings.Replace(event, `"events":0`, `"events":1`, 1)}, 2, "does not count"},
		{"no count", []string{header, strings.Replace(event, `"events":0,`, ``, 1)}, 2, "does not count"},
		{"wrong head", []string{header, strings.Replace(strings.Replace(event, `"x"`, `"run_finished"`, 1), `"run"`, `"head":"00","run"`, 1)}, 2, "head"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parse(chained(test.lines...))
			var damage *DamageError
			if !errors.As(err, &damage) || damage.Line != test.line || !strings.Contains(damage.Reason, test.reason) {
				t.Errorf("%v, want *DamageError in line %d with %q", err, test.line, test.reason)
			}
		})
	}
}

func TestDamagedJournalIsNotOpened(t *testing.T) {
	data, _ := sample(t)
	data[len(data)/2] ^= 1
	path := t.TempDir() + "/j.jsonl"
	writeFile(t, path, data)
	var damage *DamageError
	if _, err := OpenJournal(path); !errors.As(err, &damage) || damage.Path != path {
		t.Errorf("open: %v, want *DamageError", err)
	}
	if !bytes.Equal(data, readFile(t, path)) {
		t.Error("the damaged file was changed")
	}
	if _, err := OpenJournal(path); !errors.As(err, &damage) {
		t.Errorf("open again: %v, want *DamageError: the lock was kept", err)
	}
}

// FuzzReadJournal: no input panics, and what is accepted is a chain whose
// lines are those of the input. Each input is also read with $PREV replaced by
// the right hashes, because the chain would refuse nearly all others.
func FuzzReadJournal(f *testing.F) {
	data, c := sample(f)
	template := string(data)
	for _, r := range c.Records {
		template = strings.ReplaceAll(template, r.Prev, "$PREV")
	}
	f.Add(data)
	f.Add([]byte(strings.ReplaceAll(template, genesis, "$PREV")))
	f.Add(data[:len(data)-5])
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkParse(t, data)
		checkParse(t, chained(strings.Split(string(data), "\n")...))
	})
}

func checkParse(t *testing.T, data []byte) {
	c, err := parse(data)
	if err != nil {
		return
	}
	if got := bytes.Count(data[:c.size], []byte("\n")); got != c.Lines || c.Torn != (int(c.size) < len(data)) {
		t.Fatalf("%d lines of %d, torn %v, %d of %d bytes", c.Lines, got, c.Torn, c.size, len(data))
	}
	for _, r := range c.Records {
		if !bytes.Contains(data, r.Line) || !bytes.Contains(r.Line, []byte(r.Prev)) {
			t.Fatalf("record %d is not in the input", r.Seq)
		}
	}
	again, err := parse(data[:c.size])
	c.Torn = false
	if diff := cmp.Diff(c, again, cmp.AllowUnexported(Contents{})); err != nil || diff != "" {
		t.Fatalf("read again: %v\n%s", err, diff)
	}
}
