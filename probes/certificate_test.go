package probes_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/probes"
)

// authority issues certificates; nil as parent makes a root.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var certNow = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func ecKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issue(t testing.TB, parent *authority, template x509.Certificate, key crypto.Signer) *authority {
	t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotBefore.IsZero() {
		template.NotBefore, template.NotAfter = certNow.AddDate(0, 0, -30), certNow.AddDate(0, 0, 60)
	}
	if template.IsCA {
		template.BasicConstraintsValid, template.KeyUsage = true, x509.KeyUsageCertSign
	}
	signer, above := key, &template
	if parent != nil {
		signer, above = parent.key, parent.cert
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, above, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

type certificateCase struct {
	name   string
	chain  []*authority
	asked  string
	system bool // no roots given
	want   []string
	detail string
}

// certificateCases also gives the root that is trusted.
func certificateCases(t *testing.T) ([]certificateCase, *x509.Certificate) {
	const day = 24 * time.Hour
	named := func(name string) pkix.Name { return pkix.Name{CommonName: name} }
	root := issue(t, nil, x509.Certificate{Subject: named("Test Root"), IsCA: true}, ecKey(t))
	other := issue(t, nil, x509.Certificate{Subject: named("Other Root"), IsCA: true}, ecKey(t))
	middle := issue(t, root, x509.Certificate{Subject: named("Test Middle"), IsCA: true}, ecKey(t))
	stale := issue(t, root, x509.Certificate{
		Subject: named("Stale Middle"), IsCA: true, NotBefore: certNow.AddDate(-1, 0, 0), NotAfter: certNow.Add(-day),
	}, ecKey(t))
	weakKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"turn.example.com"}
	leaf := func(parent *authority, change func(*x509.Certificate)) *authority {
		template := x509.Certificate{Subject: named("leaf"), DNSNames: names, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}
		if change != nil {
			change(&template)
		}
		return issue(t, parent, template, ecKey(t))
	}
	life := func(before, after time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = certNow.Add(-before), certNow.Add(after) }
	}
	sha1 := *leaf(root, nil).cert
	sha1.SignatureAlgorithm = x509.ECDSAWithSHA1

	return []certificateCase{
		{"good", []*authority{leaf(middle, nil), middle}, names[0], false, nil, ""},
		{"good, with the root and out of order", []*authority{leaf(middle, nil), root, middle}, names[0], false, nil, ""},
		{"good by address", []*authority{leaf(root, nil)}, "192.0.2.1", false, nil, ""},
		{"no name asked", []*authority{leaf(root, nil)}, "", false, nil, ""},
		{"none", nil, names[0], false, []string{probes.CodeCertMissing}, ""},
		{"expired", []*authority{leaf(root, life(90*day, -3*day))}, names[0], false, []string{probes.CodeCertExpired}, "for 3 days, since 2026-05-29 12:00 UTC"},
		{"not yet", []*authority{leaf(root, life(-5*time.Hour, 90*day))}, names[0], false, []string{probes.CodeCertNotYetValid}, "in 5 hours"},
		{"urgent by share", []*authority{leaf(root, life(76*day, 14*day))}, names[0], false, []string{probes.CodeCertUrgent}, "in 14 days"},
		{"soon by share", []*authority{leaf(root, life(61*day, 29*day))}, names[0], false, []string{probes.CodeCertExpiring}, "in 29 days"},
		{"not soon", []*authority{leaf(root, life(59*day, 31*day))}, names[0], false, nil, ""},
		{"soon by days", []*authority{leaf(root, life(8*day, 6*day))}, names[0], false, []string{probes.CodeCertExpiring}, "in 6 days"},
		{"urgent by days", []*authority{leaf(root, life(2*day, 23*time.Hour))}, names[0], false, []string{probes.CodeCertUrgent}, "in 23 hours"},
		{"short-lived, fresh", []*authority{leaf(root, life(day, 5*day))}, names[0], false, nil, ""},
		{"two minutes, half over", []*authority{leaf(root, life(time.Minute, time.Minute))}, names[0], false, nil, ""},
		{"wrong name", []*authority{leaf(root, nil)}, "turn.example.org", false, []string{probes.CodeCertName}, "it is for turn.example.com, 192.0.2.1, not for turn.example.org"},
		{"wrong address", []*authority{leaf(root, nil)}, "192.0.2.2", false, []string{probes.CodeCertName}, "not for 192.0.2.2"},
		{"common name only", []*authority{leaf(root, func(c *x509.Certificate) {
			c.Subject, c.DNSNames, c.IPAddresses = named(names[0]), nil, nil
		})}, names[0], false, []string{probes.CodeCertName}, "no name at all"},
		{"incomplete", []*authority{leaf(middle, nil)}, names[0], false, []string{probes.CodeCertChain}, "CN=Test Middle is neither served nor trusted"},
		{"incomplete, the authority says where", []*authority{leaf(middle, func(c *x509.Certificate) {
			c.IssuingCertificateURL = []string{"http://ca.example/middle.der"}
		})}, names[0], true, []string{probes.CodeCertChain}, "Test Middle"},
		{"incomplete, another one served", []*authority{leaf(middle, nil), other}, names[0], false, []string{probes.CodeCertChain}, "Test Middle"},
		{"unknown authority", []*authority{leaf(middle, nil), middle}, names[0], true, []string{probes.CodeCertUntrusted}, "CN=Test Root"},
		{"unknown root, served", []*authority{leaf(other, nil), other}, names[0], false, []string{probes.CodeCertUntrusted}, "its root is CN=Other Root"},
		{"self-signed", []*authority{leaf(nil, nil)}, names[0], false, []string{probes.CodeCertSelfSigned}, ""},
		{"self-signed and expired", []*authority{leaf(nil, life(9*day, -day))}, names[0], false, []string{probes.CodeCertExpired, probes.CodeCertSelfSigned}, ""},
		{"expired and wrong name", []*authority{leaf(root, life(9*day, -day))}, "x.example", false, []string{probes.CodeCertExpired, probes.CodeCertName}, ""},
		{"issuer expired", []*authority{leaf(stale, nil), stale}, names[0], false, []string{probes.CodeCertExpired}, "its issuer CN=Stale Middle"},
		{"weak key", []*authority{issue(t, root, x509.Certificate{Subject: named("weak"), DNSNames: names}, weakKey)}, names[0], false, []string{probes.CodeCertWeak}, "CN=weak has an RSA key of 1024 bits"},
		{"weak signature", []*authority{{cert: &sha1}}, names[0], false, []string{probes.CodeCertWeak}, "signed with ECDSA-SHA1"},
		{"for clients only", []*authority{leaf(root, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		})}, names[0], false, []string{probes.CodeCertUnfit}, "incompatible key usage"},
	}, root.cert
}

func TestCertificate(t *testing.T) {
	cases, root := certificateCases(t)
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			c := probes.Certificate{Name: tt.asked, Now: certNow}
			for _, a := range tt.chain {
				c.Chain = append(c.Chain, a.cert)
			}
			if c.Roots = x509.NewCertPool(); !tt.system {
				c.Roots.AddCert(root)
			} else {
				c.Roots = nil
			}
			facts, problems := c.Judge()
			var codes []string
			for _, f := range problems {
				codes = append(codes, f.Code)
			}
			if !slices.Equal(codes, tt.want) {
				t.Fatalf("got %v, want %v: %+v", codes, tt.want, problems)
			}
			if len(problems) > 0 && !strings.Contains(problems[0].Summary, tt.detail) {
				t.Errorf("got %q, want %q in it", problems[0].Summary, tt.detail)
			}
			if len(tt.chain) > 0 && len((probes.Finding{Facts: facts}).Fact("fingerprint_sha256")) != 64 {
				t.Errorf("facts %v", facts)
			}
		})
	}
}
