package probes_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

func TestSTUN(t *testing.T) {
	answering, _ := pion(t, nil, nil)
	refusing := scripted(t, func(m *stun.Message, _ netip.AddrPort) [][]byte { return [][]byte{refuse(m, stun.CodeUnauthorized)} })
	unmapped := scripted(t, func(m *stun.Message, _ netip.AddrPort) [][]byte {
		return [][]byte{response(m, stun.ClassSuccessResponse)}
	})
	tests := []struct {
		name   string
		target wire.ServerURI
		want   string
	}{
		{"answers", answering, probes.CodeSTUNOK},
		{"coturn", coturn(t, userFlags()...), probes.CodeSTUNOK},
		{"silent", uri(addrPort(listen(t).LocalAddr())), probes.CodeSTUNSilent},
		{"closed port", uri(closedPort(t)), probes.CodeSTUNClosed},
		{"refuses", refusing, probes.CodeSTUNRefused},
		{"answers without address", unmapped, probes.CodeSTUNGarbled},
		{"wrong name", wire.ServerURI{Host: "no..such..name"}, probes.CodeDNSFailed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.target.Scheme = "stun"
			r := probes.STUN{Target: test.target, Schedule: brief, Timeout: time.Minute}.Run(t.Context())
			wantReport(t, r, test.want)
			if f := r.Findings[0]; test.want == probes.CodeSTUNOK {
				if a, err := netip.ParseAddrPort(f.Fact("mapped")); err != nil || !a.Addr().IsLoopback() || f.Fact("rtt_ms") == "" {
					t.Errorf("facts %+v", f.Facts)
				}
			}
		})
	}
}

func TestSTUNStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	target := scripted(t, func(*stun.Message, netip.AddrPort) [][]byte { cancel(); return nil })
	patient := probes.Schedule{First: time.Hour, Sends: 2, GiveUp: 3 * time.Hour}
	wantReport(t, probes.STUN{Target: target, Schedule: patient}.Run(ctx), probes.CodeSTUNInterrupted)
}

// TestScheduleIsKept counts what reaches a silent server: the same request,
// as often as the schedule says.
func TestScheduleIsKept(t *testing.T) {
	var requests []string // read after the server is done: its replies order the two
	last := stun.NewTransactionID()
	done := make(chan struct{})
	target := scripted(t, func(m *stun.Message, _ netip.AddrPort) [][]byte {
		if m.TransactionID == last {
			close(done)
			return nil
		}
		requests = append(requests, string(m.Raw))
		return nil
	})
	schedule := probes.Schedule{First: time.Millisecond, Sends: 5, GiveUp: 500 * time.Millisecond}
	wantReport(t, probes.STUN{Target: target, Schedule: schedule}.Run(t.Context()), probes.CodeSTUNSilent)
	marker := stun.MustBuild(stun.BindingRequest, stun.NewTransactionIDSetter(last))
	if _, err := listen(t).WriteToUDPAddrPort(marker.Raw, netip.MustParseAddrPort(target.Address())); err != nil {
		t.Fatal(err)
	}
	<-done
	if len(requests) != schedule.Sends || len(slices.Compact(requests)) != 1 {
		t.Errorf("%d requests, want %d equal ones", len(requests), schedule.Sends)
	}
}
