package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// The start of the program is what every TAB and every script pays.

func BenchmarkStartVersion(b *testing.B) { benchmarkStart(b, "version") }

func BenchmarkStartComplete(b *testing.B) { benchmarkStart(b, "__complete", "turn", "") }

// benchmarkStart reports the median wall time of a command, process included.
func benchmarkStart(b *testing.B, args ...string) {
	binary := filepath.Join(b.TempDir(), "meshctl")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		if out, err := exec.CommandContext(b.Context(), binary, args...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %v\n%s", args, err, out)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/float64(time.Millisecond), "ms/start")
}
