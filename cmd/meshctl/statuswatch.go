package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/runbooks"
)

// watchStatus goes on until interrupted, which is how a watch ends well.
func (a *app) watchStatus(ctx context.Context, s *session, o statusOptions) error {
	if a.output == "text" && a.outfile == "" && terminal(a.out) {
		return a.watchScreen(ctx, s, o)
	}
	return a.watchLines(ctx, s, o)
}

// watchLines writes the first status whole, and then a line a change.
func (a *app) watchLines(ctx context.Context, s *session, o statusOptions) error {
	var before *runbooks.Status
	ticker := time.NewTicker(o.every)
	defer ticker.Stop()
	for {
		status, err := a.takeStatus(ctx, s)
		if err == nil {
			err = a.reportChanges(before, status)
		}
		if err != nil {
			return watchEnded(ctx, err)
		}
		before = &status
		select {
		case <-ctx.Done():
			return watchEnded(ctx, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// watchEnded: an interrupt is the operator's way to end a watch, and nothing
// is left to resume.
func watchEnded(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errInterrupted) {
		return nil
	}
	return err
}

func (a *app) reportChanges(before *runbooks.Status, now runbooks.Status) error {
	if before == nil {
		return a.showResults(results{
			text: func(p *page) { p.status(statusDoc{Status: now}) }, lines: statusLines(now),
		})
	}
	changes := runbooks.Compare(*before, now)
	if len(changes) == 0 {
		return nil
	}
	lines := make([]any, 0, len(changes))
	for _, c := range changes {
		lines = append(lines, struct {
			At time.Time `json:"at"`
			runbooks.Change
		}{now.At, c})
	}
	return a.showResults(results{lines: lines, text: func(p *page) {
		for _, c := range changes {
			p.line("%s %s %s: %s", now.At.Local().Format(time.TimeOnly), c.Part, c.What, c.Text())
		}
	}})
}

const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the other screen, without a cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
)

// watchScreen draws every status over the last one, on a screen of its own;
// what was there comes back at the end. It needs no more of a terminal than
// that: bubbletea would ask it for its colours at the start of every command.
func (a *app) watchScreen(ctx context.Context, s *session, o statusOptions) error {
	if _, err := fmt.Fprint(a.out, enterScreen); err != nil {
		return err
	}
	defer fmt.Fprint(a.out, leaveScreen) //nolint:errcheck // the terminal is gone
	ticker := time.NewTicker(o.every)
	defer ticker.Stop()
	for {
		status, err := a.takeStatus(ctx, s)
		if err == nil {
			err = a.draw(status, o.every)
		}
		if err != nil {
			return watchEnded(ctx, err)
		}
		select {
		case <-ctx.Done():
			return watchEnded(ctx, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// draw overwrites line by line: a cleared screen would flicker.
func (a *app) draw(s runbooks.Status, every time.Duration) error {
	p := a.page(a.out)
	p.status(statusDoc{Status: s})
	p.line("\n%s", p.dim(fmt.Sprintf("every %s; ^C ends", every)))
	_, err := fmt.Fprint(a.out, "\x1b[H"+strings.ReplaceAll(p.text.String(), "\n", "\x1b[K\r\n")+"\x1b[J")
	return err
}
