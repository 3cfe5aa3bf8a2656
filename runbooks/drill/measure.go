package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks"
	"github.com/infrafabric/meshctl/witnessclient"
)

// MeshOf is the lab as a mesh that runbooks work on.
func MeshOf(l *lab.Lab, scale float64) (*runbooks.Mesh, error) {
	m := &runbooks.Mesh{
		Name: "lab", EnvFile: l.EnvFile, RelayOnly: true, Loopback: true,
		Agent: mesh.LabTiming(), Thresholds: runbooks.DefaultThresholds(), Timings: runbooks.DefaultTimings(),
		TURN: probes.Credentials{Username: l.Username, Password: l.Password},
	}
	m.Timings.Scale = scale
	for _, s := range l.Signaling {
		m.SignalingURLs = append(m.SignalingURLs, s.URL)
	}
	var err error
	if m.Controller, err = control.New(control.Options{URL: l.ControllerURL, AdminKey: l.AdminKey}); err != nil {
		return nil, err
	}
	if m.SignalingStats, err = control.New(control.Options{Service: "signaling server", URL: l.SignalingHTTPURL}); err != nil {
		return nil, err
	}
	m.Witness, err = witnessclient.New(witnessclient.Options{URL: l.WitnessURL, APIKey: l.WitnessKey})
	return m, err
}

func closeMesh(m *runbooks.Mesh) {
	m.Controller.Close()
	m.SignalingStats.Close()
	m.Witness.Close()
}

// steadyFor is how long traffic must flow between all pairs before a fault.
const steadyFor = 2 * time.Second

// steady proves the steady state and returns the links there are.
func (d *drill) steady(ctx context.Context) ([]string, error) {
	if err := d.lab.Steady(ctx, steadyFor); err != nil {
		return nil, fmt.Errorf("prove steady state: %w", err)
	}
	stats, err := d.engine.Mesh.Controller.Stats(ctx)
	if err != nil {
		return nil, fmt.Errorf("prove steady state: %w", err)
	}
	var links []string
	for _, l := range stats.Connections {
		links = append(links, l.Local+"->"+l.Peer)
	}
	d.moment("steady_state", fmt.Sprintf("%d links connected, messages arrive on all of them", len(links)))
	return links, nil
}

// breakAndMeasure kills the TURN server and waits until the agents have
// recovered by themselves, or the objective is missed.
func (d *drill) breakAndMeasure(ctx context.Context) error {
	fault := lab.Fault{Name: "turn-killed", Target: d.lab.TURN[0].Name}
	d.fault = time.Now()
	if err := d.lab.Inject(ctx, fault); err != nil {
		return fmt.Errorf("inject fault: %w", err)
	}
	d.moment("fault_injected", fmt.Sprintf("%s (%s) killed", fault.Target, d.failed()))
	recovered, err := d.awaitAutomatic(ctx)
	if err != nil {
		return err
	}
	d.report.Automatic.DetectedMS = d.detected(ctx)
	if !recovered {
		d.moment("automatic_recovery_missed", fmt.Sprintf("not within %s", runbooks.AutomaticObjectiveA))
		return nil
	}
	d.measurePairs()
	d.moment("automatic_recovery", fmt.Sprintf("messages arrive between all pairs again, %d ms after the fault", *d.report.Automatic.RecoveredMS))
	return nil
}

// awaitAutomatic polls until no link is on the dead server and messages sent
// after the fault arrive between all pairs.
func (d *drill) awaitAutomatic(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, runbooks.AutomaticObjectiveA)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for !d.recoveredNow(ctx) {
		select {
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
				return false, cause
			}
			return false, nil
		case <-ticker.C:
		}
	}
	return true, nil
}

