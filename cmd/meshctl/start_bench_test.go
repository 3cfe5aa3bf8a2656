package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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

// tabScript asks bash's completion function as readline does on TAB, with no
// server answering, and prints what each time took in microseconds.
const tabScript = `
. /usr/share/bash-completion/bash_completion
. "$1"
for i in {1..20}; do
  COMP_WORDS=(meshctl turn recover --failed '') COMP_CWORD=4 COMP_LINE='meshctl turn recover --failed ' COMP_TYPE=9
  COMP_POINT=${#COMP_LINE}
  begin=${EPOCHREALTIME/./}
  __start_meshctl meshctl '' --failed 2>/dev/null
  echo $(( ${EPOCHREALTIME/./} - begin ))
  [ "${COMPREPLY[0]}" = turn1.example:3478 ] || { echo "offered: ${COMPREPLY[*]}" >&2; exit 1; }
done
`

// BenchmarkTabBash is one TAB in bash, program included.
func BenchmarkTabBash(b *testing.B) {
	dir := b.TempDir()
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", filepath.Join(dir, "meshctl"), ".").CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	writeDeadMesh(b, dir)
	var took []int
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), "bash", "--norc", "-c", tabScript, "bash", filepath.Join("..", "..", "completions", "meshctl.bash"))
		cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "HOME=" + dir, "MESHCTL_CONFIG=" + filepath.Join(dir, "meshctl.yaml")}
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			b.Fatalf("bash: %v\n%s", err, out)
		}
		for line := range strings.FieldsSeq(string(out)) {
			us, err := strconv.Atoi(line)
			if err != nil {
				b.Fatal(err)
			}
			took = append(took, us)
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/1000, "ms/tab")
}
