package probes

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// Healthy tells whether users of the target are served: pass or warn.
func (r Report) Healthy() bool { return r.Verdict == Pass || r.Verdict == Warn }

// Problem returns the finding that decided the verdict. There is none when the
// verdict is pass or skip.
func (r Report) Problem() (Finding, bool) {
	if r.Verdict == Pass || r.Verdict == Skip {
		return Finding{}, false
	}
	for _, f := range r.Findings {
		if f.Verdict == r.Verdict {
			return f, true
		}
	}
	return Finding{Verdict: Unknown, Summary: "nothing was found out"}, true
}

// Unresolved is the report of a target whose address Endpoints did not find.
func Unresolved(probe string, target wire.ServerURI, started time.Time, err error) Report {
	return newReport(probe, target, started, []Finding{refusalFinding(err, nil)})
}

// Unread is the report in place of those of servers whose list cannot be read.
func Unread(probe, from string, err error) Report {
	return reportOf(probe, from, time.Now(), []Finding{newFinding(CodeTargetsUnread, err.Error())})
}

// NoRoute is the report of an address that this host has no way to, as IPv6
// often: a target that has others is asked there.
func NoRoute(probe string, target wire.ServerURI, server netip.AddrPort) Report {
	return newReport(probe, target, time.Now(), []Finding{newFinding(CodeNoRoute, server.String(), Fact{"address", server.String()})})
}

// Fact returns the value of a fact of the finding, "" without it.
func (f Finding) Fact(name string) string {
	for _, fact := range f.Facts {
		if fact.Name == name {
			return fact.Value
		}
	}
	return ""
}

func newReport(probe string, target wire.ServerURI, started time.Time, findings []Finding) Report {
	r := Report{
		Probe: probe, Target: target.String(), Started: started, Took: time.Since(started),
		Verdict: Skip, Findings: findings,
	}
	for _, f := range findings {
		r.Verdict = r.Verdict.Worse(f.Verdict)
	}
	return r
}

// newFinding takes verdict, sentence and hint from the table of meanings and
// adds the detail of this case.
func newFinding(code, detail string, facts ...Fact) Finding {
	m, known := Explain(code)
	if !known {
		m = Meaning{Code: code, Verdict: Unknown, Summary: "an answer without a known meaning"}
	}
	f := Finding{Code: m.Code, Verdict: m.Verdict, Summary: m.Summary, Hint: m.Hint, Facts: facts}
	if detail != "" {
		f.Summary += ": " + detail
	}
	return f
}

// millis writes a duration as milliseconds with three decimals.
func millis(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 3, 64)
}

// short writes a duration for a sentence.
func short(d time.Duration) string {
	if d < 10*time.Millisecond {
		return d.Round(time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}