func (d *drill) recoveredNow(ctx context.Context) bool {
	stats, err := d.engine.Mesh.Controller.Stats(ctx)
	if err != nil {
		return false
	}
	for _, l := range stats.Connections {
		server, known := l.Relay()
		uri, err := wire.ParseServerURI(server)
		if l.State != wire.StateConnected || !known || err != nil || uri.Matches(d.failed()) {
			return false
		}
	}
	return d.lab.Steady(ctx, 0) == nil && !slices.ContainsFunc(d.lab.Outages(d.fault), func(p lab.PairOutage) bool { return !p.Recovered })
}

// measurePairs takes each pair's outage from what its receiver saw: the last
// message before, the first after.
func (d *drill) measurePairs() {
	var last time.Time
	for _, p := range d.lab.Outages(d.fault) {
		pair := Pair{From: p.From, To: p.To, LastBeforeMS: p.LastBefore.Sub(d.fault).Milliseconds()}
		if p.Recovered {
			after, outage := p.FirstAfter.Sub(d.fault).Milliseconds(), p.Outage.Milliseconds()
			pair.FirstAfterMS, pair.OutageMS = &after, &outage
		}
		d.report.Pairs = append(d.report.Pairs, pair)
		if p.FirstAfter.After(last) {
			last = p.FirstAfter
		}
	}
	ms := max(last.Sub(d.fault).Milliseconds(), 0)
	d.report.Automatic.RecoveredMS = &ms
	d.report.Automatic.Met = ms <= d.report.Automatic.ObjectiveMS
}

// detected is when the first agent said that it had noticed.
func (d *drill) detected(ctx context.Context) *int64 {
	events, err := d.engine.Mesh.Witness.Query(ctx, witnessclient.Query{
		Match: map[string]any{"event": map[string]any{"regex": "^(connection_state_changed|turn_fallback_initiated)$"}},
		From:  d.fault.UTC().Format(time.RFC3339Nano), To: "now",
	})
	if err != nil {
		return nil
	}
	var first *int64
	for _, e := range events {
		state := e.Metadata["state"]
		ms := e.Timestamp.Sub(d.fault).Milliseconds()
		if state == wire.StateConnected || state == wire.StateConnecting || ms < 0 || (first != nil && ms >= *first) {
			continue
		}
		first = &ms
	}
	return first
}

// judge is green only when every part is.
func (d *drill) judge(ctx context.Context) {
	count := d.lab.Delivery()
	d.report.Delivery = Delivery{count.Sent, count.Received, count.Lost, count.Duplicated, count.Reordered, count.Corrupt}
	verdict := d.report.Validation.Verdict
	switch {
	case d.LeaveFault:
		verdict, d.report.Reason = verdict.Worse(probes.Fail), "the fault was left: nothing was recovered"
		d.report.Audit = d.report.Validation.Audit
	case !d.report.Automatic.Met:
		verdict, d.report.Reason = verdict.Worse(probes.Fail), "the agents did not recover in time"
	case !d.report.Manual.Met:
		verdict, d.report.Reason = verdict.Worse(probes.Fail), "the recovery by hand did not work in time"
	case verdict != probes.Pass:
		d.report.Reason = "the validation says " + string(verdict)
	}
	if d.report.Run != nil {
		d.judgeEvidence(ctx, &verdict)
	}
	d.report.Verdict = verdict
	d.moment("drill_"+string(verdict), d.report.Reason)
}

func (d *drill) judgeEvidence(ctx context.Context, verdict *probes.Verdict) {
	evidence, err := d.engine.VerifyEvidence(ctx, []string{*d.report.Run}, true)
	if err != nil {
		*verdict, d.report.Reason = verdict.Worse(probes.Unknown), err.Error()
		return
	}
	e := evidence[0]
	d.report.Audit = runbooks.Audit{Events: e.Events, Delivered: e.Acked, Chain: e.Chain, Problem: e.Reason}
	if e.Verdict != probes.Pass {
		*verdict, d.report.Reason = verdict.Worse(e.Verdict), "the evidence: "+e.Summary
	}
}
