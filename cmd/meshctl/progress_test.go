package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/runbooks"
)

func TestProgressOnATerminalIsOneLine(t *testing.T) {
	var out bytes.Buffer
	p := &progress{out: &out, terminal: true}
	p.note(runbooks.Note{Step: "reload-config", Text: "waiting: " + strings.Repeat("turn:turn1.example.com:3478 ", 9), Left: 7 * time.Second})
	p.note(runbooks.Note{Step: "monitor", Text: "pass", Left: 5 * time.Second})
	p.note(runbooks.Note{Step: "monitor", Text: "done"})
	p.close()
	lines := strings.Split(out.String(), "\r\x1b[K")
	if len(lines) != 4 || lines[0] != "" {
		t.Fatalf("not rewritten twice and cleared once: %q", out.String())
	}
	if n := len(lines[1]); n != columns || !strings.HasSuffix(lines[1], "... (7s left)") {
		t.Errorf("%d columns: %q", n, lines[1])
	}
	if !strings.HasSuffix(lines[2], " monitor: pass (5s left)") || !strings.HasSuffix(lines[3], " monitor: done\n") {
		t.Errorf("got %q, %q", lines[2], lines[3])
	}
}

func TestProgressInALogIsLines(t *testing.T) {
	var out bytes.Buffer
	p := &progress{out: &out}
	for range 9 {
		p.note(runbooks.Note{Step: "monitor", Text: "pass", Left: time.Minute})
	}
	p.note(runbooks.Note{Text: "done"})
	p.close()
	if got := out.String(); strings.ContainsAny(got, "\r\x1b") || strings.Count(got, "\n") != 2 {
		t.Errorf("nine notes of a wait within %s and one more: %q", heartbeat, got)
	}
}
