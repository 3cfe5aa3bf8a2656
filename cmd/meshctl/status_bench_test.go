package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkStatus is the whole command on a lab that is well: process, every
// question and the screen.
func BenchmarkStatus(b *testing.B) {
	dir := b.TempDir()
	binary := filepath.Join(dir, "meshctl")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	env := []string{"PATH=" + dir + string(filepath.ListSeparator) + os.Getenv("PATH")}
	for key, value := range testEnv(dir) {
		env = append(env, key+"="+value)
	}
	b.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	l, err := startLab(env, filepath.Join(dir, "lab"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.stop(); err != nil {
			b.Error(err)
		}
	})
	status := func() ([]byte, error) {
		return exec.CommandContext(b.Context(), binary, "status", "--config", l.Config).CombinedOutput()
	}
	var out []byte
	if !poll(func() bool { out, err = status(); return err == nil }) {
		b.Fatalf("%v\n%s", err, out)
	}
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		if out, err := status(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/float64(time.Millisecond), "ms/status")
}
