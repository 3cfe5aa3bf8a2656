package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks"
	"github.com/infrafabric/meshctl/witnessclient"
)

type turnWatchOptions struct {
	every, stop time.Duration
	failOn      string
}

func newTurnWatchCmd(a *app) *cobra.Command {
	var o turnWatchOptions
	cmd := &cobra.Command{
		Use: "watch", Short: "Watch the TURN servers as an agent's pool does",
		Long: `watch runs the pool of TURN servers that agents choose from: a whole relayed echo
for each server every 30 s, again after 1.5 s when one fails, a server out after
three failures and held back for a minute when it comes and goes. It shows which
server the next link would take. Text is a table after every round in which
something changed; jsonl has every round and every event; prom writes --outfile
anew after every round.

Exit status: 0 every server was healthy at the end, 3 one was not, 4 none was
checked, 130 interrupted.`,
		Example: `  meshctl turn watch --every 10s
  meshctl turn watch --output prom --outfile /var/lib/node_exporter/meshctl_turn.prom
  meshctl turn watch --for 1s --output json`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runTurnWatch(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.DurationVar(&o.every, "every", mesh.DefaultTiming().TURNHealth, "`TIME` between two checks")
	flags.DurationVar(&o.stop, "for", 0, "watch this `LONG` (default: until interrupted)")
	failOnFlag(cmd, &o.failOn)
	offer(cmd, "jsonl", "prom")
	return cmd
}

// turnWatch is the running command.
type turnWatch struct {
	app    *app
	o      turnWatchOptions
	notes  *progress
	shown  string // what the last table said, without times
	latest []mesh.TURNHealth
	err    error
}

func (a *app) runTurnWatch(ctx context.Context, o turnWatchOptions) error {
	switch {
	case o.every <= 0:
		return usageError("--every %s: not more than 0", o.every)
	case o.stop < 0:
		return usageError("--for %s: less than 0", o.stop)
	}
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	options, err := s.mesh.TURNPool(ctx)
	if err != nil {
		return &exitError{code: exitUnknown, err: err}
	}
	options.Timing.TURNHealth = o.every
	options.Timing.TURNAgain = min(o.every, mesh.DefaultTiming().TURNAgain)
	w := &turnWatch{app: a, o: o, notes: s.notes}
	lines := make(chan any, 64)
	options.Emit = func(e witnessclient.Event) {
		select {
		case lines <- e:
		case <-ctx.Done():
		}
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	if o.stop > 0 {
		watching, cancel = context.WithTimeout(ctx, o.stop)
		defer cancel()
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		mesh.WatchTURN(watching, options, func(servers []mesh.TURNHealth) { lines <- servers })
	}()
	for running := true; running; {
		select {
		case line := <-lines:
			w.take(line)
		case <-ended:
			running = false
		}
	}
	s.notes.close()
	return w.end(ctx, lines)
}

// take shows a round or an event.
func (w *turnWatch) take(line any) {
	servers, isRound := line.([]mesh.TURNHealth)
	if isRound {
		w.latest = servers
	}
	switch {
	case w.app.output == "jsonl" && isRound:
		w.keep(w.app.writeJSON(w.app.out, map[string]any{"at": time.Now().UTC(), "servers": servers}))
	case w.app.output == "jsonl":
		w.keep(w.app.writeJSON(w.app.out, map[string]any{"event": line}))
	case w.app.output == "prom" && isRound && w.app.outfile != "":
		w.keep(w.show(0))
	case w.app.output == "text" && isRound && w.app.outfile == "":
		w.table()
	}
}

func (w *turnWatch) keep(err error) {
	if w.err == nil {
		w.err = err
	}
}

// table shows the servers when something but the latencies has changed.
func (w *turnWatch) table() {
	var states strings.Builder
	for _, s := range w.latest {
		states.WriteString(s.Server + s.State + s.Error + yesNo(&s.Chosen))
	}
	if states.String() != w.shown {
		w.shown = states.String()
		w.notes.close()
		p := w.app.page(w.app.out)
		p.turnHealth(time.Now(), w.latest)
		w.keep(p.flush())
	}
	healthy := 0
	for _, s := range w.latest {
		healthy += int(oneIf(s.State == mesh.TURNHealthy))
	}
	w.notes.note(runbooks.Note{Text: fmt.Sprintf("%d of %d healthy, until the next check", healthy, len(w.latest)), Left: w.o.every})
}

func (p *page) turnHealth(at time.Time, servers []mesh.TURNHealth) {
	p.line("%s", p.dim(at.Format("15:04:05")))
	for _, s := range servers {
		mark, latency := " ", ""
		if s.Chosen {
			mark = "*"
		}
		if s.State == mesh.TURNHealthy || s.State == mesh.TURNHeld {
			latency = time.Duration(s.LatencyMS * float64(time.Millisecond)).Round(10 * time.Microsecond).String()
		}
		p.line("%s %s %-10s %-46s %-9s %s", mark, p.verdict(turnVerdict(s)), s.State, s.Server, latency, s.Error)
	}
}

func turnVerdict(s mesh.TURNHealth) probes.Verdict {
	switch s.State {
	case mesh.TURNHealthy:
		return probes.Pass
	case mesh.TURNHeld:
		return probes.Warn
	case mesh.TURNUnknown:
		return probes.Unknown
	}
	return probes.Fail
}

func (w *turnWatch) verdict() probes.Verdict {
	if len(w.latest) == 0 {
		return probes.Unknown
	}
	verdict := probes.Pass
	for _, s := range w.latest {
		verdict = verdict.Worse(turnVerdict(s))
	}
	return verdict
}

// end shows what is left to show, and the verdict.
func (w *turnWatch) end(ctx context.Context, lines <-chan any) error {
	for len(lines) > 0 {
		w.take(<-lines)
	}
	code := verdictCode(w.verdict(), w.o.failOn)
	if cause := context.Cause(ctx); errors.Is(cause, errInterrupted) {
		code = exitInterrupted
	} else if cause != nil {
		return cause
	}
	if w.app.output != "jsonl" && (w.app.output != "text" || w.app.outfile != "") {
		w.keep(w.show(code))
	}
	if w.err != nil {
		return w.err
	}
	return withCode(code)
}

func (w *turnWatch) show(code int) error {
	return w.app.showResults(results{
		doc:  map[string]any{"verdict": w.verdict(), "servers": append([]mesh.TURNHealth{}, w.latest...)},
		text: func(p *page) { p.turnHealth(time.Now(), w.latest) },
		prom: func() []family { return turnFamilies(w.latest) },
		code: code,
	})
}

func turnFamilies(servers []mesh.TURNHealth) []family {
	up := family{name: "meshctl_turn_healthy", help: "1 when the last check relayed an echo and the breaker is closed."}
	chosen := family{name: "meshctl_turn_chosen", help: "1 for the server that the next link takes."}
	failures := family{name: "meshctl_turn_failures", help: "Checks failed in a row."}
	latency := family{name: "meshctl_turn_latency_seconds", help: "Moving average of the successful checks."}
	for _, s := range servers {
		labels := []string{"turn_server", s.Server}
		up.samples = append(up.samples, sample{oneIf(s.State == mesh.TURNHealthy), labels})
		chosen.samples = append(chosen.samples, sample{oneIf(s.Chosen), labels})
		failures.samples = append(failures.samples, sample{float64(s.Failures), labels})
		if s.LatencyMS > 0 {
			latency.samples = append(latency.samples, sample{s.LatencyMS / 1000, labels})
		}
	}
	return []family{up, chosen, failures, latency}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
