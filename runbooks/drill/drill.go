// Package drill answers: does the recovery of a scenario really work, from the
// fault to the proof, and how long does it take? It breaks a whole mesh on
// loopback and recovers it with the same code that production uses.
package drill

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks"
	"github.com/infrafabric/meshctl/witnessclient"
)

// Scale shrinks the procedure's windows for a drill: five minutes are six
// seconds. The report says so.
const Scale = 0.02

// Options say how to drill.
type Options struct {
	Agents int
	// TURN is the backend of the lab's TURN servers: pion or coturn.
	TURN string
	// Dir keeps the evidence; "" uses a temporary directory.
	Dir string
	// LeaveFault skips the recovery by hand. Such a drill must not end well.
	LeaveFault bool
	Stamp      witnessclient.Stamp
	Notify     func(runbooks.Note)
	Check      func(username string, password secret.Secret) mesh.TURNCheck
}

// Moment is one line of the timeline.
type Moment struct {
	AtMS   int64  `json:"at_ms"`
	Event  string `json:"event"`
	Detail string `json:"detail"`
}

// Automatic is the recovery by the agents themselves.
type Automatic struct {
	DetectedMS  *int64 `json:"detected_ms"`
	RecoveredMS *int64 `json:"recovered_ms"`
	ObjectiveMS int64  `json:"objective_ms"`
	Met         bool   `json:"met"`
}

// Manual is the recovery by the runbook.
type Manual struct {
	RecoveredMS *int64 `json:"recovered_ms"`
	ObjectiveMS int64  `json:"objective_ms"`
	Met         bool   `json:"met"`
}

// Delivery counts the lab's own traffic at the receivers.
type Delivery struct {
	Sent       int `json:"sent"`
	Received   int `json:"received"`
	Lost       int `json:"lost"`
	Duplicated int `json:"duplicated"`
	Reordered  int `json:"reordered"`
	Corrupt    int `json:"corrupt"`
}

// Report is what a drill proved.
type Report struct {
	Scenario   string               `json:"scenario"`
	Verdict    probes.Verdict       `json:"verdict"`
	Run        *string              `json:"run"`
	FailoverID *string              `json:"failover_id"`
	Scale      float64              `json:"timings_scale"`
	Timeline   []Moment             `json:"timeline"`
	Automatic  Automatic            `json:"automatic"`
	Manual     Manual               `json:"manual"`
	Delivery   Delivery             `json:"delivery"`
	Audit      runbooks.Audit       `json:"audit"`
	Reason     string               `json:"reason,omitempty"`
	Pairs      []Pair               `json:"pairs"`
	Recovery   *runbooks.Result     `json:"recovery"`
	Validation *runbooks.Validation `json:"validation"`
}

// Pair is the outage of one direction between two agents, as its receiver saw
// it. Times count from the fault; null has not happened.
type Pair struct {
	From         string `json:"from"`
	To           string `json:"to"`
	LastBeforeMS int64  `json:"last_before_ms"`
	FirstAfterMS *int64 `json:"first_after_ms"`
	OutageMS     *int64 `json:"outage_ms"`
}

// drill is one drill under way.
type drill struct {
	Options
	lab     *lab.Lab
	engine  *runbooks.Engine
	started time.Time
	fault   time.Time
	report  Report
}

// RunA drills scenario A: a TURN server dies under traffic. The error is for
// a lab that could not be built; a recovery that did not work is a verdict.
func RunA(ctx context.Context, o Options) (Report, error) {
	d := &drill{Options: o, started: time.Now()}
	d.report = Report{
		Scenario: "A", Verdict: probes.Unknown, Scale: Scale, Timeline: []Moment{}, Pairs: []Pair{},
		Automatic: Automatic{ObjectiveMS: runbooks.AutomaticObjectiveA.Milliseconds()},
		Manual:    Manual{ObjectiveMS: runbooks.ManualObjectiveA.Milliseconds()},
	}
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "meshctl-drill-")
		if err != nil {
			return d.report, fmt.Errorf("start drill: %w", err)
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
		d.Dir = dir
	}
	l, err := lab.Start(ctx, lab.Options{Dir: filepath.Join(d.Dir, "lab"), Agents: o.Agents, TURN: o.TURN, Check: o.Check})
	if err != nil {
		return d.report, fmt.Errorf("start drill: %w", err)
	}
	defer l.Close() //nolint:errcheck // what is left is in a temporary directory
	d.lab = l
	if err := d.run(ctx); err != nil {
		return d.report, err
	}
	return d.report, nil
}

