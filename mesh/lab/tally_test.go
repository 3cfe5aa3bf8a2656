package lab

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/wire"
)

var tallyStart = time.Date(2025, 11, 23, 12, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return tallyStart.Add(time.Duration(ms) * time.Millisecond) }

func TestTallyCounts(t *testing.T) {
	tests := []struct {
		name   string
		sent   int
		arrive []int64
		now    int // ms; the messages are sent at 0
		want   DeliveryCount
	}{
		{"nothing", 0, nil, 0, DeliveryCount{}},
		{"all in order", 3, []int64{1, 2, 3}, 0, DeliveryCount{Sent: 3, Received: 3}},
		{"under way", 3, []int64{1}, 100, DeliveryCount{Sent: 3, Received: 1}},
		{"too long under way", 3, []int64{1}, 10_001, DeliveryCount{Sent: 3, Received: 1, Lost: 2}},
		{"overtaken", 3, []int64{1, 3}, 0, DeliveryCount{Sent: 3, Received: 2, Lost: 1}},
		{"reordered", 3, []int64{1, 3, 2}, 0, DeliveryCount{Sent: 3, Received: 3, Reordered: 1}},
		{"twice", 2, []int64{1, 2, 2, 1}, 0, DeliveryCount{Sent: 2, Received: 2, Duplicated: 2}},
		{"none arrives", 2, nil, 20_000, DeliveryCount{Sent: 2, Lost: 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pair := newTally()
			for range tt.sent {
				pair.begin(at(0))
			}
			for _, seq := range tt.arrive {
				pair.arrived(seq, at(0))
			}
			if diff := cmp.Diff(tt.want, pair.counted(at(tt.now))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTallyForgets(t *testing.T) {
	pair := newTally()
	for range maxPending {
		pair.begin(at(0))
	}
	first := pair.begin(at(20_000))
	if len(pair.pending) != 1 {
		t.Errorf("%d pending", len(pair.pending))
	}
	pair.arrived(first, at(20_001))
	want := DeliveryCount{Sent: maxPending + 1, Received: 1, Lost: maxPending}
	if diff := cmp.Diff(want, pair.counted(at(20_002))); diff != "" {
		t.Error(diff)
	}
	for i := range 3 * maxTimes {
		pair.arrived(pair.begin(at(i)), at(i))
	}
	if n := len(pair.times); n > 2*maxTimes || n < maxTimes {
		t.Errorf("%d times kept", n)
	}
}

func TestTallyOutage(t *testing.T) {
	const lasting = time.Second
	arrivals := []int{0, 100, 200, 900, 1000, 1300, 1400} // gaps of 700 and 300 ms
	tests := []struct {
		name       string
		since, now int
		want       PairOutage
	}{
		{"from the start", 0, 1450, PairOutage{LastBefore: at(200), FirstAfter: at(900), Outage: 700 * time.Millisecond, Recovered: true}},
		{"began before", 300, 1450, PairOutage{LastBefore: at(200), FirstAfter: at(900), Outage: 700 * time.Millisecond, Recovered: true}},
		{"after the long one", 950, 1450, PairOutage{LastBefore: at(1000), FirstAfter: at(1300), Outage: 300 * time.Millisecond, Recovered: true}},
		{"ended at since", 900, 1450, PairOutage{LastBefore: at(1000), FirstAfter: at(1300), Outage: 300 * time.Millisecond, Recovered: true}},
		{"nothing since", 1500, 1600, PairOutage{Recovered: true}},
		{"lasts", 0, 2500, PairOutage{LastBefore: at(1400), Outage: 1100 * time.Millisecond}},
	}
	pair := newTally()
	for _, ms := range arrivals {
		pair.arrived(pair.begin(at(ms)), at(ms))
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, pair.outage(at(tt.since), at(tt.now), lasting)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := newTally().outage(at(0), at(5000), lasting); got.Recovered {
		t.Error("recovered, and nothing ever arrived")
	}
}

func TestTrafficReceives(t *testing.T) {
	d := direction{"a", "b"}
	good := newPayload(d, 1)
	tests := []struct {
		name    string
		payload any
		want    DeliveryCount
	}{
		{"as sent", good, DeliveryCount{Sent: 1, Received: 1}},
		{"another number", payload{Seq: 2, Sum: good.Sum}, DeliveryCount{Sent: 1, Corrupt: 1}},
		{"a number never sent", newPayload(d, 2), DeliveryCount{Sent: 1, Corrupt: 1}},
		{"number zero", newPayload(d, 0), DeliveryCount{Sent: 1, Corrupt: 1}},
		{"of another pair", newPayload(direction{"b", "a"}, 1), DeliveryCount{Sent: 1, Corrupt: 1}},
		{"wrong type", map[string]string{"seq": "1"}, DeliveryCount{Sent: 1, Corrupt: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			traffic := newTraffic([]string{"a", "b"}, time.Second)
			traffic.sendOne(d, func(string, any) error { return nil })
			raw, err := json.Marshal(tt.payload)
			if err != nil {
				t.Fatal(err)
			}
			traffic.receive("a", "b", wire.Message{Payload: raw}, time.Now())
			traffic.receive("stranger", "b", wire.Message{Payload: raw}, time.Now())
			if diff := cmp.Diff(tt.want, traffic.delivery()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTrafficNotSent(t *testing.T) {
	traffic := newTraffic([]string{"a", "b"}, time.Second)
	d := direction{"a", "b"}
	traffic.sendOne(d, func(string, any) error { return errors.New("no channel") })
	if diff := cmp.Diff(DeliveryCount{}, traffic.delivery()); diff != "" {
		t.Error(diff)
	}
	var sent payload
	traffic.sendOne(d, func(to string, p any) error { sent = p.(payload); return nil })
	raw, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	traffic.receive("a", "b", wire.Message{Payload: raw}, time.Now())
	if diff := cmp.Diff(DeliveryCount{Sent: 1, Received: 1}, traffic.delivery()); diff != "" {
		t.Error(diff)
	}
}

func TestTrafficSilence(t *testing.T) {
	traffic := newTraffic([]string{"b", "a"}, time.Hour)
	if err := traffic.silent(); err == nil || !strings.Contains(err.Error(), "a to b: nothing received yet") {
		t.Errorf("error %v", err)
	}
	for _, o := range traffic.outages(time.Now()) {
		if o.Recovered || o.Outage <= 0 {
			t.Errorf("before the first message: %+v", o)
		}
	}
	for _, pair := range traffic.pairs {
		pair.arrived(pair.begin(time.Now()), time.Now())
	}
	if err := traffic.silent(); err != nil {
		t.Error(err)
	}
	traffic.pairs[direction{"b", "a"}].lastAt = time.Now().Add(-5 * time.Hour)
	if err := traffic.silent(); err == nil || strings.Contains(err.Error(), "a to b") || !strings.Contains(err.Error(), "b to a: nothing received for 5h") {
		t.Errorf("error %v", err)
	}
}
