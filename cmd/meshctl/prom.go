package main

import (
	"io"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// family is one metric with its samples, all gauges.
type family struct {
	name, help string
	samples    []sample
}

// sample is a value and its labels: name, value, name, value...
type sample struct {
	value  float64
	labels []string
}

// writeProm writes the text format of Prometheus, as the textfile collector of
// node_exporter reads it. Families without samples are left out.
func writeProm(out io.Writer, families []family) error {
	for _, f := range families {
		if len(f.samples) == 0 {
			continue
		}
		kind := dto.MetricType_GAUGE
		mf := &dto.MetricFamily{Name: &f.name, Help: &f.help, Type: &kind}
		for _, s := range f.samples {
			mf.Metric = append(mf.Metric, &dto.Metric{Label: pairs(s.labels), Gauge: &dto.Gauge{Value: &s.value}})
		}
		if _, err := expfmt.MetricFamilyToText(out, mf); err != nil {
			return err
		}
	}
	return nil
}

func pairs(labels []string) []*dto.LabelPair {
	var all []*dto.LabelPair
	for pair := range slices.Chunk(labels, 2) {
		name, value := pair[0], strings.ToValidUTF8(pair[1], "\uFFFD")
		all = append(all, &dto.LabelPair{Name: &name, Value: &value})
	}
	return all
}

// ended says when and how the command ended: a textfile stays after the job
// that writes it has died.
func (a *app) ended(code int) []family {
	labels := []string{"command", a.command}
	return []family{
		{"meshctl_exit_code", "Exit code of the command that wrote this file.", []sample{{float64(code), labels}}},
		{"meshctl_last_run_timestamp_seconds", "When the command that wrote this file ended.",
			[]sample{{float64(time.Now().UnixMilli()) / 1000, labels}}},
	}
}
