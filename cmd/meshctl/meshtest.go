package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/runbooks"
)

type meshTestOptions struct {
	agents   int
	duration time.Duration
	rate     float64
	size     int
	path     string
	eachTURN bool
	failOn   string
}

func newMeshTestCmd(a *app) *cobra.Command {
	o := meshTestOptions{path: runbooks.AnyPath}
	cmd := &cobra.Command{
		Use: "test", Short: "Send messages between throw-away agents and count what arrives",
		Long: `test registers a few agents of its own (meshctl-RUN-N), connects all of them with
each other as agents of this mesh connect, sends numbered and hashed messages both
ways, counts what is lost, duplicated, reordered or corrupt, and leaves. It never
talks to other agents. What it will cost is said before. The worst direction
decides the verdict; the limits are those of the configuration (thresholds).

--each-turn runs the test once for every TURN server, through that server alone.

Exit status: 0 delivered, 3 not delivered well or no agent can join, 4 could not be
determined (or --timeout came first), 130 interrupted: what was measured until
then is shown.`,
		Example: `  meshctl mesh test --agents 5 --duration 1m --rate 20 --size 1024
  meshctl mesh test --each-turn --duration 5s --output junit`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runMeshTest(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.IntVar(&o.agents, "agents", 3, "`NUMBER` of agents, 2 to 16")
	flags.DurationVar(&o.duration, "duration", 30*time.Second, "send for this `LONG`, at most 10m")
	flags.Float64Var(&o.rate, "rate", 10, "`MESSAGES` a second from each agent to each other, 0.1 to 1000")
	flags.IntVar(&o.size, "size", 64, "`BYTES` of data in a message, up to 32768")
	choiceFlag(cmd, &o.path, "path", "`PATH` to take: any (as the mesh connects), direct or relay", runbooks.AnyPath, runbooks.DirectPath, runbooks.RelayPath)
	flags.BoolVar(&o.eachTURN, "each-turn", false, "test every TURN server on its own")
	failOnFlag(cmd, &o.failOn)
	offer(cmd, "junit")
	return cmd
}

// maxTestMessages bounds what a test asks of the mesh and keeps in memory.
const maxTestMessages = 2_000_000

func (o meshTestOptions) check() error {
	switch {
	case o.agents < 2 || o.agents > 16:
		return usageError("--agents %d: not between 2 and 16", o.agents)
	case o.duration <= 0 || o.duration > 10*time.Minute:
		return usageError("--duration %s: more than nothing and at most 10m are possible", o.duration)
	case !(o.rate >= 0.1 && o.rate <= 1000):
		return usageError("--rate %v: not between 0.1 and 1000", o.rate)
	case o.size < 1 || o.size > mesh.MaxDeliverySize:
		return usageError("--size %d: not between 1 and %d", o.size, mesh.MaxDeliverySize)
	case o.eachTURN && o.path == runbooks.DirectPath:
		return usageError("--each-turn takes relayed paths, --path direct takes none")
	case o.messages() > maxTestMessages:
		return usageError("%d messages: at most %d; lower --agents, --rate or --duration", o.messages(), maxTestMessages)
	}
	return nil
}

// messages is how many are sent, for each TURN server with --each-turn.
func (o meshTestOptions) messages() int {
	return int(float64(o.agents*(o.agents-1)) * (o.rate*o.duration.Seconds() + 1))
}

func (a *app) runMeshTest(ctx context.Context, o meshTestOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	spec := runbooks.DeliverySpec{
		Run: runbooks.NewRunID(), Agents: o.agents, Duration: o.duration, Size: o.size,
		Interval: time.Duration(float64(time.Second) / o.rate), Path: o.path, EachTURN: o.eachTURN,
		Progress: func(turn string, p mesh.DeliveryProgress) { s.notes.note(testNote(turn, p)) },
	}
	s.notes.note(runbooks.Note{Text: o.cost(s.mesh.DeliveryJoin() + s.mesh.DeliverySetup())})
	parts, err := s.mesh.TestPaths(ctx, spec)
	s.notes.close()
	cut := ""
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errInterrupted):
		cut = "interrupted"
	case cause != nil:
		cut = fmt.Sprintf("not finished after %s (--timeout)", a.timeout)
	case err != nil:
		return &exitError{code: exitUnknown, err: err, hints: []string{"nothing was measured; meshctl status shows what does not answer"}}
	}
	doc := newDeliveryDoc(spec, parts, cut)
	code := verdictCode(doc.Verdict, o.failOn)
	switch {
	case cut == "interrupted":
		code = exitInterrupted
	case cut != "" && code == exitOK:
		code = exitUnknown // also with --fail-on fail: it has not been tested
	}
	if err := a.showResults(results{
		doc: doc, text: func(p *page) { p.delivery(doc) }, suite: func() suite { return deliverySuite(doc) }, code: code,
	}); err != nil {
		return err
	}
	return withCode(code)
}

// cost says before the test what it asks of the mesh.
func (o meshTestOptions) cost(setup time.Duration) string {
	each := ""
	if o.eachTURN {
		each = ", for each TURN server"
	}
	return fmt.Sprintf("%d agents, %d directions: %d messages with %d bytes of data each in %s, after at most %s for connecting%s",
		o.agents, o.agents*(o.agents-1), o.messages(), o.size, o.duration, setup, each)
}

func testNote(turn string, p mesh.DeliveryProgress) runbooks.Note {
	text := fmt.Sprintf("%s, %d sent, %d received", p.Phase, p.Sent, p.Received)
	if turn != "" {
		text = turn + ": " + text
	}
	return runbooks.Note{Text: text, Left: max(p.Left, time.Second)}
}
