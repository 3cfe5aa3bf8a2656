package main

import (
	"context"
	"errors"
	"os/signal"
	"syscall"

	"github.com/infrafabric/meshctl/runbooks"
)

// heed is for a command that changes something. It shows at once that an
// interrupt was noticed and what happens now, also when progress is not wanted;
// and a reader of its output that goes away does not end it half-way, as
// SIGPIPE would. Call stop before the result is shown.
func (a *app) heed(ctx context.Context, s *session) (stop func()) {
	signal.Ignore(syscall.SIGPIPE)
	shown := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(shown)
		if errors.Is(context.Cause(ctx), errInterrupted) {
			p := s.notes
			if a.quiet {
				p = &progress{out: a.err}
			}
			p.note(runbooks.Note{Text: "interrupted: a change that is under way gets up to 5 s to end; interrupt again to exit at once"})
		}
	})
	return func() {
		if !cancel() {
			<-shown
		}
	}
}
