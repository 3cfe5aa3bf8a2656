package runbooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// MeshAdaptName is the runbook that bounds what agents send.
const MeshAdaptName = "mesh adapt"

// MeshAdaptParams are the bounds.
type MeshAdaptParams struct {
	Bandwidth control.Bandwidth `json:"bandwidth"`
}

// meshAdapt sets the bounds of all agents at the controller.
type meshAdapt struct {
	mesh *Mesh
	want control.Bandwidth
}

// NewMeshAdapt bounds what agents send to each peer, or frees them again: what
// is called for when a path is slow or loses packets because it is full.
func NewMeshAdapt(m *Mesh, p MeshAdaptParams) (*Recovery, error) {
	if !(p.Bandwidth.Mbps >= 0 && p.Bandwidth.Mbps <= 10_000) {
		return nil, &ParamError{"max-mbps", fmt.Sprintf("%v is not between 0 and 10000", p.Bandwidth.Mbps)}
	}
	params, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	a := &meshAdapt{mesh: m, want: p.Bandwidth}
	return &Recovery{
		Run: NewRunID(), Runbook: MeshAdaptName, Params: params, Survey: a.survey,
		Restore: func(json.RawMessage) error { return nil },
		Steps: []Step{{
			ID: "set-bandwidth", Title: "tell the controller: " + bandwidthText(a.want), Effect: Idempotent, Timeout: m.Timings.StepDeadline,
			Observe: a.observe, Apply: a.apply, Undo: a.undo,
		}},
	}, nil
}

func buildMeshAdapt(m *Mesh, params json.RawMessage) (*Recovery, error) {
	var p MeshAdaptParams
	if err := json.Unmarshal(params, &p); err != nil {
		return nil, fmt.Errorf("read parameters: %w", err)
	}
	return NewMeshAdapt(m, p)
}

func bandwidthText(b control.Bandwidth) string {
	switch {
	case b.Mbps == 0 && !b.Adapt:
		return "no bound"
	case b.Adapt && b.Mbps == 0:
		return "follow the loss of each path"
	case b.Adapt:
		return fmt.Sprintf("at most %g Mbit/s to each peer, less where the path loses packets", b.Mbps)
	}
	return fmt.Sprintf("at most %g Mbit/s to each peer", b.Mbps)
}

func (a *meshAdapt) survey(ctx context.Context, _ []RunSummary) (Situation, error) {
	s := Situation{Facts: json.RawMessage(`{}`), Notes: []string{
		"data channels have no forward error correction: lost packets are sent again, which costs time and not content",
	}}
	now, offered, err := a.mesh.Controller.Bandwidth(ctx)
	var absent *control.NotOfferedError
	switch {
	case ctx.Err() != nil:
		return s, context.Cause(ctx)
	case err != nil && !errors.As(err, &absent):
		s.Problems = append(s.Problems, Problem{Summary: err.Error(), Hint: "repair the controller first"})
	case offered:
		s.GoalMet = now == a.want
	default:
		s.Notes = append(s.Notes, "the controller does not show the bounds it has: that they hold cannot be proved, and they cannot be taken back")
	}
	people, err := readPopulation(ctx, a.mesh.Controller)
	if err != nil {
		s.Problems = append(s.Problems, Problem{Summary: err.Error(), Hint: "without /stats nobody could tell whom this touches"})
		s.Blast = "every agent; how many links that is, is not known"
		return s, nil
	}
	s.Blast = fmt.Sprintf("every agent, %d links of which %d are connected; no link is cut", len(people.links), people.count(wire.StateConnected))
	return s, nil
}

func (a *meshAdapt) observe(ctx context.Context) (Observation, error) {
	now, offered, err := a.mesh.Controller.Bandwidth(ctx)
	var absent *control.NotOfferedError
	switch {
	case errors.As(err, &absent), err == nil && !offered:
		return Observation{Blind: "the controller does not show the bounds of agents (GET /config, bandwidth)", Diff: "+ " + bandwidthText(a.want)}, nil
	case err != nil:
		return Observation{}, err
	}
	before, err := json.Marshal(now)
	if err != nil {
		return Observation{}, err
	}
	o := Observation{Met: now == a.want, Summary: bandwidthText(now), Before: before, Match: string(before)}
	if !o.Met {
		o.Diff = fmt.Sprintf("- %s\n+ %s", bandwidthText(now), bandwidthText(a.want))
	}
	return o, nil
}

func (a *meshAdapt) apply(ctx context.Context, key string, _ Observation) error {
	return a.mesh.Controller.SetBandwidth(ctx, key, a.want)
}

func (a *meshAdapt) undo(ctx context.Context, key string, before json.RawMessage) error {
	var b control.Bandwidth
	if err := json.Unmarshal(before, &b); err != nil {
		return errors.New("the bounds before are not known")
	}
	return a.mesh.Controller.SetBandwidth(ctx, key, b)
}
