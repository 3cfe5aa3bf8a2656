package probes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/tidwall/gjson"

	"github.com/infrafabric/meshctl/mesh/httpapi"
)

// Service is an HTTP service of the mesh, as meshctl calls it.
type Service struct {
	API        *httpapi.Client
	URL        string         // as configured: what reports call it
	Authorised bool           // the calls carry a key
	Roots      *x509.CertPool // what API trusts; nil = the system's
}

// question is one call of a service, and what its reply must hold.
type question struct {
	ok   string // the code of a good reply
	call func() (*httpapi.Reply, error)
	read func(reply *httpapi.Reply, root gjson.Result) (facts []Fact, more []Finding, err error)
}

// ask makes the call and reports the code of a good reply or what was wrong.
func (s Service) ask(ctx context.Context, probe string, q question) Report {
	started := time.Now()
	findings, err := s.findings(q)
	if err != nil {
		findings = []Finding{s.problem(ctx, err)}
	}
	return reportOf(probe, s.URL, started, findings)
}

func (s Service) findings(q question) ([]Finding, error) {
	started := time.Now()
	reply, err := q.call()
	ended := time.Now()
	if err != nil {
		return nil, err
	}
	root, err := reply.Object()
	if err != nil {
		return nil, err
	}
	read, more, err := q.read(reply, root)
	if err != nil {
		return nil, err
	}
	facts := []Fact{{"rtt_ms", millis(ended.Sub(started))}}
	if !reply.Date.IsZero() {
		facts = append(facts, Fact{"clock_skew_s", seconds(skew(reply.Date, started, ended))})
	}
	return append(answered(q.ok, append(facts, read...)), more...), nil
}

// Problem names why a call of the service had no usable reply, for callers that
// make calls of their own.
func (s Service) Problem(ctx context.Context, err error) Finding { return s.problem(ctx, err) }

// problem names why a call had no usable reply.
func (s Service) problem(ctx context.Context, err error) Finding {
	var (
		unreachable *httpapi.UnreachableError
		status      *httpapi.StatusError
		missing     *httpapi.NotOfferedError
		garbled     *httpapi.ReplyError
		certificate *tls.CertificateVerificationError
	)
	code := CodeLocalFault
	switch {
	case interrupted(ctx):
		return newFinding(CodeProbeInterrupted, err.Error())
	case errors.As(err, &certificate):
		return s.certificate(certificate)
	case errors.As(err, &unreachable):
		code = unreachableCode(unreachable)
	case errors.As(err, &status) && (status.Code == http.StatusUnauthorized || status.Code == http.StatusForbidden):
		code = CodeHTTPAuth
		if !s.Authorised {
			code = CodeHTTPAuthMissing
		}
	case errors.As(err, &status):
		code = CodeHTTPRefused
	case errors.As(err, &missing):
		code = CodeHTTPNotOffered
	case errors.As(err, &garbled):
		code = CodeHTTPGarbled
	}
	return newFinding(code, err.Error())
}

func unreachableCode(err *httpapi.UnreachableError) string {
	var timeout interface{ Timeout() bool }
	switch {
	case isNameError(err):
		return CodeDNSFailed
	case errors.Is(err, syscall.ECONNREFUSED):
		return CodeHTTPClosed
	case errors.Is(err, http.ErrSchemeMismatch):
		return CodeTLSNoListener
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return CodeHTTPSilent
	}
	return CodeHTTPUnreachable
}

// certificate names what is wrong with the chain that was not accepted.
func (s Service) certificate(err *tls.CertificateVerificationError) Finding {
	name := ""
	if u, errURL := url.Parse(s.URL); errURL == nil {
		name = u.Hostname()
	}
	_, problems := Certificate{Chain: err.UnverifiedCertificates, Name: name, Roots: s.Roots, Now: time.Now()}.Judge()
	for _, f := range problems {
		if f.Verdict == Fail {
			return f
		}
	}
	return newFinding(CodeCertUnfit, printable(err.Err.Error()))
}

// answered adds to what a good reply showed: a clock that is not ours makes
// credentials with an expiry, and windows of time, mean something else there.
func answered(code string, facts []Fact) []Finding {
	f := newFinding(code, "", facts...)
	findings := []Finding{f}
	if skewed := f.Fact("clock_skew_s"); skewed != "" && skewed != seconds(0) {
		findings = append(findings, newFinding(CodeClockDiffers, "by "+skewed+" s, by its Date header"))
	}
	return findings
}

// skewTolerance is what a Date header cannot tell from a right clock.
const skewTolerance = 5 * time.Second

// skew is how far the server's clock is ahead of ours, from a Date that was
// read, cut to whole seconds, between started and ended; 0 when it is close.
func skew(date, started, ended time.Time) time.Duration {
	var ahead time.Duration
	switch {
	case date.After(ended):
		ahead = date.Sub(ended)
	case date.Add(time.Second).Before(started):
		ahead = date.Add(time.Second).Sub(started)
	}
	if ahead.Abs() < skewTolerance {
		return 0
	}
	return ahead.Round(time.Second)
}

func reportOf(probe, target string, started time.Time, findings []Finding) Report {
	r := Report{Probe: probe, Target: target, Verdict: Skip, Started: started, Took: time.Since(started), Findings: findings}
	for _, f := range findings {
		r.Verdict = r.Verdict.Worse(f.Verdict)
	}
	return r
}

func isNameError(err error) bool {
	var name *net.DNSError
	return errors.As(err, &name)
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }
