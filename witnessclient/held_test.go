package witnessclient

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What was written on another machine can be read back from the witness to the
// byte, and what was changed or is missing there shows.
func TestHeldRun(t *testing.T) {
	type nested struct{ B, A int }
	metadata := func(e map[string]any) map[string]any { return e["metadata"].(map[string]any) }
	for _, test := range []struct {
		name   string
		change func(w *witness)
		reason string
	}{
		{"whole", func(*witness) {}, ""},
		{"held twice, in another order", func(w *witness) { w.stored = append(w.stored[1:], w.stored[0], w.stored[1]) }, ""},
		{"one of another run", func(w *witness) { metadata(w.stored[3])["run"] = "02" }, ""},
		{"changed", func(w *witness) { metadata(w.stored[1])["step"] = "other" }, "run_step_intent (line 5): its content does not give its hash"},
		{"name changed", func(w *witness) { w.stored[2]["event"] = "run_step_failed" }, "run_step_failed (line 6): its content does not give its hash"},
		{"hash gone", func(w *witness) { delete(metadata(w.stored[0]), "hash") }, "run_started (line 2): its content"},
		{"first missing", func(w *witness) { w.stored = w.stored[1:] }, "says that 1 events came before it, and the witness holds 0"},
		{"one missing between", func(w *witness) { w.stored = append(w.stored[:1], w.stored[2:]...) }, "says that 2 events came before it, and the witness holds 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := startWitness(t, "127.0.0.1:0")
			c, j := w.client(t), testJournal(t, RunStarted)
			deliver(t, c, j) // its acknowledgement is a line that the witness does not get
			mustAppend(t, j, Event{Name: "run_step_intent", Metadata: map[string]any{
				"step": "env", "diff": "- a <b>\n+ ü & \u2028", "share": 0.25, "big": 1e21, "deep": nested{1, 2}, "list": []nested{{3, 4}},
			}, Metrics: map[string]any{"users": 3}})
			mustAppend(t, j, Event{Name: "run_step_done", AgentID: "a", Severity: "critical"})
			mustAppend(t, j, Event{Name: "last"})
			deliver(t, c, j)
			w.edit(func() { test.change(w) })
			got, err := HeldRun(t.Context(), c, "01RUN")
			var held *HeldError
			if test.reason != "" {
				if !errors.As(err, &held) || !strings.Contains(err.Error(), test.reason) {
					t.Errorf("got error %v, want %q", err, test.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := j.Records()[:len(got)]
			if len(got) < 3 {
				t.Fatalf("%d records", len(got))
			}
			for i := range want {
				if diff := cmp.Diff(string(want[i].Line), string(got[i].Line)); diff != "" || got[i].Hash != want[i].Hash || got[i].Seq != want[i].Seq {
					t.Errorf("record %d: %s", i, diff)
				}
			}
		})
	}
	w := startWitness(t, "127.0.0.1:0")
	if got, err := HeldRun(t.Context(), w.client(t), "01RUN"); err != nil || got != nil {
		t.Errorf("of an unknown run: %v, %v", got, err)
	}
	w.queries = []int{500}
	if _, err := HeldRun(t.Context(), w.client(t), "01RUN"); err == nil || errors.As(err, new(*HeldError)) {
		t.Errorf("from a witness that fails: %v", err)
	}
}
