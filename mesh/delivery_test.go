package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
)

func deliveryOptions(signal *signalServer) DeliveryOptions {
	return DeliveryOptions{
		Run: "test", Agents: 3, Duration: 300 * time.Millisecond, Interval: 10 * time.Millisecond,
		SignalingURLs: []string{signal.url()}, Loopback: true, Timing: LabTiming(),
		Username: turnUser, Password: secret.New(turnPassword),
	}
}

func TestDeliveryCountsEverything(t *testing.T) {
	relay := newRelay(t, true)
	for _, test := range []struct {
		name  string
		relay bool
		path  string
	}{{"host", false, wire.PathHost}, {"relay", true, wire.PathRelay}} {
		t.Run(test.name, func(t *testing.T) {
			signal := newSignalServer(t)
			o := deliveryOptions(signal)
			server := ""
			if test.relay {
				o.RelayOnly, o.TURNServers = true, uris(relay)
				server = relay.uri.String()
			}
			r, err := TestDelivery(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Complete() || len(r.Pairs) != 6 || r.Sent < 6 {
				t.Fatalf("not complete: %+v", r)
			}
			if r.Received != r.Sent || r.Lost+r.Duplicated+r.Reordered+r.Corrupt+r.Refused != 0 {
				t.Errorf("loopback loses messages: %+v", r.Tally)
			}
			if r.LatencyP50 <= 0 || r.LatencyP50 > r.LatencyP95 || r.LatencyP95 > r.LatencyP99 {
				t.Errorf("latencies %v %v %v", r.LatencyP50, r.LatencyP95, r.LatencyP99)
			}
			for _, p := range r.Pairs {
				if p.Path != test.path || p.TURNServer != server || p.Sent == 0 {
					t.Errorf("%s to %s: %+v", p.From, p.To, p)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if poll(ctx, func() bool { return !signal.has("meshctl-test-1") }) != nil {
				t.Error("an agent of the test is still registered")
			}
		})
	}
}

// mistreat does to the messages of one direction what a bad network does, and
// counts it.
type mistreat struct {
	from, to string
	f        func(m wire.Message, at time.Time, deliver func(wire.Message))

	mu   sync.Mutex
	done int
}

func (x *mistreat) intercept(deliver onMessage) onMessage {
	return func(from, to string, m wire.Message, at time.Time) {
		if from != x.from || to != x.to {
			deliver(from, to, m, at)
			return
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		x.f(m, at, func(m wire.Message) { deliver(from, to, m, at) })
	}
}

func seqOf(m wire.Message) int {
	var p testPayload
	_ = json.Unmarshal(m.Payload, &p)
	return p.Seq
}

func TestDeliverySeesInjectedFaults(t *testing.T) {
	var held *wire.Message
	for _, test := range []struct {
		name string
		f    func(*mistreat) func(wire.Message, time.Time, func(wire.Message))
		want func(n int) Tally
	}{
		{"every fifth lost", func(x *mistreat) func(wire.Message, time.Time, func(wire.Message)) {
			return func(m wire.Message, _ time.Time, deliver func(wire.Message)) {
				if seqOf(m)%5 == 0 {
					x.done++
					return
				}
				deliver(m)
			}
		}, func(n int) Tally { return Tally{Lost: n} }},
		{"every fifth twice", func(x *mistreat) func(wire.Message, time.Time, func(wire.Message)) {
			return func(m wire.Message, _ time.Time, deliver func(wire.Message)) {
				deliver(m)
				if seqOf(m)%5 == 0 {
					x.done++
					deliver(m)
				}
			}
		}, func(n int) Tally { return Tally{Duplicated: n} }},
		{"the second after the third", func(x *mistreat) func(wire.Message, time.Time, func(wire.Message)) {
			return func(m wire.Message, _ time.Time, deliver func(wire.Message)) {
				switch seqOf(m) {
				case 2:
					held = &m
				case 3:
					x.done++
					deliver(m)
					deliver(*held)
				default:
					deliver(m)
				}
			}
		}, func(n int) Tally { return Tally{Reordered: n} }},
		{"every fifth altered", func(x *mistreat) func(wire.Message, time.Time, func(wire.Message)) {
			return func(m wire.Message, _ time.Time, deliver func(wire.Message)) {
				if seqOf(m)%5 == 0 {
					x.done++
					m.Payload = json.RawMessage(strings.Replace(string(m.Payload), `"data":"`, `"data":"x`, 1))
				}
				deliver(m)
			}
		}, func(n int) Tally { return Tally{Corrupt: n, Lost: n} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := deliveryOptions(newSignalServer(t))
			o.Agents, o.Drain = 2, 200*time.Millisecond
			x := &mistreat{from: "meshctl-test-1", to: "meshctl-test-2"}
			x.f = test.f(x)
			o.intercept = x.intercept
			r, err := TestDelivery(t.Context(), o)
			if err != nil || !r.Complete() {
				t.Fatalf("err %v, result %+v", err, r)
			}
			if x.done == 0 {
				t.Fatal("nothing was injected")
			}
			ignored := cmpopts.IgnoreFields(Tally{}, "Sent", "Received", "LatencyP50", "LatencyP95", "LatencyP99")
			if diff := cmp.Diff(test.want(x.done), r.Pairs[0].Tally, ignored); diff != "" {
				t.Errorf("1 to 2 (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(Tally{}, r.Pairs[1].Tally, ignored); diff != "" {
				t.Errorf("2 to 1 (-want +got):\n%s", diff)
			}
			if r.Received+r.Lost != r.Sent {
				t.Errorf("%d received and %d lost of %d", r.Received, r.Lost, r.Sent)
			}
		})
	}
}

func TestDeliveryNamesPairsThatCannotConnect(t *testing.T) {
	signal := newSignalServer(t)
	signal.intercept(func(s wire.Signal, _ func(wire.Signal)) bool {
		return s.From+s.To == "meshctl-test-1meshctl-test-3"
	})
	o := deliveryOptions(signal)
	o.Setup = time.Second
	o.Timing.OfferSilence = time.Minute // the other side shall not help out
	r, err := TestDelivery(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Complete() {
		t.Error("the result is complete")
	}
	for _, p := range r.Pairs {
		blocked := p.From+p.To == "meshctl-test-1meshctl-test-3" || p.From+p.To == "meshctl-test-3meshctl-test-1"
		if p.Connected == blocked || (p.Error != "") != blocked || (p.Sent == 0) != blocked {
			t.Errorf("%s to %s: %+v", p.From, p.To, p)
		}
	}
}

func TestDeliveryInterrupted(t *testing.T) {
	o := deliveryOptions(newSignalServer(t))
	o.Duration = time.Hour
	ctx, cancel := context.WithCancelCause(t.Context())
	enough, seen := errors.New("enough"), 0
	var mu sync.Mutex
	o.intercept = func(deliver onMessage) onMessage {
		return func(from, to string, m wire.Message, at time.Time) {
			deliver(from, to, m, at)
			mu.Lock()
			defer mu.Unlock()
			if seen++; seen == 20 {
				cancel(enough)
			}
		}
	}
	r, err := TestDelivery(ctx, o)
	if !errors.Is(err, enough) || r.Received < 20 {
		t.Errorf("err %v after %d messages, want the cause and at least 20", err, r.Received)
	}
	if !slices.ContainsFunc(r.Pairs, func(p PairResult) bool { return p.Path != "" }) {
		t.Errorf("no path is known: %+v", r.Pairs)
	}
}

func TestDeliveryErrors(t *testing.T) {
	signal := newSignalServer(t)
	hanging := hangingServer(t)
	for _, test := range []struct {
		name string
		edit func(*DeliveryOptions)
		says string
	}{
		{"no run", func(o *DeliveryOptions) { o.Run = "" }, "no run id"},
		{"one agent", func(o *DeliveryOptions) { o.Agents = 1 }, "1 agents: 2 to 16"},
		{"too many", func(o *DeliveryOptions) { o.Agents = 17 }, "17 agents: 2 to 16"},
		{"too large", func(o *DeliveryOptions) { o.Size = MaxDeliverySize + 1 }, "bytes a message"},
		{"negative", func(o *DeliveryOptions) { o.Drain = -1 }, "negative"},
		{"no signaling in time", func(o *DeliveryOptions) {
			o.SignalingURLs = []string{"ws://" + hanging.Addr().String()}
			o.Setup = 100 * time.Millisecond
		}, "the time for registering, 100ms, is over"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := deliveryOptions(signal)
			test.edit(&o)
			r, err := TestDelivery(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want it to say %q", err, test.says)
			}
			if r.Complete() {
				t.Error("a test that could not run is complete")
			}
		})
	}
}

func TestPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, test := range []struct {
		name   string
		sorted []time.Duration
		p      int
		want   time.Duration
	}{
		{"none", nil, 50, 0},
		{"one", hundred[:1], 99, 1},
		{"p50 of 100", hundred, 50, 50},
		{"p99 of 100", hundred, 99, 99},
		{"p95 of 10", hundred[:10], 95, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := percentile(test.sorted, test.p); got != test.want {
				t.Errorf("percentile = %d, want %d", got, test.want)
			}
		})
	}
}

func TestCountRefusesWhatWasNotSent(t *testing.T) {
	c := newCount(64)
	payload, err := json.Marshal(newTestPayload("x", "y", 1, 64))
	if err != nil {
		t.Fatal(err)
	}
	c.received("x", "y", wire.Message{Source: "x", Destination: "y", Payload: payload}, time.Now())
	var p PairResult
	c.fill(&p)
	if want := fmt.Sprint(Tally{Corrupt: 1}); fmt.Sprint(p.Tally) != want {
		t.Errorf("tally %+v, want one corrupt", p.Tally)
	}
}
