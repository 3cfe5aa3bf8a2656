package main

import (
	"fmt"
	"time"

	"github.com/infrafabric/meshctl/runbooks"
)

func (t thresholdsConfig) apply(to *runbooks.Thresholds) {
	for _, f := range []struct{ from, to *float64 }{
		{t.SuccessRateWarn, &to.SuccessRateWarn}, {t.SuccessRateFail, &to.SuccessRateFail},
		{t.RTTDirectWarn, &to.RTTDirectWarn}, {t.RTTDirectFail, &to.RTTDirectFail},
		{t.RTTRelayWarn, &to.RTTRelayWarn}, {t.RTTRelayFail, &to.RTTRelayFail},
		{t.MessageLossWarn, &to.MessageLossWarn}, {t.MessageLossFail, &to.MessageLossFail},
		{t.DeliveryLatencyWarn, &to.DeliveryLatencyWarn}, {t.DeliveryLatencyFail, &to.DeliveryLatencyFail},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	for _, f := range []struct{ from, to *int }{
		{t.FailedConnections, &to.FailedConnections}, {t.ErrorsPerWindow, &to.ErrorsPerWindow},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
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

func (t thresholdsConfig) problems(p *problems) {
	d := runbooks.DefaultThresholds()
	t.apply(&d)
	for _, pair := range []struct {
		key        string
		warn, fail float64
		max        float64
		below      bool // bad is what lies below
	}{
		{"success_rate_%s_percent", d.SuccessRateWarn, d.SuccessRateFail, 100, true},
		{"rtt_direct_%s_ms", d.RTTDirectWarn, d.RTTDirectFail, maxMilliseconds, false},
		{"rtt_relay_%s_ms", d.RTTRelayWarn, d.RTTRelayFail, maxMilliseconds, false},
		{"message_loss_%s_percent", d.MessageLossWarn, d.MessageLossFail, 100, false},
		{"delivery_latency_%s_ms", d.DeliveryLatencyWarn, d.DeliveryLatencyFail, maxMilliseconds, false},
	} {
		warn, fail := "thresholds."+fmt.Sprintf(pair.key, "warn"), "thresholds."+fmt.Sprintf(pair.key, "fail")
		p.within(warn, pair.warn, pair.max)
		p.within(fail, pair.fail, pair.max)
		if pair.warn != pair.fail && (pair.warn > pair.fail) != pair.below {
			p.add(warn, "%v comes after the failure at %v", pair.warn, pair.fail)
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
func (p *problems) within(key string, value, limit float64) {
	if !(value >= 0 && value <= limit) {
		p.add(key, "%v is not between 0 and %v", value, limit)
	}
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
	d := runbooks.DefaultThresholds()
	t.apply(&d)
	return thresholdsConfig{
		SuccessRateWarn: &d.SuccessRateWarn, SuccessRateFail: &d.SuccessRateFail,
		FailedConnections: &d.FailedConnections, ErrorsPerWindow: &d.ErrorsPerWindow,
		RTTDirectWarn: &d.RTTDirectWarn, RTTDirectFail: &d.RTTDirectFail,
		RTTRelayWarn: &d.RTTRelayWarn, RTTRelayFail: &d.RTTRelayFail,
		MessageLossWarn: &d.MessageLossWarn, MessageLossFail: &d.MessageLossFail,
		DeliveryLatencyWarn: &d.DeliveryLatencyWarn, DeliveryLatencyFail: &d.DeliveryLatencyFail,
	}
}

func (t timingsConfig) effective() timingsConfig {
	d := runbooks.DefaultTimings()
	t.apply(&d)
	return timingsConfig{
		Scale: d.Scale, Monitor: duration(d.Monitor), ErrorWindow: duration(d.ErrorWindow),
		Delivery: duration(d.Delivery), StepDeadline: duration(d.StepDeadline),
	}
}
