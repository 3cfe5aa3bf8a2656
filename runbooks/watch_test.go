package runbooks

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/probes"
)

// samples makes verdicts from letters: p, w, f and u.
func samples(letters string) []Sample {
	names := map[rune]probes.Verdict{'p': probes.Pass, 'w': probes.Warn, 'f': probes.Fail, 'u': probes.Unknown}
	var list []Sample
	for i, letter := range letters {
		list = append(list, Sample{names[letter], fmt.Sprintf("sample %d", i+1)})
	}
	return list
}

// The last samples decide; too little data is unknown and never a pass.
func TestJudgeWindow(t *testing.T) {
	for _, tt := range []struct {
		name, samples string
		want          probes.Verdict
		summary       string
	}{
		{"all pass", "pppppp", probes.Pass, "sample 6 (6 samples, 0 failed, 0 without data)"},
		{"fails at first and recovers", "ffffppp", probes.Warn, "7 samples, 4 failed"},
		{"passes at first and fails", "ppppppf", probes.Fail, "sample 7"},
		{"fails within the last three", "pppppfpp", probes.Fail, "sample 6"},
		{"warns at the end", "pppppw", probes.Warn, "sample 6"},
		{"warned once", "wppppp", probes.Pass, ""},
		{"fail counts for more than warn", "pppfww", probes.Fail, "sample 4"},
		{"two without data early", "uupppp", probes.Pass, "2 without data"},
		{"three without data early", "uuuppp", probes.Unknown, "too little data: 6 samples, 0 failed, 3 without data"},
		{"no data at the end", "pppppu", probes.Unknown, "too little data"},
		{"no data, but a failure at the end", "uuuupfp", probes.Fail, "sample 6"},
		{"nothing but failures", "ffffff", probes.Fail, "6 failed"},
		{"no data at all", "uuuuuu", probes.Unknown, "too little data"},
		{"too few", "pp", probes.Unknown, "too little data: 2 samples"},
		{"too few, and one failed", "pf", probes.Fail, "sample 2"},
		{"none", "", probes.Unknown, "too little data: 0 samples"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &Watch{NeedInARow: 3, MaxUnknown: 2}
			got := w.judge(samples(tt.samples))
			if got.Verdict != tt.want || !strings.Contains(got.Summary, tt.summary) {
				t.Errorf("got %+v, want %s %q", got, tt.want, tt.summary)
			}
		})
	}
}

// watched runs a watch in fake time and gives its end and how long it took.
func watched(t *testing.T, s Step, sample func(n int) Sample) (end Sample, took time.Duration, notes []Note, taken int) {
	t.Helper()
	s.Watch.Sample = func(context.Context) Sample { taken++; return sample(taken) }
	r := &run{Engine: &Engine{Notify: func(n Note) { notes = append(notes, n) }}}
	begun := time.Now()
	end = r.watch(t.Context(), s, nil)
	return end, time.Since(begun), notes, taken
}

func monitorStep() Step {
	return Step{ID: "monitor", Timeout: 16 * time.Minute, Watch: &Watch{Every: 10 * time.Second, For: 5 * time.Minute, NeedInARow: 3, MaxUnknown: 2}}
}

func TestWatchTakesItsWholeWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end, took, notes, taken := watched(t, monitorStep(), func(int) Sample { return Sample{probes.Pass, "fine"} })
		if end.Verdict != probes.Pass || took != 5*time.Minute || taken != 31 {
			t.Errorf("%+v after %s and %d samples", end, took, taken)
		}
		if first := notes[0]; first.Step != "monitor" || first.Text != "pass: fine" || first.Left != 5*time.Minute {
			t.Errorf("first note %+v", first)
		}
	})
}

// A hole in the window, as a suspended laptop makes it, starts it again: what
// was before says nothing about the time nobody looked.
func TestGapRestartsTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end, took, notes, _ := watched(t, monitorStep(), func(n int) Sample {
			if n == 20 { // in the fourth minute
				<-time.After(2 * time.Minute)
			}
			return Sample{probes.Pass, "fine"}
		})
		// The hole ends at 190 s + 120 s; a whole window follows, the tick that
		// was missed at its beginning.
		if end.Verdict != probes.Pass || took != 190*time.Second+2*time.Minute+5*time.Minute {
			t.Errorf("%+v after %s", end, took)
		}
		again := 0
		for _, n := range notes {
			if strings.Contains(n.Text, "no sample for 2m10s: the window begins again") {
				again++
			}
		}
		if again != 1 || !strings.Contains(end.Summary, "32 samples") {
			t.Errorf("%d restarts, %q", again, end.Summary)
		}
	})
}

// After a hole, what was changed is looked at again before the window begins.
func TestGapLooksAtTheChangesAgain(t *testing.T) {
	for _, gone := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s, taken, looked := monitorStep(), 0, 0
			s.Watch.Sample = func(context.Context) Sample {
				if taken++; taken == 5 {
					<-time.After(time.Hour)
				}
				return Sample{probes.Pass, "fine"}
			}
			s.Timeout = 3 * time.Hour
			end := (&run{Engine: &Engine{}}).watch(t.Context(), s, func(context.Context) error {
				if looked++; gone {
					return errBroken
				}
				return nil
			})
			want := probes.Pass
			if gone {
				want = probes.Fail
			}
			if end.Verdict != want || looked != 1 || gone != strings.Contains(end.Summary, "nobody looked for 1h0m10s, and since then it broke") {
				t.Errorf("%+v, looked %d times", end, looked)
			}
		})
	}
}

