package runbooks

import (
	"context"
	"fmt"
	"time"

	"github.com/infrafabric/meshctl/probes"
)

// watch samples over a window. The last samples decide, because a mesh may
// need a moment; a window with too little data is unknown, and one with a
// hole (a suspended laptop) begins again, after stillSo has looked whether what
// was changed is still there (nil: nothing to look at).
func (r *run) watch(ctx context.Context, s Step, stillSo func(context.Context) error) Sample {
	w := s.Watch
	deadline := time.Now().Add(s.Timeout)
	began, previous := time.Now(), time.Now()
	var samples []Sample
	ticker := time.NewTicker(w.Every)
	defer ticker.Stop()
	for {
		sample := w.Sample(ctx)
		now := time.Now()
		// Round drops the monotonic reading, which stands still during a suspend.
		if gap := now.Round(0).Sub(previous.Round(0)); gap > 2*w.Every+s.sampleTime() && len(samples) > 0 {
			r.note(s.ID, fmt.Sprintf("no sample for %s: the window begins again", gap.Round(time.Second)), 0)
			if stillSo != nil {
				if err := stillSo(ctx); err != nil {
					return Sample{probes.Fail, fmt.Sprintf("nobody looked for %s, and since then %v", gap.Round(time.Second), err)}
				}
			}
			now = time.Now()
			began, samples = now, nil
		}
		previous = now
		samples = append(samples, sample)
		left := w.For - now.Round(0).Sub(began.Round(0))
		r.note(s.ID, string(sample.Verdict)+": "+sample.Summary, max(left, 0))
		verdict := w.judge(samples)
		switch whole := left <= 0 && len(samples) >= w.NeedInARow; {
		case whole || (now.After(deadline) && verdict.Verdict == probes.Fail):
			return verdict
		case now.After(deadline):
			return Sample{probes.Unknown, fmt.Sprintf("no whole window of %s within %s", w.For, s.Timeout)}
		}
		select {
		case <-ctx.Done():
			return Sample{Verdict: probes.Unknown, Summary: "interrupted"}
		case <-ticker.C:
		}
	}
}

// changesStand looks at every change of this run again: while nobody looked,
// somebody else may have taken it back. What cannot be read proves nothing.
func (r *run) changesStand(ctx context.Context) error {
	intents := r.intents()
	for _, s := range r.rec.Steps {
		if _, applied := intents[s.ID]; !applied || r.begun(s.ID).takenAsDone != "" {
			continue
		}
		if o, err := r.observe(ctx, s); err == nil && !o.Met && o.Blind == "" {
			return fmt.Errorf("%s is not so any more: %s", s.ID, o.Summary)
		}
	}
	return nil
}

// sampleTime is how long one sample may take before it counts as a hole.
func (s Step) sampleTime() time.Duration { return min(s.Timeout/10, 10*time.Second) }

// judge is the verdict of a whole window.
func (w *Watch) judge(samples []Sample) Sample {
	unknown, failed := 0, 0
	for _, s := range samples {
		switch s.Verdict {
		case probes.Unknown:
			unknown++
		case probes.Fail:
			failed++
		}
	}
	counted := fmt.Sprintf("%d samples, %d failed, %d without data", len(samples), failed, unknown)
	worst := Sample{Verdict: probes.Pass}
	for _, s := range samples[max(0, len(samples)-w.NeedInARow):] {
		if s.Verdict.Worse(worst.Verdict) != worst.Verdict {
			worst = s
		}
	}
	switch {
	case worst.Verdict == probes.Fail:
		return Sample{probes.Fail, fmt.Sprintf("%s (%s)", worst.Summary, counted)}
	case unknown > w.MaxUnknown || worst.Verdict == probes.Unknown || len(samples) < max(w.NeedInARow, 1):
		return Sample{probes.Unknown, "too little data: " + counted}
	case worst.Verdict == probes.Warn:
		return Sample{probes.Warn, fmt.Sprintf("%s (%s)", worst.Summary, counted)}
	case failed > 0: // it recovered, and was not well all the time
		return Sample{probes.Warn, fmt.Sprintf("%s (%s)", samples[len(samples)-1].Summary, counted)}
	}
	return Sample{probes.Pass, fmt.Sprintf("%s (%s)", samples[len(samples)-1].Summary, counted)}
}
