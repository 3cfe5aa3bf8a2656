package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/runbooks"
)

// heartbeat is how often a long wait says that it is alive in a log.
const heartbeat = 5 * time.Second

// progress shows notes of a run: on a terminal a wait is one line that
// changes, in a log it is a line every few seconds.
type progress struct {
	mu       sync.Mutex // an interrupt is shown from elsewhere
	out      io.Writer
	terminal bool
	last     time.Time
	open     bool
}

func (a *app) progress() *progress {
	if a.quiet {
		return &progress{out: io.Discard}
	}
	return &progress{out: a.err, terminal: terminal(a.err)}
}

func (p *progress) note(n runbooks.Note) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := n.Text
	if n.Step != "" {
		text = n.Step + ": " + text
	}
	if n.Left <= 0 {
		p.clear()
		p.write("%s %s\n", time.Now().Format(time.TimeOnly), text)
		return
	}
	text = time.Now().Format(time.TimeOnly) + " " + text
	left := fmt.Sprintf(" (%s left)", n.Left.Round(time.Second))
	switch {
	case p.terminal:
		p.write("\r\x1b[K%s%s", fit(text, columns-len(left)), left)
		p.open = true
	case time.Since(p.last) >= heartbeat:
		p.write("%s%s\n", text, left)
	}
}

// columns of a changing line: one that wraps could not be cleared.
const columns = 79

// fit cuts text that is longer than width.
func fit(text string, width int) string {
	if runes := []rune(text); len(runes) > width {
		return string(runes[:width-3]) + "..."
	}
	return text
}

// close ends a changing line, so that what follows begins on its own.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

func (p *progress) clear() {
	if p.open {
		p.write("\r\x1b[K")
		p.open = false
	}
}

func (p *progress) write(format string, args ...any) {
	p.last = time.Now()
	_, _ = fmt.Fprintf(p.out, format, args...) // progress that cannot be shown stops nothing
}
