package probes

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Certificate is what a server presents, to be judged as a client that trusts
// Roots and asks for Name would (RFC 5280, RFC 9525). It asks nobody: a missing
// intermediate is not fetched, as most clients do not.
type Certificate struct {
	Chain  []*x509.Certificate // as served, the server's own first
	Name   string              // host name or IP address that clients ask for; "" is not compared
	Roots  *x509.CertPool      // nil = the system's
	Limits Limits              // of the life that is left
	Now    time.Time
}

// Judge returns what there is to know of the certificate, and the problems:
// none for one that every client takes for a while to come.
func (c Certificate) Judge() (facts []Fact, problems []Finding) {
	if len(c.Chain) == 0 {
		return nil, []Finding{newFinding(CodeCertMissing, "")}
	}
	facts = c.facts()
	for _, check := range []func() (code, detail string){c.life, c.name, c.strength, c.trust} {
		if code, detail := check(); code != "" {
			problems = append(problems, newFinding(code, detail, facts...))
		}
	}
	return facts, problems
}

func (c Certificate) leaf() *x509.Certificate { return c.Chain[0] }

// life judges the time that is left.
func (c Certificate) life() (code, detail string) {
	leaf := c.leaf()
	left, whole, limits := leaf.NotAfter.Sub(c.Now), leaf.NotAfter.Sub(leaf.NotBefore), c.Limits.orDefault()
	switch {
	case left < 0:
		return CodeCertExpired, "for " + days(-left) + ", since " + day(leaf.NotAfter)
	case c.Now.Before(leaf.NotBefore):
		return CodeCertNotYetValid, "in " + days(leaf.NotBefore.Sub(c.Now)) + ", from " + day(leaf.NotBefore)
	case limits.LifeFail.shorter(left, whole):
		return CodeCertUrgent, "in " + days(left) + ", on " + day(leaf.NotAfter)
	case limits.LifeWarn.shorter(left, whole):
		return CodeCertExpiring, "in " + days(left) + ", on " + day(leaf.NotAfter)
	}
	for _, above := range c.path()[1:] {
		if c.Now.After(above.NotAfter) && !selfSigned(above) {
			return CodeCertExpired, fmt.Sprintf("its issuer %s, since %s", subject(above), day(above.NotAfter))
		}
	}
	return "", ""
}

func (c Certificate) name() (code, detail string) {
	if c.Name == "" || c.leaf().VerifyHostname(c.Name) == nil {
		return "", ""
	}
	return CodeCertName, fmt.Sprintf("it is for %s, not for %s", c.names(), printable(c.Name))
}

// names are those of the subject alternative name: the common name counts for
// nothing (RFC 9525 section 4.1).
func (c Certificate) names() string {
	names := slices.Clone(c.leaf().DNSNames)
	for _, ip := range c.leaf().IPAddresses {
		names = append(names, ip.String())
	}
	const most = 5
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("%d more", more))
	}
	if len(names) == 0 {
		return "no name at all (a common name does not count)"
	}
	return printable(strings.Join(names, ", "))
}

// strength finds keys and signatures that clients refuse. A root's own
// signature proves nothing and is not looked at.
func (c Certificate) strength() (code, detail string) {
	for _, cert := range c.path() {
		switch key := cert.PublicKey.(type) {
		case *rsa.PublicKey:
			if key.N.BitLen() < 2048 {
				return CodeCertWeak, fmt.Sprintf("%s has an RSA key of %d bits", subject(cert), key.N.BitLen())
			}
		case *ecdsa.PublicKey:
			if key.Params().BitSize < 256 {
				return CodeCertWeak, fmt.Sprintf("%s has an ECDSA key of %d bits", subject(cert), key.Params().BitSize)
			}
		}
		if weakSignature(cert) {
			return CodeCertWeak, fmt.Sprintf("%s is signed with %s", subject(cert), cert.SignatureAlgorithm)
		}
	}
	return "", ""
}