func (d *drill) run(ctx context.Context) error {
	m, err := MeshOf(d.lab, Scale)
	if err != nil {
		return err
	}
	defer closeMesh(m)
	d.engine = &runbooks.Engine{StateDir: filepath.Join(d.Dir, "state"), Mesh: m, Stamp: d.Stamp, Notify: d.Notify}
	d.moment("lab_started", fmt.Sprintf("%d agents, three %s TURN servers, relay only", len(d.lab.Agents), d.TURN))
	baseline, err := d.steady(ctx)
	if err != nil {
		return err
	}
	if err := d.breakAndMeasure(ctx); err != nil {
		return err
	}
	var subject *runbooks.Subject
	if d.LeaveFault {
		d.moment("recovery_skipped", "the fault is left as it is")
		subject = runbooks.NewSubject("", d.failed(), baseline, time.Now())
	} else if err := d.recover(ctx); err != nil {
		return err
	}
	if err := d.validate(ctx, subject); err != nil {
		return err
	}
	d.judge(ctx)
	return context.Cause(ctx)
}

func (d *drill) moment(event, detail string) {
	d.report.Timeline = append(d.report.Timeline, Moment{AtMS: time.Since(d.started).Milliseconds(), Event: event, Detail: detail})
	d.note(event + ": " + detail)
}

func (d *drill) note(text string) {
	if d.Notify != nil {
		d.Notify(runbooks.Note{Step: "drill", Text: text})
	}
}

// failed and spare are the server that dies and the one that replaces it.
func (d *drill) failed() string { return d.lab.TURN[0].URI.Address() }

func (d *drill) spare() string {
	for _, s := range d.lab.TURN {
		if !s.InRotation {
			return s.URI.String()
		}
	}
	return ""
}

// recover carries out the runbook as an operator would.
func (d *drill) recover(ctx context.Context) error {
	timings := d.engine.Mesh.Timings
	rec, err := runbooks.NewTurnRecover(d.engine.Mesh, runbooks.TurnRecoverParams{
		Failed: d.failed(), Replacement: d.spare(), Monitor: timings.Scaled(timings.Monitor),
	})
	if err != nil {
		return err
	}
	d.moment("recovery_started", fmt.Sprintf("turn recover --failed %s --replacement %s", d.failed(), d.spare()))
	result, err := d.engine.Run(ctx, runbooks.Request{Recovery: rec, Reason: "drill"})
	if err != nil {
		return err
	}
	d.report.Recovery, d.report.Run, d.report.FailoverID = &result, &result.Run, &result.FailoverID
	d.report.Audit = result.Audit
	if result.Outcome == runbooks.Done {
		ms := result.RecoveredAt.Sub(d.fault).Milliseconds()
		d.report.Manual.RecoveredMS, d.report.Manual.Met = &ms, ms <= d.report.Manual.ObjectiveMS
	}
	d.moment("recovery_"+string(result.Outcome), result.Reason)
	return context.Cause(ctx)
}

func (d *drill) validate(ctx context.Context, subject *runbooks.Subject) error {
	request := runbooks.ValidateRequest{Scenario: "A", Phase: runbooks.PhaseAll, Subject: subject}
	if d.report.FailoverID != nil {
		request.FailoverID = *d.report.FailoverID
	}
	if d.LeaveFault {
		request.Phase = runbooks.PhaseImmediate
	}
	v, err := d.engine.Validate(ctx, request)
	if err != nil {
		return err
	}
	d.report.Validation = &v
	d.moment("validation_"+string(v.Verdict), fmt.Sprintf("%d checks", len(v.Checks)))
	return context.Cause(ctx)
}
