package lab

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/witnessclient"
)

// TestCase22SlowPaths: the round trip of direct paths rises to 600 ms, with
// 150 ms of jitter. A relay is taken where it is faster, and only there.
func TestCase22SlowPaths(t *testing.T) {
	slow := func(e witnessclient.Event) bool {
		rtt, _ := e.Metadata["roundTripTime"].(float64)
		jitter, known := e.Metadata["jitter_ms"].(float64)
		return rtt > 0.5 && known && jitter > 0
	}
	for _, test := range []struct {
		fault, event, path string
	}{
		{"network-delay", "turn_fallback_unnecessary", wire.PathHost},
		{slowDirect, "turn_fallback_successful", wire.PathRelay},
	} {
		t.Run(test.fault, func(t *testing.T) {
			t.Parallel()
			var r recorder
			l := startLab(t, Options{Agents: 2, Direct: true, Check: allocates, Agent: r.on(func(o *mesh.AgentOptions) {
				patient(o)
				o.Timing.Quality, o.Timing.Connect = o.Timing.Keepalive, 10*time.Second // seven slow round trips
			})})
			l.mustBeSteady(t, 200*time.Millisecond)
			before, broken := created(l), time.Now()
			inject(t, l, test.fault, "*>*=300ms+75ms")
			detected := r.byAll(t, l, broken, "connection_quality_update", slow)
			r.detected(t, broken, test.event, of("agent-1"))
			eventually(t, "the faster path", func() error { return l.allBy(test.path) })
			decided := time.Since(broken)
			l.flows(t, 0, 20)
			report(t, 22, test.fault+", kept by "+test.path, detected, decided,
				"3 of 5 looks, in 10 s with default timing; then a second path of seven round trips and 5 looks at both")
			if after := created(l); (after == before) != (test.path == wire.PathHost) {
				t.Errorf("links before and after:\n%s\n%s", before, after)
			}
			intact(t, l)
		})
	}
}

// allBy tells whether all links are connected by a path.
func (l *Lab) allBy(path string) error {
	for _, link := range l.Links() {
		if link.State != wire.StateConnected || link.Path != path {
			return fmt.Errorf("%s is %s by %s", link.ID, link.State, link.Path)
		}
	}
	if len(l.Links()) == 0 {
		return errors.New("no links")
	}
	return nil
}
