package probes_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/probes"
)

// Other limits than the usual ones turn the same certificate and the same loss
// into another verdict.
func TestLimits(t *testing.T) {
	strict, lax := probes.DefaultLimits(), probes.DefaultLimits()
	strict.LifeWarn, strict.LifeFail = probes.CertificateLife{Percent: 90}, probes.CertificateLife{Percent: 50, Days: 30}
	lax.LifeWarn, lax.LifeFail = probes.CertificateLife{}, probes.CertificateLife{}
	lax.LossWarn, lax.LossFail = 90, 95

	certificate := issue(t, nil, x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}, NotBefore: certNow.Add(-70 * 24 * time.Hour), NotAfter: certNow.Add(20 * 24 * time.Hour)}, ecKey(t))
	for _, tt := range []struct {
		name   string
		limits probes.Limits
		want   string
	}{{"default", probes.Limits{}, probes.CodeCertExpiring}, {"strict", strict, probes.CodeCertUrgent}, {"lax", lax, ""}} {
		_, problems := probes.Certificate{Chain: []*x509.Certificate{certificate.cert}, Limits: tt.limits, Now: certNow}.Judge()
		got := ""
		if len(problems) > 0 && problems[0].Code != probes.CodeCertSelfSigned {
			got = problems[0].Code
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}

	relay := lossy(t)
	for limits, want := range map[probes.Limits]probes.Verdict{{}: probes.Fail, lax: probes.Pass} {
		p := probes.TURN{Target: relay, Credentials: goodLogin(), Count: 40, Rate: 400, Limits: limits}
		if r := p.Run(t.Context()); r.Verdict != want {
			t.Errorf("%s, want %s: %+v", r.Verdict, want, r.Findings)
		}
	}
}
