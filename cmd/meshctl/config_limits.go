package main

import (
	"fmt"
	"time"

	"github.com/infrafabric/meshctl/runbooks"
)

// pair is a threshold with two keys: where it warns and where it fails.
type pair struct {
	key   string
	set   [2]**float64 // what the configuration says
	limit [2]*float64  // what holds
	max   float64
	below bool // bad is what lies below
}

// pairs are all thresholds but the two that are counts.
func (t *thresholdsConfig) pairs(d *runbooks.Thresholds) []pair {
	set := func(warn, fail **float64) [2]**float64 { return [2]**float64{warn, fail} }
	limit := func(warn, fail *float64) [2]*float64 { return [2]*float64{warn, fail} }
	return []pair{
		{"success_rate_%s_percent", set(&t.SuccessRateWarn, &t.SuccessRateFail), limit(&d.SuccessRateWarn, &d.SuccessRateFail), 100, true},
		{"rtt_direct_%s_ms", set(&t.RTTDirectWarn, &t.RTTDirectFail), limit(&d.RTTDirectWarn, &d.RTTDirectFail), maxMilliseconds, false},
		{"rtt_relay_%s_ms", set(&t.RTTRelayWarn, &t.RTTRelayFail), limit(&d.RTTRelayWarn, &d.RTTRelayFail), maxMilliseconds, false},
		{"message_loss_%s_percent", set(&t.MessageLossWarn, &t.MessageLossFail), limit(&d.MessageLossWarn, &d.MessageLossFail), 100, false},
		{"delivery_latency_%s_ms", set(&t.DeliveryLatencyWarn, &t.DeliveryLatencyFail), limit(&d.DeliveryLatencyWarn, &d.DeliveryLatencyFail), maxMilliseconds, false},
		{"packet_loss_%s_percent", set(&t.PacketLossWarn, &t.PacketLossFail), limit(&d.LossWarn, &d.LossFail), 100, false},
		{"jitter_%s_ms", set(&t.JitterWarn, &t.JitterFail), limit(&d.JitterWarn, &d.JitterFail), maxMilliseconds, false},
		{"relay_share_%s_percent", set(&t.RelayShareWarn, &t.RelayShareFail), limit(&d.RelayShareWarn, &d.RelayShareFail), 100, false},
		{"certificate_%s_percent", set(&t.CertificateWarn, &t.CertificateFail), limit(&d.LifeWarn.Percent, &d.LifeFail.Percent), 100, true},
		{"certificate_%s_days", set(&t.CertificateWarnDays, &t.CertificateFailDays), limit(&d.LifeWarn.Days, &d.LifeFail.Days), 3650, true},
	}
}

// hold gives the thresholds that hold: those of the configuration, else the
// defaults.
func (t *thresholdsConfig) hold() runbooks.Thresholds {
	d := runbooks.DefaultThresholds()
	for _, p := range t.pairs(&d) {
		for i, set := range p.set {
			if *set != nil {
				*p.limit[i] = **set
			}
		}
	}
	for _, f := range []struct{ from, to *int }{
		{t.FailedConnections, &d.FailedConnections}, {t.ErrorsPerWindow, &d.ErrorsPerWindow},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	return d
}

func (t timingsConfig) apply(to *runbooks.Timings) {
	if t.Scale > 0 {
		to.Scale = t.Scale
	}
	for _, f := range []struct {
		from duration
		to   *time.Duration
	}{
		{t.Monitor, &to.Monitor}, {t.ErrorWindow, &to.ErrorWindow}, {t.Delivery, &to.Delivery}, {t.StepDeadline, &to.StepDeadline},
	} {
		if f.from > 0 {
			*f.to = time.Duration(f.from)
		}
	}
}

// maxMilliseconds is an hour: a latency beyond that is a typing error.
const maxMilliseconds = 3600_000

func (t *thresholdsConfig) problems(p *problems) {
	d := t.hold()
	for _, pair := range t.pairs(&d) {
		key := func(which string) string { return "thresholds." + fmt.Sprintf(pair.key, which) }
		warn, fail := *pair.limit[0], *pair.limit[1]
		first, second := p.within(key("warn"), warn, pair.max), p.within(key("fail"), fail, pair.max)
		if first && second && warn != fail && (warn > fail) != pair.below {
			p.add(key("warn"), "%v comes after the failure at %v", warn, fail)
		}
	}
	p.count("thresholds.failed_connections", d.FailedConnections)
	p.count("thresholds.errors_per_window", d.ErrorsPerWindow)
}

func (p *problems) count(key string, n int) {
	if n < 0 {
		p.add(key, "%d is less than nothing", n)
	}
}

// within also refuses what is not a number.
func (p *problems) within(key string, value, limit float64) bool {
	within := value >= 0 && value <= limit
	if !within {
		p.add(key, "%v is not between 0 and %.0f", value, limit)
	}
	return within
}

func (t timingsConfig) problems(p *problems) {
	if !(t.Scale >= 0 && t.Scale <= 1) {
		p.add("timings.scale", "%v is not between 0 and 1", t.Scale)
	}
	for _, window := range []struct {
		key string
		d   duration
	}{{"monitor", t.Monitor}, {"error_window", t.ErrorWindow}, {"delivery", t.Delivery}, {"step_deadline", t.StepDeadline}} {
		p.duration("timings."+window.key, time.Duration(window.d), 10*time.Millisecond, 24*time.Hour)
	}
}

// effective has every threshold, the defaults among them.
func (t thresholdsConfig) effective() thresholdsConfig {
	d := t.hold()
	for _, p := range t.pairs(&d) {
		*p.set[0], *p.set[1] = p.limit[0], p.limit[1]
	}
	t.FailedConnections, t.ErrorsPerWindow = &d.FailedConnections, &d.ErrorsPerWindow
	return t
}

func (t timingsConfig) effective() timingsConfig {
	d := runbooks.DefaultTimings()
	t.apply(&d)
	return timingsConfig{
		Scale: d.Scale, Monitor: duration(d.Monitor), ErrorWindow: duration(d.ErrorWindow),
		Delivery: duration(d.Delivery), StepDeadline: duration(d.StepDeadline),
	}
}
