// Package probes answers: what does this server really do when it is asked the
// real question with the real protocol?
//
// A probe never answers "healthy" from less than the whole transaction its
// users depend on, and says unknown when it could not find out.
package probes

import "time"

// Verdict is the four-valued answer of a check, plus skip for one that was
// not asked. No data is Unknown, never Pass.
type Verdict string

// The verdicts, from best to worst for a reader who must act.
const (
	Pass    Verdict = "pass"
	Skip    Verdict = "skip"
	Warn    Verdict = "warn"
	Unknown Verdict = "unknown"
	Fail    Verdict = "fail"
)

// Worse returns the verdict that decides when both hold.
func (v Verdict) Worse(other Verdict) Verdict {
	if other.rank() > v.rank() {
		return other
	}
	return v
}

func (v Verdict) rank() int {
	switch v {
	case Pass:
		return 1
	case Skip:
		return 0
	case Warn:
		return 2
	case Fail:
		return 4
	default:
		return 3
	}
}

// Fact is one measured detail behind a Finding, ready to print.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Finding is one thing a probe learned. Code is stable and documented, such as
// "turn.auth.rejected"; Hint says what to do about it.
type Finding struct {
	Code    string  `json:"code"`
	Verdict Verdict `json:"verdict"`
	Summary string  `json:"summary"`
	Hint    string  `json:"hint,omitempty"`
	Facts   []Fact  `json:"facts,omitempty"`
}

// Report is one probe of one target.
type Report struct {
	Probe    string        `json:"probe"`
	Target   string        `json:"target"`
	Verdict  Verdict       `json:"verdict"`
	Started  time.Time     `json:"started"`
	Took     time.Duration `json:"-"`
	Findings []Finding     `json:"findings"`
	Quality  *Quality      `json:"quality,omitempty"` // of the relayed path, when it was measured
}

// Quality is what became of a paced series of packets that went through a
// relay and back. Times are round trips in milliseconds.
type Quality struct {
	Sent       int     `json:"sent"`
	Received   int     `json:"received"`
	Duplicates int     `json:"duplicates"`
	Loss       float64 `json:"loss"`      // of 0 to 1, over both ways
	Jitter     float64 `json:"jitter_ms"` // RFC 3550 section 6.4.1
	P50        float64 `json:"rtt_p50_ms"`
	P95        float64 `json:"rtt_p95_ms"`
	P99        float64 `json:"rtt_p99_ms"`
	Max        float64 `json:"rtt_max_ms"`
}
