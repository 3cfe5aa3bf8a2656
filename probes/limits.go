package probes

import "time"

// Limits turn what is measured into verdicts. The zero value means
// DefaultLimits.
type Limits struct {
	LossWarn, LossFail float64         // percent of the packets of a quality phase
	LifeWarn, LifeFail CertificateLife // left; less is bad
}

// CertificateLife is what a certificate must have left: a share of its whole
// life in percent, and a time, which holds only for one that was issued for at
// least twice as long.
type CertificateLife struct {
	Percent float64
	Left    time.Duration
}

// DefaultLimits: an ACME client renews when a third of the life is left; at a
// sixth half the time to renew is lost.
func DefaultLimits() Limits {
	return Limits{
		LossWarn: 2, LossFail: 5,
		LifeWarn: CertificateLife{100.0 / 3, 7 * 24 * time.Hour}, LifeFail: CertificateLife{100.0 / 6, 24 * time.Hour},
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
	return float64(left) < float64(whole)*l.Percent/100 || left < l.Left && whole >= 2*l.Left
}
