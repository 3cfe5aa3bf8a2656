package mesh

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/wire"
)

func parseList(t *testing.T, s string) []wire.ServerURI {
	t.Helper()
	list, err := wire.ParseServerList(s)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestPoolChoose(t *testing.T) {
	const a, b = "turn:a", "turn:b"
	now := time.Now()
	before, after := now.Add(-time.Second), now.Add(time.Second)
	ms := time.Millisecond
	for _, test := range []struct {
		name     string
		a, b     turnServer
		excluded exclusions
		want     string
		ok       bool
		left     exclusions
	}{
		{"nothing known: the list decides", turnServer{}, turnServer{}, nil, a, true, nil},
		{"lowest latency", turnServer{latency: 30 * ms}, turnServer{latency: 10 * ms}, nil, b, true, nil},
		{"5 ms apart is equal", turnServer{latency: 9 * ms}, turnServer{latency: 4 * ms}, nil, a, true, nil},
		{"25 % apart is equal", turnServer{latency: 125 * ms}, turnServer{latency: 100 * ms}, nil, a, true, nil},
		{"26 % apart is not", turnServer{latency: 126 * ms}, turnServer{latency: 100 * ms}, nil, b, true, nil},
		{"excluded", turnServer{}, turnServer{}, exclusions{a: now}, b, true, exclusions{a: now}},
		{"failing ranks behind", turnServer{failures: 1}, turnServer{}, nil, b, true, nil},
		{"failing is better than nothing", turnServer{failures: 1}, turnServer{}, exclusions{b: now}, a, true, exclusions{b: now}},
		{"breaker open", turnServer{failures: 3, unhealthy: true}, turnServer{}, exclusions{b: now}, "", false, exclusions{b: now}},
		{"answered since it was excluded", turnServer{answered: after}, turnServer{}, exclusions{a: now, b: now}, a, true, exclusions{b: now}},
		{"answered before it was excluded", turnServer{answered: before}, turnServer{}, exclusions{a: now, b: now}, "", false, exclusions{a: now, b: now}},
		{"proven beats failing", turnServer{answered: after}, turnServer{failures: 1}, exclusions{a: now}, a, true, exclusions{}},
		{"all breakers open", turnServer{unhealthy: true, failures: 3}, turnServer{unhealthy: true, failures: 3}, nil, a, true, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPool(AgentOptions{TURNServers: parseList(t, "turn:a,stun:s,turn:b")}, nil, nil)
			test.a.uri, test.b.uri = p.servers[0].uri, p.servers[1].uri
			p.servers = []*turnServer{&test.a, &test.b}
			got, ok := p.choose(test.excluded)
			if got != test.want || ok != test.ok {
				t.Errorf("choose = %q, %t; want %q, %t", got, ok, test.want, test.ok)
			}
			if diff := cmp.Diff(test.left, test.excluded); diff != "" {
				t.Errorf("exclusions left (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPoolWithoutTURN(t *testing.T) {
	p := newPool(AgentOptions{TURNServers: parseList(t, "stun:s")}, nil, nil)
	if server, ok := p.choose(exclusions{}); server != "" || !ok || p.first() != "" {
		t.Errorf("choose = %q, %t; want none and ok", server, ok)
	}
	if _, ok := p.choose(exclusions{"": time.Now()}); ok {
		t.Error("choose is ok after an attempt without TURN failed; want backing off")
	}
	if got := p.stunServers(); len(got) != 1 || got[0].String() != "stun:s" {
		t.Errorf("STUN servers %v, want stun:s", got)
	}
}

func TestPoolBreaker(t *testing.T) {
	var answer error
	var names []string
	recovered := 0
	p := newPool(AgentOptions{TURNServers: parseList(t, "turn:a"), Check: func(context.Context, wire.ServerURI) (time.Duration, error) {
		return time.Millisecond, answer
	}}, func(name, _ string, _ metadata) { names = append(names, name) }, func() { recovered++ })
	for _, answer = range []error{nil, errDown, errDown, errDown, errDown, nil, nil} {
		p.checkAll(t.Context())
	}
	want := []string{
		"turn_server_health_check_success",
		"turn_server_marked_unhealthy", "all_turn_servers_unhealthy", // once, at the third failure
		"turn_server_health_check_success", "turn_server_health_check_success",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if recovered != 1 {
		t.Errorf("recovered %d times, want once", recovered)
	}
}

var errDown = errors.New("down")

func TestPoolChecksEndWithTheAgent(t *testing.T) {
	asked := make(chan struct{}, 1)
	p := newPool(AgentOptions{TURNServers: parseList(t, "turn:a"), Check: func(ctx context.Context, _ wire.ServerURI) (time.Duration, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return 0, ctx.Err()
	}}, func(name, _ string, _ metadata) { t.Errorf("event %s of a check that was cut off", name) }, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		p.run(ctx)
		close(done)
	}()
	<-asked
	cancel()
	<-done
}
