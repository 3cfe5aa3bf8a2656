package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks"
)

// statusLimit is how long a status may take. A probe that is not answered
// gives up after 3 s.
const statusLimit = 6 * time.Second

type statusOptions struct {
	watch      bool
	every      time.Duration
	save, diff string
	failOn     string
}

func newStatusCmd(a *app) *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status [--watch] [--save FILE] [--diff FILE]",
		Short: "The whole mesh on one screen, asked all at once",
		Long: `status asks every part of the mesh at once: each signaling server by its own
address (a registration and an offer that crosses to the next server), the
controller, every TURN server (data relayed both ways) and STUN server, the
witness, Prometheus, every certificate that is served; and it counts agents,
connections by state and path, latency, unfinished runs, audit events that are not
delivered, and looks for configuration that has drifted apart.

It only reads. With everything dead it still gives a whole report, within 6 s or
--timeout.

Exit status: 0 healthy, 3 a part failed, 4 a part could not be determined.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runStatus(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.BoolVarP(&o.watch, "watch", "w", false, "go on until interrupted: a live screen, or one line a change where there is no terminal")
	flags.DurationVar(&o.every, "every", 2*time.Second, "with --watch: `TIME` from one status to the next")
	flags.StringVar(&o.save, "save", "", "write the status to this `FILE`, for --diff")
	flags.StringVar(&o.diff, "diff", "", "show what has changed since this `FILE` was saved")
	failOnFlag(cmd, &o.failOn)
	offer(cmd, "jsonl", "junit", "prom")
	return cmd
}

func (o statusOptions) check(a *app) error {
	switch {
	case o.watch && (o.save != "" || o.diff != ""):
		return usageError("--watch does not go with --save or --diff")
	case o.watch && a.outfile != "":
		return usageError("--watch does not go with --outfile: redirect the output")
	case o.watch && a.output != "text" && a.output != "jsonl":
		return usageError("--watch: only as text or jsonl")
	case o.watch && (o.every < 100*time.Millisecond || o.every > time.Hour):
		return usageError("--every %s: not between 100ms and 1h", o.every)
	}
	return nil
}

// statusDoc is the JSON of a status.
type statusDoc struct {
	runbooks.Status
	ExitCode int                `json:"exit_code"`
	Changes  *[]runbooks.Change `json:"changes,omitempty"` // with --diff
	Since    *time.Time         `json:"since,omitempty"`
}

func (a *app) runStatus(ctx context.Context, o statusOptions) error {
	if err := o.check(a); err != nil {
		return err
	}
	var before *runbooks.Status
	if o.diff != "" {
		var err error
		if before, err = readStatus(o.diff); err != nil {
			return err
		}
	}
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	if o.watch {
		return a.watchStatus(ctx, s, o)
	}
	status, err := a.takeStatus(ctx, s)
	if err != nil {
		return err
	}
	doc := statusDoc{Status: status, ExitCode: verdictCode(status.Verdict, o.failOn)}
	if before != nil {
		changes := runbooks.Compare(*before, status)
		doc.Changes, doc.Since = &changes, &before.At
	}
	if o.save != "" {
		if err := a.saveStatus(o.save, status); err != nil {
			return err
		}
	}
	if err := a.showResults(results{
		doc: doc, text: func(p *page) { p.status(doc) }, lines: statusLines(status), code: doc.ExitCode,
		suite: func() suite { return statusSuite(status) }, prom: func() []family { return statusFamilies(status) },
	}); err != nil {
		return err
	}
	return withCode(doc.ExitCode)
}

// takeStatus ends at the limit, or at --timeout, with what was found out.
func (a *app) takeStatus(ctx context.Context, s *session) (runbooks.Status, error) {
	limit := statusLimit
	if a.timeout > 0 && a.timeout < limit {
		limit = a.timeout
	}
	// Not ctx itself: --timeout ends a status with a report, not in an error.
	bounded, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), errInterrupted) {
			cancel()
		}
	})
	defer stop()
	status := s.engine.Status(bounded)
	if cause := context.Cause(ctx); errors.Is(cause, errInterrupted) {
		return status, cause
	}
	return status, nil
}

// status is one screen: a line a part, the verdict last.
func (p *page) status(d statusDoc) {
	p.line("mesh %s at %s, asked in %.2f s\n", d.Mesh, d.At.Local().Format("2006-01-02 15:04:05"), d.TookMS/1000)
	for _, part := range d.Parts {
		p.part(part)
	}
	if d.Changes != nil {
		p.line("\nsince %s:", d.Since.Local().Format("2006-01-02 15:04:05"))
		p.changes(*d.Changes)
	}
	p.line("\n%s %s", p.verdict(d.Verdict), statusText[d.Verdict])
}

func (p *page) part(part runbooks.Part) {
	name := part.Kind
	if part.Name != "" {
		name += " " + shortName(part)
	}
	p.line("%s %-24s %s", p.verdict(part.Verdict), name, part.Summary)
	if part.Hint != "" && part.Verdict != probes.Pass && part.Verdict != probes.Skip {
		p.line("        %s %s", p.dim("hint:"), part.Hint)
	}
}

// shortName leaves out of a URI what is the same for all of the kind.
func shortName(part runbooks.Part) string {
	return strings.TrimPrefix(strings.TrimSuffix(part.Name, "?transport=udp"), part.Kind+":")
}

var statusText = map[probes.Verdict]string{
	probes.Pass:    "the mesh is well",
	probes.Warn:    "the mesh works, with warnings",
	probes.Fail:    "a part of the mesh does NOT work",
	probes.Unknown: "whether the whole mesh works could not be determined",
	probes.Skip:    "nothing was asked",
}

func (p *page) changes(changes []runbooks.Change) {
	if len(changes) == 0 {
		p.line("  nothing has changed")
	}
	for _, c := range changes {
		p.line("  %s %s: %s", c.Part, c.What, c.Text())
	}
}

func statusLines(s runbooks.Status) []any {
	lines := make([]any, 0, len(s.Parts)+1)
	for _, part := range s.Parts {
		lines = append(lines, part)
	}
	return append(lines, map[string]any{"mesh": s.Mesh, "at": s.At, "verdict": s.Verdict, "took_ms": s.TookMS})
}

func statusSuite(s runbooks.Status) suite {
	all := suite{name: "meshctl status", took: time.Duration(s.TookMS * float64(time.Millisecond))}
	for _, part := range s.Parts {
		name := part.Name
		if name == "" {
			name = part.Kind
		}
		all.cases = append(all.cases, testCase{
			class: "status." + part.Kind, name: name, verdict: part.Verdict, summary: part.Summary, hint: part.Hint,
			took: time.Duration(part.TookMS * float64(time.Millisecond)),
		})
	}
	return all
}

// statusFamilies: a part that could not be determined has no value that could
// be taken for one.
func statusFamilies(s runbooks.Status) []family {
	healthy := family{name: "meshctl_status_healthy", help: "1: the part works, 0: it failed. A part that could not be determined is in meshctl_status_unknown."}
	unknown := family{name: "meshctl_status_unknown", help: "1: whether the part works could not be determined."}
	measured := family{name: "meshctl_status_measured", help: "What was measured of a part, by name."}
	for _, part := range s.Parts {
		labels := []string{"kind", part.Kind, "name", part.Name}
		switch part.Verdict {
		case probes.Pass, probes.Warn:
			healthy.samples = append(healthy.samples, sample{1, labels})
		case probes.Fail:
			healthy.samples = append(healthy.samples, sample{0, labels})
		case probes.Unknown:
			unknown.samples = append(unknown.samples, sample{1, labels})
		}
		for _, name := range sortedKeys(part.Measured) {
			measured.samples = append(measured.samples, sample{part.Measured[name], append([]string{"measure", name}, labels...)})
		}
	}
	return []family{healthy, unknown, measured}
}
