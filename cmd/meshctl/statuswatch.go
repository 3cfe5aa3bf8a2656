package main

import (
	"context"
	"errors"
	"fmt"
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

// watchScreen draws every status over the last one.
func (a *app) watchScreen(ctx context.Context, s *session, o statusOptions) error {
	ticker := time.NewTicker(o.every)
	defer ticker.Stop()
	for {
		status, err := a.takeStatus(ctx, s)
		if err != nil {
			return watchEnded(ctx, err)
		}
		p := a.page(a.out)
		p.status(statusDoc{Status: status})
		if _, err := fmt.Fprint(a.out, "\x1b[H\x1b[2J"); err != nil {
			return err
		}
		if err := p.flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return watchEnded(ctx, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}
