package runbooks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/infrafabric/meshctl/witnessclient"
)

// Flushed is what a flush delivered.
type Flushed struct {
	Sent         int      `json:"sent"`
	AlreadyThere int      `json:"already_there"`
	Left         int      `json:"left"`
	Problems     []string `json:"problems"`
}

// Flush delivers what earlier runs could not, journal by journal. One that
// cannot be delivered does not keep the others.
func (e *Engine) Flush(ctx context.Context) (Flushed, error) {
	journals, err := witnessclient.List(RunsDir(e.StateDir))
	flushed := Flushed{Problems: []string{}}
	if err != nil {
		return flushed, fmt.Errorf("flush: %w", err)
	}
	for _, j := range journals {
		if j.Err != nil {
			flushed.Problems = append(flushed.Problems, j.Err.Error())
			continue
		}
		if j.Unacked == 0 {
			continue
		}
		e.note("flush", j.Stamp.Run, 0)
		d, err := e.flushOne(ctx, strings.TrimSuffix(filepath.Base(j.Path), ".jsonl"))
		flushed.Sent, flushed.AlreadyThere = flushed.Sent+d.Sent, flushed.AlreadyThere+d.AlreadyThere
		if err != nil {
			d.Left = j.Unacked
			flushed.Problems = append(flushed.Problems, fmt.Sprintf("%s: %v", j.Stamp.Run, err))
		}
		flushed.Left += d.Left
		if ctx.Err() != nil {
			return flushed, context.Cause(ctx)
		}
	}
	return flushed, nil
}

func (e *Engine) flushOne(ctx context.Context, run string) (witnessclient.Delivery, error) {
	journal, err := e.openJournal(run)
	if err != nil {
		return witnessclient.Delivery{}, err
	}
	defer journal.Close() //nolint:errcheck // every append was synced already
	d, err := witnessclient.Deliver(ctx, e.Mesh.Witness, journal)
	return d, errors.Join(err, d.LastError)
}

// LogEvent journals one event by itself, as a run of the command that it is
// of, and hands it to the witness.
func (e *Engine) LogEvent(ctx context.Context, command string, event witnessclient.Event) (run string, audit Audit, err error) {
	stamp := e.Stamp
	stamp.Run = NewRunID()
	journal, err := e.createJournal(stamp)
	if err != nil {
		return "", Audit{}, err
	}
	r := e.newRun(nil, journal)
	defer r.close()
	for _, ev := range []witnessclient.Event{
		{Name: witnessclient.RunStarted, Metadata: fields(startRecord{Runbook: command, Mesh: e.Mesh.Name, PID: os.Getpid()})},
		event,
		{Name: witnessclient.RunFinished, Metadata: map[string]any{"outcome": string(Done)}},
	} {
		if err := r.event(ev); err != nil {
			return stamp.Run, Audit{}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return stamp.Run, Audit{}, err
	}
	return stamp.Run, r.deliver(), nil
}