func TestChangesStand(t *testing.T) {
	t.Parallel()
	e, _ := witnessMesh(t, lab.Options{})
	one, untouched := &lamp{}, &lamp{}
	rec := fakeRecovery(one.step("one"), untouched.step("untouched"))
	e.knows(rec)
	expect(t, interruptIn(t, e, rec, "one"), Interrupted)
	r, err := e.rebuild(rec.Run)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if err := r.changesStand(t.Context()); err != nil {
		t.Error(err)
	}
	one.blinded = errBroken
	if err := r.changesStand(t.Context()); err != nil {
		t.Errorf("what cannot be read proves nothing: %v", err)
	}
	one.blinded, one.on = nil, false
	if err := r.changesStand(t.Context()); err == nil || err.Error() != "one is not so any more: on: false" {
		t.Errorf("got error %v", err)
	}
}

// A slow sample is no hole.
func TestSlowSamplesAreNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end, took, _, _ := watched(t, monitorStep(), func(int) Sample {
			<-time.After(5 * time.Second)
			return Sample{probes.Pass, "fine"}
		})
		if end.Verdict != probes.Pass || took > 5*time.Minute+15*time.Second {
			t.Errorf("%+v after %s", end, took)
		}
	})
}

// Without a whole window before the step's time is over nothing is known.
func TestWatchWithoutWholeWindowIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end, _, _, _ := watched(t, monitorStep(), func(n int) Sample {
			if n%12 == 0 {
				<-time.After(2 * time.Minute)
			}
			return Sample{probes.Pass, "fine"}
		})
		if end.Verdict != probes.Unknown || !strings.Contains(end.Summary, "no whole window of 5m0s") {
			t.Errorf("got %+v", end)
		}
	})
}

// Even the shortest window takes as many samples as have to agree.
func TestWatchOfNoTimeTakesEnoughSamples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := Step{ID: "monitor", Timeout: 30 * time.Second, Watch: &Watch{Every: 100 * time.Millisecond, NeedInARow: 3, MaxUnknown: 2}}
		end, took, _, taken := watched(t, s, func(int) Sample { return Sample{probes.Pass, "fine"} })
		if end.Verdict != probes.Pass || taken != 3 || took != 200*time.Millisecond {
			t.Errorf("%+v after %d samples and %s", end, taken, took)
		}
	})
}

func TestWatchEndsAtAnInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
		defer cancel()
		s := monitorStep()
		s.Watch.Sample = func(context.Context) Sample { return Sample{probes.Pass, "fine"} }
		begun := time.Now()
		end := (&run{Engine: &Engine{}}).watch(ctx, s, nil)
		if took := time.Since(begun); end.Verdict != probes.Unknown || took != 45*time.Second {
			t.Errorf("%+v after %s", end, took)
		}
	})
}

// An apply under way has a grace after an interrupt, and no more.
func TestGraceContext(t *testing.T) {
	for _, tt := range []struct {
		name           string
		timeout, grace time.Duration
		ends           time.Duration // after the interrupt at 10 s
	}{
		{"the grace ends it", time.Minute, 5 * time.Second, 5 * time.Second},
		{"its own time ends it", 12 * time.Second, 5 * time.Second, 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, interrupt := context.WithCancel(t.Context())
				ctx, cancel := graceContext(parent, tt.timeout, tt.grace)
				defer cancel()
				<-time.After(10 * time.Second)
				interrupt()
				begun := time.Now()
				<-ctx.Done()
				if took := time.Since(begun); took != tt.ends {
					t.Errorf("ended %s after the interrupt, want %s", took, tt.ends)
				}
			})
		})
	}
}

// A fact is waited for until it holds, and the wait ends with the step's time.
func TestAwait(t *testing.T) {
	for _, tt := range []struct {
		name string
		from time.Duration // when it holds; -1: never
		took time.Duration
		err  string
	}{
		{"at once", 0, 0, ""},
		{"after a while", 3 * time.Second, 3 * time.Second, ""},
		{"never", -1, 10200 * time.Millisecond, "not so after 10s: not yet"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				s := Step{ID: "one", Timeout: 10 * time.Second, Observe: func(context.Context) (Observation, error) {
					return Observation{Met: tt.from >= 0 && time.Since(begun) >= tt.from, Summary: "not yet"}, nil
				}}
				o, err := (&run{Engine: &Engine{}}).await(t.Context(), s)
				took := time.Since(begun)
				if (tt.err == "") != (err == nil) || (err != nil && err.Error() != tt.err) || o.Met != (err == nil) || took != tt.took {
					t.Errorf("%+v, %v after %s", o, err, took)
				}
			})
		})
	}
}
