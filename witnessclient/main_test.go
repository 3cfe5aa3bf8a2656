package witnessclient

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(crashJournal); path != "" {
		appendForEver(path)
	}
	goleak.VerifyTestMain(m)
}

var testStamp = Stamp{
	Run: "01RUN", FailoverID: "F-1", IncidentID: "INC-7", Scenario: "A",
	Operator: "alice@bastion", OperatorSource: "sudo", Host: "bastion", Version: "1.0.0",
}

// testJournal makes a journal with the given events and gives it open.
func testJournal(t testing.TB, names ...string) *Journal {
	t.Helper()
	j, err := CreateJournal(filepath.Join(t.TempDir(), "run.jsonl"), testStamp)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	for _, name := range names {
		mustAppend(t, j, Event{Name: name})
	}
	return j
}

func mustAppend(t testing.TB, j *Journal, e Event) Record {
	t.Helper()
	r, err := j.Append(e)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func reopen(t testing.TB, j *Journal) *Journal {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := OpenJournal(j.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	return again
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// poll waits until the fact holds.
func poll(t testing.TB, what string, fact func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(20 * time.Second); !fact(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func names(records []Record) string {
	text := ""
	for _, r := range records {
		text += fmt.Sprintf("%d:%s%s ", r.Seq, r.Event.Name, r.Note)
	}
	return text
}
