package runbooks

import (
	"strings"
	"testing"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

func share(f float64) *float64 { return &f }

func TestPeerGridJudgesEveryDirection(t *testing.T) {
	up := func(from, to string) wire.Link {
		return wire.Link{Local: from, Peer: to, State: wire.StateConnected, Path: wire.PathHost, RTTMillis: share(1), LossTx: share(0)}
	}
	for _, test := range []struct {
		name   string
		agents []string
		change func([]wire.Link)
		want   probes.Verdict
		says   string
	}{
		{"fine", []string{"a", "b"}, func([]wire.Link) {}, probes.Pass, ""},
		{"one-sided", []string{"a", "b"}, func(l []wire.Link) { l[1].State = wire.StateDisconnected }, probes.Fail, "connected, but b is disconnected the other way"},
		{"slow", []string{"a", "b"}, func(l []wire.Link) { l[0].RTTMillis = share(501) }, probes.Fail, "round trip 501 ms (limit 500 ms)"},
		{"a slow relay may be slower", []string{"a", "b"}, func(l []wire.Link) { l[0].RTTMillis, l[0].Path = share(501), wire.PathRelay }, probes.Warn, "limit 500 ms"},
		{"lossy", []string{"a", "b"}, func(l []wire.Link) { l[0].LossTx = share(0.2) }, probes.Fail, "20 % of what it sends is lost"},
		{"lossy, a little", []string{"a", "b"}, func(l []wire.Link) { l[0].LossTx = share(0.03) }, probes.Warn, "3 % of what it sends is lost (limit 2 %)"},
		{"unsteady", []string{"a", "b"}, func(l []wire.Link) { l[0].JitterMillis = share(31) }, probes.Warn, "jitter 31 ms (limit 30 ms)"},
		{"very unsteady", []string{"a", "b"}, func(l []wire.Link) { l[0].JitterMillis = share(101) }, probes.Fail, "jitter 101 ms (limit 100 ms)"},
		{"nobody knows more", []string{"a", "b"}, func(l []wire.Link) { l[0].LossTx, l[0].RTTMillis = nil, nil }, probes.Pass, ""},
		{"an isolated agent", []string{"a", "b", "c"}, func([]wire.Link) {}, probes.Fail, "reaches nobody"},
		{"alone", []string{"a"}, func(l []wire.Link) {}, probes.Unknown, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := PeerGrid{Verdict: probes.Pass, Agents: test.agents, Links: []wire.Link{up("a", "b"), up("b", "a")}}
			test.change(g.Links)
			byName, _ := population{links: g.Links}.names()
			g.judge(byName, DefaultThresholds())
			if g.Verdict != test.want {
				t.Errorf("%s: %+v, not %s", g.Verdict, g.Problems, test.want)
			}
			if test.says != "" && (len(g.Problems) == 0 || !strings.Contains(g.Problems[0].Summary+g.Problems[len(g.Problems)-1].Summary, test.says)) {
				t.Errorf("problems %+v do not say %q", g.Problems, test.says)
			}
		})
	}
}

// TestGoneOrCutOff: an agent that has left is not said to be registered.
func TestGoneOrCutOff(t *testing.T) {
	for _, test := range []struct {
		registered map[string]bool
		says       string
	}{
		{nil, "reaches nobody"},
		{map[string]bool{"a": true, "b": true, "c": true}, "is registered and reaches nobody"},
		{map[string]bool{"a": true, "b": true}, "is not registered and reaches nobody"},
	} {
		g := PeerGrid{Verdict: probes.Pass, Agents: []string{"a", "b", "c"}, registered: test.registered, Links: []wire.Link{
			{Local: "a", Peer: "b", State: wire.StateConnected}, {Local: "b", Peer: "a", State: wire.StateConnected},
		}}
		g.judge(nil, DefaultThresholds())
		if g.Verdict != probes.Fail || len(g.Problems) != 1 || g.Problems[0].Summary != test.says {
			t.Errorf("%s: %+v, want %q", g.Verdict, g.Problems, test.says)
		}
	}
}

func TestWhyNotDirect(t *testing.T) {
	host, relay := wire.PathCandidate{Type: wire.PathHost}, wire.PathCandidate{Type: wire.PathRelay}
	for _, test := range []struct {
		name string
		end  wire.PathReport
		says string
	}{
		{"policy", wire.PathReport{State: wire.StateConnected, Path: wire.PathRelay, RelayOnly: true}, "relay-only policy"},
		{"no address", wire.PathReport{State: wire.StateConnected, Path: wire.PathRelay, Own: []wire.PathCandidate{relay}}, "found no address of its own"},
		{"the peer has none", wire.PathReport{State: wire.StateConnected, Path: wire.PathRelay, Own: []wire.PathCandidate{host}, Theirs: []wire.PathCandidate{relay}}, "offered no address"},
		{"firewall", wire.PathReport{
			State: wire.StateConnected, Path: wire.PathRelay, Own: []wire.PathCandidate{host}, Theirs: []wire.PathCandidate{host},
			Pairs: []wire.PathPair{{Local: host, Remote: host, State: "failed", RequestsSent: 7}},
		}, "1 direct pairs were tried and none was answered"},
		{"too late", wire.PathReport{
			State: wire.StateConnected, Path: wire.PathRelay, Own: []wire.PathCandidate{host}, Theirs: []wire.PathCandidate{host},
			Pairs: []wire.PathPair{{Local: host, Remote: host, State: "succeeded", RequestsSent: 7, ResponsesReceived: 7}},
		}, "a relay was chosen before"},
		{"direct", wire.PathReport{
			State: wire.StateConnected, Path: wire.PathHost, Own: []wire.PathCandidate{host}, Theirs: []wire.PathCandidate{host},
			Pairs: []wire.PathPair{{Local: host, Remote: host, State: "succeeded", Nominated: true, RequestsSent: 7, ResponsesReceived: 7}},
		}, "the path is direct"},
		{"down", wire.PathReport{Local: "a", State: wire.StateDisconnected, Down: "nothing received", DownMillis: 1250}, "a: down for 1.3s: nothing received; "},
		{"nothing", wire.PathReport{State: wire.StateNone}, "has no link"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(reasons(test.end), "; "); !strings.Contains(got, test.says) {
				t.Errorf("%q does not say %q", got, test.says)
			}
		})
	}
}
