package witnessclient

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkAppend compares an append with what the disk takes for the same
// bytes, in turns, because disks have moods.
func BenchmarkAppend(b *testing.B) {
	j, bare := testJournal(b), testJournal(b)
	event := Event{Name: "run_step_done", Metadata: map[string]any{"step": "reload-config", "verdict": "pass", "took_ms": 12}}
	line := append(mustAppend(b, bare, event).Line, '\n')
	var ours, disk []time.Duration
	for b.Loop() {
		begun := time.Now()
		mustAppend(b, j, event)
		ours = append(ours, time.Since(begun))
		begun = time.Now()
		if _, err := bare.file.Write(line); err != nil {
			b.Fatal(err)
		}
		if err := bare.file.Sync(); err != nil {
			b.Fatal(err)
		}
		disk = append(disk, time.Since(begun))
	}
	b.ReportMetric(median(ours).Seconds()*1000, "ms/append")
	b.ReportMetric(median(disk).Seconds()*1000, "ms/bare")
	b.ReportMetric(median(ours).Seconds()/median(disk).Seconds(), "x/bare")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
