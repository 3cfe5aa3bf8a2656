package runbooks

import (
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/probes"
)

// What a path may lose is what the thresholds say.
func TestLossOfAPathByItsThresholds(t *testing.T) {
	limits := DefaultThresholds()
	limits.LossWarn, limits.LossFail = 15, 25
	path := mesh.PairResult{Connected: true, Probes: 100, Tally: mesh.Tally{Sent: 1, Received: 1}}
	for lost, want := range map[int]probes.Verdict{15: probes.Pass, 16: probes.Warn, 26: probes.Fail} {
		path.ProbesLost = lost
		if d := judgeDirection(path, limits); d.Verdict != want {
			t.Errorf("%d of 100 lost: %s %q, want %s", lost, d.Verdict, d.Summary, want)
		}
	}
}

// The average of all pairs must not hide a bad direction.
func TestWorstDirectionDecides(t *testing.T) {
	fine := mesh.Tally{Sent: 1000, Received: 1000, LatencyP95: 10 * time.Millisecond}
	for _, test := range []struct {
		name    string
		change  func(*mesh.PairResult)
		want    probes.Verdict
		summary string
	}{
		{"fine", func(*mesh.PairResult) {}, probes.Pass, ""},
		{"some lost", func(p *mesh.PairResult) { p.Lost = 2 }, probes.Warn, "0.2 % lost (limit 0.1 %)"},
		{"many lost", func(p *mesh.PairResult) { p.Lost = 6 }, probes.Fail, "0.6 % lost (limit 0.5 %)"},
		{"a lossy path", func(p *mesh.PairResult) { p.Probes, p.ProbesLost = 100, 20 }, probes.Fail, "the path loses 20.0 % of packets (limit 5 %)"},
		{"too few packets to say", func(p *mesh.PairResult) { p.Probes, p.ProbesLost = 10, 5 }, probes.Pass, ""},
		{"slow", func(p *mesh.PairResult) { p.LatencyP95 = 201 * time.Millisecond }, probes.Fail, "p95 201 ms (limit 200 ms)"},
		{"order", func(p *mesh.PairResult) { p.Reordered = 1 }, probes.Fail, "1 out of order"},
		{"twice", func(p *mesh.PairResult) { p.Duplicated = 2 }, probes.Fail, "2 duplicated"},
		{"corrupt", func(p *mesh.PairResult) { p.Corrupt = 3 }, probes.Fail, "3 corrupt"},
		{"full", func(p *mesh.PairResult) { p.Refused = 4 }, probes.Warn, "4 not taken by the channel"},
		{"apart", func(p *mesh.PairResult) { p.Connected, p.Error, p.Sent = false, "no way", 0 }, probes.Fail, "not connected: no way"},
		{"silent", func(p *mesh.PairResult) { p.Sent, p.Refused = 0, 7 }, probes.Fail, "nothing could be sent, 7 messages refused by the channel"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var part DeliveryPart
			for _, ends := range []string{"ab", "ba", "ac", "ca", "bc", "cb"} {
				pair := mesh.PairResult{From: ends[:1], To: ends[1:], Connected: true, Tally: fine}
				if ends == "ba" {
					test.change(&pair)
				}
				part.Result.Pairs = append(part.Result.Pairs, pair)
				part.Result.Sent += pair.Sent
				part.Result.Received += pair.Received
			}
			part.judge(DefaultThresholds())
			if part.Verdict != test.want {
				t.Errorf("%s: %s, not %s", part.Verdict, part.Summary, test.want)
			}
			if test.want == probes.Pass {
				return
			}
			if len(part.Problems) != 1 || part.Problems[0].From != "b" || part.Problems[0].Summary != test.summary {
				t.Errorf("problems %+v, not %q", part.Problems, test.summary)
			}
		})
	}
}
