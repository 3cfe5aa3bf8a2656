package probes

import "time"

// Limits turn what is measured into verdicts. The zero value means
// DefaultLimits.
type Limits struct {
	LossWarn, LossFail float64         // percent of the packets of a quality phase
	LifeWarn, LifeFail CertificateLife // left; less is bad
}

// CertificateLife is what a certificate must have left: a share of its whole
// life in percent, and days, which hold only for one that was issued for at
// least twice as long.
type CertificateLife struct{ Percent, Days float64 }

// DefaultLimits are the usual ones: an ACME client renews when a third of the
// life is left, and at a sixth half the time to renew is lost.
func DefaultLimits() Limits {
	return Limits{
		LossWarn: 2, LossFail: 5,
		LifeWarn: CertificateLife{100.0 / 3, 7}, LifeFail: CertificateLife{100.0 / 6, 1},
	}
}

func (l Limits) orDefault() Limits {
	if l == (Limits{}) {
		return DefaultLimits()
	}
	return l
}

// shorter tells whether too little of a life is left.
func (l CertificateLife) shorter(left, whole time.Duration) bool {
	days, all := left.Hours()/24, whole.Hours()/24
	return days < all*l.Percent/100 || days < l.Days && all >= 2*l.Days
}
