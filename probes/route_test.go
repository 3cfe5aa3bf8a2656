package probes_test

import (
	"net/netip"
	"testing"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

func TestRoutable(t *testing.T) {
	server := netip.MustParseAddrPort("127.0.0.1:1")
	if !probes.Routable(server) {
		t.Error("no route to loopback")
	}
	r := probes.NoRoute("turn", wire.ServerURI{Scheme: "turn", Host: "a.test"}, server)
	if r.Verdict != probes.Skip || r.Healthy() || codesOf(r) != probes.CodeNoRoute {
		t.Errorf("got %+v", r)
	}
}
