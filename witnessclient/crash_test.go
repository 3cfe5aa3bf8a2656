package witnessclient

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const crashJournal = "WITNESSCLIENT_TEST_JOURNAL"

// appendForEver is the child of TestKilledWriter.
func appendForEver(path string) {
	j, err := CreateJournal(path, testStamp)
	for n := 0; err == nil; n++ {
		var r Record
		if r, err = j.Append(Event{Name: "e", Metadata: map[string]any{"n": n}}); err == nil {
			fmt.Println(r.Hash)
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

func TestKilledWriter(t *testing.T) {
	for kill := range 8 {
		path := filepath.Join(t.TempDir(), "run.jsonl")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashJournal+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var told []string
		for lines := bufio.NewScanner(out); lines.Scan(); {
			told = append(told, lines.Text())
			if len(told) == 1 {
				var busy *BusyError
				if _, err := OpenJournal(path); !errors.As(err, &busy) {
					t.Errorf("open while the other process lives: %v, want *BusyError", err)
				}
			}
			if len(told) == 3+kill {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait() // killed
		j, err := OpenJournal(path)
		if err != nil {
			t.Fatalf("open after the kill: %v", err)
		}
		records := j.Records()
		if len(records) < len(told) {
			t.Fatalf("%d records, but %d were acknowledged", len(records), len(told))
		}
		for i, hash := range told {
			if records[i].Hash != hash {
				t.Errorf("record %d: %s, want %s", i, records[i].Hash, hash)
			}
		}
		_ = j.Close()
	}
}
