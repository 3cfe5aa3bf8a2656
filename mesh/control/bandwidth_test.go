package control

import (
	"errors"
	"net/http"
	"testing"
)

func TestBandwidthIsReadWhole(t *testing.T) {
	for _, test := range []struct {
		name, body string
		want       Bandwidth
		offered    bool
		bad        bool
	}{
		{"set", `{"bandwidth":{"enableBandwidthAdaptation":true,"maxBitrateMbps":1.5}}`, Bandwidth{true, 1.5}, true, false},
		{"not shown", `{"turnFallbackTimeout":5000}`, Bandwidth{}, false, false},
		{"number as text", `{"bandwidth":{"enableBandwidthAdaptation":true,"maxBitrateMbps":"1"}}`, Bandwidth{}, false, true},
		{"half", `{"bandwidth":{"maxBitrateMbps":1}}`, Bandwidth{}, false, true},
		{"no object", `{"bandwidth":7}`, Bandwidth{}, false, true},
		{"error", `{"error":"x"}`, Bandwidth{}, false, true},
		{"page", `<html>`, Bandwidth{}, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, _ := start(t, http.StatusOK, test.body)
			got, offered, err := c.Bandwidth(t.Context())
			if got != test.want || offered != test.offered || (err != nil) != test.bad {
				t.Errorf("%+v, offered %t, error %v", got, offered, err)
			}
		})
	}
}

func TestPathsAreReadWhole(t *testing.T) {
	for _, test := range []struct {
		name, body string
		code       int
		bad        bool
	}{
		{"whole", `{"local":"a","peer":"b","state":"connected","local_candidates":[],"remote_candidates":[],"pairs":[]}`, 200, false},
		{"of others", `{"local":"x","peer":"b","local_candidates":[],"remote_candidates":[],"pairs":[]}`, 200, true},
		{"a list is missing", `{"local":"a","peer":"b","local_candidates":[],"pairs":[]}`, 200, true},
		{"wrong types", `{"local":"a","peer":"b","local_candidates":[],"remote_candidates":[],"pairs":[{"requests_sent":"7"}]}`, 200, true},
		{"page", `<html>`, 200, true},
		{"absent", `not found`, 404, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, _ := start(t, test.code, test.body)
			_, err := c.Paths(t.Context(), "a", "b")
			var absent *NotOfferedError
			if (err != nil) != test.bad || errors.As(err, &absent) != (test.code == 404) {
				t.Errorf("error %v", err)
			}
		})
	}
}
