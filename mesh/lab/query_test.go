package lab

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

var queryNow = time.Date(2025, 11, 23, 12, 0, 0, 0, time.UTC)

const queryEvent = `{"event":"turn_connection_detected","timestamp":"2025-11-23T11:58:00Z","agent_id":"agent-1",
	"severity":"critical","metrics":{"rate":97.5,"ok":true},
	"metadata":{"turn_server":"turn:127.0.0.1:3478","seq":7,"run":"R1","deep":{"er":"x"}}}`

func TestQueryMatches(t *testing.T) {
	tests := []struct {
		name  string
		query string
		want  bool
	}{
		{"everything", `{"query":{}}`, true},
		{"string", `{"query":{"event":"turn_connection_detected"}}`, true},
		{"other string", `{"query":{"event":"turn_connection"}}`, false},
		{"dotted path", `{"query":{"metadata.turn_server":"turn:127.0.0.1:3478"}}`, true},
		{"deeper path", `{"query":{"metadata.deep.er":"x"}}`, true},
		{"path through a string", `{"query":{"event.name":"x"}}`, false},
		{"missing field", `{"query":{"metadata.host":"x"}}`, false},
		{"number", `{"query":{"metadata.seq":7}}`, true},
		{"number in another form", `{"query":{"metadata.seq":7.0}}`, true},
		{"number as a string", `{"query":{"metadata.seq":"7"}}`, false},
		{"boolean", `{"query":{"metrics.ok":true}}`, true},
		{"other boolean", `{"query":{"metrics.ok":false}}`, false},
		{"two fields", `{"query":{"severity":"critical","agent_id":"agent-1"}}`, true},
		{"one of two fields wrong", `{"query":{"severity":"critical","agent_id":"agent-2"}}`, false},
		{"regex", `{"query":{"event":{"regex":"^turn_.*detected$"}}}`, true},
		{"regex anywhere", `{"query":{"event":{"regex":"connection"}}}`, true},
		{"regex without match", `{"query":{"event":{"regex":".*error.*"}}}`, false},
		{"regex on a number", `{"query":{"metadata.seq":{"regex":"7"}}}`, false},
		{"$gt", `{"query":{"metrics.rate":{"$gt":97}}}`, true},
		{"$gt equal", `{"query":{"metrics.rate":{"$gt":97.5}}}`, false},
		{"$gte equal", `{"query":{"metrics.rate":{"$gte":97.5}}}`, true},
		{"$lt", `{"query":{"metrics.rate":{"$lt":98}}}`, true},
		{"$lt equal", `{"query":{"metrics.rate":{"$lt":97.5}}}`, false},
		{"$lte equal", `{"query":{"metrics.rate":{"$lte":97.5}}}`, true},
		{"range", `{"query":{"metrics.rate":{"$gt":90,"$lt":97}}}`, false},
		{"order of text", `{"query":{"timestamp":{"$gt":"2025-11-23T11:00:00Z"}}}`, true},
		{"order of a missing field", `{"query":{"metrics.rtt":{"$lt":1}}}`, false},
		{"order of text and number", `{"query":{"event":{"$gt":1}}}`, false},
		{"$ne", `{"query":{"metadata.run":{"$ne":"R2"}}}`, true},
		{"$ne equal", `{"query":{"metadata.run":{"$ne":"R1"}}}`, false},
		{"$ne of a missing field", `{"query":{"peer_id":{"$ne":"agent-2"}}}`, true},
		{"$in", `{"query":{"metadata.run":{"$in":["R0","R1",3]}}}`, true},
		{"$in without it", `{"query":{"metadata.run":{"$in":["R0"]}}}`, false},
		{"$in of nothing", `{"query":{"metadata.run":{"$in":[]}}}`, false},
		{"last 5 minutes", `{"query":{},"time_range":{"from":"-5m","to":"now"}}`, true},
		{"last 90 seconds", `{"query":{},"time_range":{"from":"-90s","to":"now"}}`, false},
		{"window before", `{"query":{},"time_range":{"from":"-1d","to":"-1h"}}`, false},
		{"no end", `{"query":{},"time_range":{"from":"-1h"}}`, true},
		{"exact bounds", `{"query":{},"time_range":{"from":"2025-11-23T11:58:00Z","to":"2025-11-23T11:58:00Z"}}`, true},
		{"bounds in another zone", `{"query":{},"time_range":{"from":"2025-11-23T12:57:00+01:00","to":"2025-11-23T12:59:00+01:00"}}`, true},
		{"longest window", `{"query":{},"time_range":{"from":"-99999d","to":"now"}}`, true},
	}
	e, err := parseEvent([]byte(queryEvent))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, err := parseQuery([]byte(tt.query), queryNow)
			if err != nil {
				t.Fatal(err)
			}
			if got := q.matches(e.fields, e.at); got != tt.want {
				t.Errorf("matches = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestQueryRefused(t *testing.T) {
	tests := []struct {
		name  string
		query string
		want  string // in the error
	}{
		{"not JSON", `{"query":`, "JSON"},
		{"two documents", `{"query":{}}{}`, "more than one"},
		{"no query", `{"time_range":{"from":"-5m"}}`, "query: missing"},
		{"query of a wrong type", `{"query":[]}`, "JSON"},
		{"unknown part", `{"query":{},"limit":5}`, "limit"},
		{"unknown part of the range", `{"query":{},"time_range":{"since":"-5m"}}`, "since"},
		{"null", `{"query":{"event":null}}`, "not a string"},
		{"array", `{"query":{"event":["a"]}}`, "not a string"},
		{"no operator", `{"query":{"event":{}}}`, "no operator"},
		{"unknown operator", `{"query":{"event":{"$like":"a"}}}`, "unknown operator"},
		{"bad regex", `{"query":{"event":{"regex":"("}}}`, "missing closing"},
		{"regex of a number", `{"query":{"event":{"regex":1}}}`, "not a string"},
		{"$gt of a boolean", `{"query":{"event":{"$gt":true}}}`, "not a number"},
		{"$in of a string", `{"query":{"event":{"$in":"a"}}}`, "not an array"},
		{"$in of objects", `{"query":{"event":{"$in":[{}]}}}`, "not a string"},
		{"$ne of null", `{"query":{"event":{"$ne":null}}}`, "not a string"},
		{"time without number", `{"query":{},"time_range":{"from":"-15m","to":"-m"}}`, "time_range to"},
		{"time without unit", `{"query":{},"time_range":{"from":"-15"}}`, "time_range from"},
		{"time of the future", `{"query":{},"time_range":{"to":"+5m"}}`, "time_range to"},
		{"time too long ago", `{"query":{},"time_range":{"from":"-100000d"}}`, "time_range from"},
		{"empty time", `{"query":{},"time_range":{"from":""}}`, "time_range from"},
		{"date only", `{"query":{},"time_range":{"from":"2025-11-23"}}`, "time_range from"},
		{"end before start", `{"query":{},"time_range":{"from":"now","to":"-5m"}}`, "before"},
		{"too many fields", `{"query":{` + manyFields(65) + `}}`, "more than 64"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseQuery([]byte(tt.query), queryNow); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func manyFields(n int) string {
	fields := map[string]int{}
	for i := range n {
		fields[strings.Repeat("x", i+1)] = i
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return strings.Trim(string(raw), "{}")
}

func FuzzParseQuery(f *testing.F) {
	for _, seed := range []string{
		`{"query":{"event":{"regex":".*error.*"}},"time_range":{"from":"-5m","to":"now"}}`,
		`{"query":{"metadata.seq":{"$gt":1,"$lte":9},"severity":{"$in":["critical"]}}}`,
		`{"query":{"a":{"$ne":false}},"time_range":{"from":"2025-11-23T11:58:00Z"}}`,
	} {
		f.Add([]byte(seed))
	}
	e, err := parseEvent([]byte(queryEvent))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := parseQuery(body, queryNow)
		if err != nil {
			return
		}
		if q.to.Before(q.from) {
			t.Errorf("range %s to %s", q.from, q.to)
		}
		q.matches(e.fields, e.at)
	})
}
