package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks"
)

// maxProbes bounds how many targets are asked at one time: each needs some
// sockets, and a process has a thousand.
const maxProbes = 256

// probePlan is what to ask. A task is one target; it can yield several
// reports, such as one for each transport and address.
type probePlan struct {
	tasks  []func(ctx context.Context) []probed
	expect time.Duration // at most, for those who wait
	close  func()
}

// probeRound is the outcome of asking everything once.
type probeRound struct {
	Verdict  probes.Verdict `json:"verdict"`
	ExitCode int            `json:"exit_code"`
	Reports  []probed       `json:"reports"`

	took time.Duration
	at   time.Time // when it ended, with --every
}

// probed is a report as it is shown.
type probed struct {
	probes.Report
	Address    string  `json:"address"` // "" when none was found
	DurationMS float64 `json:"duration_ms"`
}

func (p probePlan) run(ctx context.Context, notes *progress) probeRound {
	started := time.Now()
	all := make([][]probed, len(p.tasks))
	var done atomic.Int64
	stop := p.watch(notes, &done)
	var group errgroup.Group
	group.SetLimit(maxProbes)
	for i, task := range p.tasks {
		group.Go(func() error {
			all[i] = task(ctx)
			done.Add(1)
			return nil
		})
	}
	_ = group.Wait() // no task fails: what went wrong is in its reports
	stop()
	round := probeRound{Verdict: probes.Skip, Reports: []probed{}, took: time.Since(started)}
	for _, reports := range all {
		for _, r := range reports {
			round.Verdict = round.Verdict.Worse(r.Verdict)
			round.Reports = append(round.Reports, r)
		}
	}
	if len(round.Reports) == 0 {
		round.Verdict = probes.Unknown
	}
	return round
}

// newProbed takes the address from where the probe went, else from what it
// says.
func newProbed(r probes.Report, server netip.AddrPort) probed {
	p := probed{Report: r, DurationMS: milliseconds(r.Took)}
	if server.IsValid() {
		p.Address = server.String()
	}
	for i, f := range p.Findings {
		if p.Address == "" {
			p.Address = f.Fact("address")
		}
		if f.Facts == nil {
			p.Findings[i].Facts = []probes.Fact{}
		}
	}
	return p
}

// watch shows that probes go on, when they last for more than a second.
func (p probePlan) watch(notes *progress, done *atomic.Int64) (stop func()) {
	ended, deadline := make(chan struct{}), time.Now().Add(p.expect)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ended:
				notes.close()
				return
			case <-ticker.C:
				notes.note(runbooks.Note{Text: fmt.Sprintf("probing: %d of %d targets done", done.Load(), len(p.tasks)), Left: max(time.Until(deadline), time.Second)})
			}
		}
	})
	return func() { close(ended); watcher.Wait() }
}