func weakSignature(cert *x509.Certificate) bool {
	switch cert.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return !sameNames(cert)
	}
	return false
}

// trust builds a path to a root. Life is judged elsewhere, so that an expired
// certificate is not called untrusted too.
func (c Certificate) trust() (code, detail string) {
	intermediates := x509.NewCertPool()
	for _, cert := range c.Chain[1:] {
		intermediates.AddCert(cert)
	}
	at := c.Now
	if leaf := c.leaf(); at.After(leaf.NotAfter) || at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	}
	_, err := c.leaf().Verify(x509.VerifyOptions{Roots: c.Roots, Intermediates: intermediates, CurrentTime: at})
	if err == nil {
		return "", ""
	}
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return c.untrusted()
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "", "" // life has said it
	}
	return CodeCertUnfit, printable(strings.TrimPrefix(err.Error(), "x509: "))
}

// untrusted says why no path ends at a root.
func (c Certificate) untrusted() (code, detail string) {
	path := c.path()
	top := path[len(path)-1]
	alone := len(path) == 1
	switch {
	case slices.ContainsFunc(path, weakSignature):
		return "", "" // it is that which breaks the path
	case alone && selfSigned(top):
		return CodeCertSelfSigned, ""
	case sameNames(top):
		return CodeCertUntrusted, "its root is " + subject(top)
	case alone && (c.Roots != nil || len(top.IssuingCertificateURL) > 0):
		return CodeCertChain, "its issuer " + issuer(top) + " is neither served nor trusted"
	}
	return CodeCertUntrusted, issuer(top)
}

// path follows the issuers from the server's certificate, as far as they are
// served, in whatever order.
func (c Certificate) path() []*x509.Certificate {
	path := []*x509.Certificate{c.leaf()}
	for len(path) < len(c.Chain) {
		last := path[len(path)-1]
		if sameNames(last) {
			break
		}
		next := slices.IndexFunc(c.Chain[1:], func(above *x509.Certificate) bool {
			return bytes.Equal(above.RawSubject, last.RawIssuer) && !slices.Contains(path, above)
		})
		if next < 0 {
			break
		}
		path = append(path, c.Chain[1+next])
	}
	return path
}

func sameNames(cert *x509.Certificate) bool { return bytes.Equal(cert.RawSubject, cert.RawIssuer) }

// selfSigned does not ask whether it is a CA, as CheckSignatureFrom does.
func selfSigned(cert *x509.Certificate) bool {
	return sameNames(cert) && cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
}

func (c Certificate) facts() []Fact {
	leaf, sum := c.leaf(), sha256.Sum256(c.leaf().Raw)
	return []Fact{
		{"subject", subject(leaf)}, {"issuer", issuer(leaf)}, {"names", c.names()},
		{"not_before", leaf.NotBefore.UTC().Format(time.RFC3339)}, {"not_after", leaf.NotAfter.UTC().Format(time.RFC3339)},
		{"fingerprint_sha256", hex.EncodeToString(sum[:])},
		{"key", leaf.PublicKeyAlgorithm.String()}, {"signature", leaf.SignatureAlgorithm.String()},
		{"certificates", strconv.Itoa(len(c.Chain))},
	}
}

func subject(cert *x509.Certificate) string { return orUnnamed(cert.Subject.String()) }

func issuer(cert *x509.Certificate) string { return orUnnamed(cert.Issuer.String()) }

func orUnnamed(name string) string {
	if name == "" {
		return "(no subject)"
	}
	return printable(name)
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// days writes a duration as an operator counts: in days, below two in hours.
func days(d time.Duration) string {
	switch hours := d.Hours(); {
	case hours >= 48:
		return fmt.Sprintf("%d days", int(hours/24))
	case hours >= 2:
		return fmt.Sprintf("%d hours", int(hours))
	}
	return d.Round(time.Second).String()
}
