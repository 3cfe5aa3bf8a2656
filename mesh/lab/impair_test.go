package lab

import (
	"fmt"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

func TestNetworkTargets(t *testing.T) {
	for _, test := range []struct{ name, target, want string }{
		{"network-loss", "", "network-loss on agent-1>*=20%"},
		{"network-loss", "agent-2>agent-1", "network-loss on agent-2>agent-1=20%"},
		{"network-delay", "*>*=300ms+75ms", "network-delay on *>*=300ms+75ms"},
		{"network-delay-direct", "a<>b", "network-delay-direct on a<>b=300ms"},
		{"network-cut", "agent-1<>agent-2", "network-cut on agent-1<>agent-2"},
	} {
		f := Fault{Name: test.name, Target: test.target}
		if _, err := (&Lab{}).kind(&f); err != nil || f.String() != test.want {
			t.Errorf("%s: %v", f, err)
		}
	}
	for _, bad := range []Fault{
		{"network-loss", "agent-1"}, {"network-loss", ">b"}, {"network-loss", "a>b=20"}, {"network-loss", "a>b=0%"},
		{"network-loss", "a>b=101%"}, {"network-loss", "a>b=NaN%"}, {"network-delay", "a>b=soon"},
		{"network-delay", "a>b=1ms+x"}, {"network-delay", "a>b=2m"}, {"network-cut", "a>b=1"},
	} {
		if _, err := (&Lab{}).kind(&bad); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

// TestBadPaths breaks the paths of relayed agents one after the other.
func TestBadPaths(t *testing.T) {
	l := startLab(t, Options{Agents: 3})
	l.mustBeSteady(t, 200*time.Millisecond)
	t.Run("loss one way", func(t *testing.T) {
		inject(t, l, "network-loss", "agent-1>agent-2=20%")
		eventually(t, "packets are lost", func() error {
			if c := l.network.Counts("agent-1", "agent-2"); c.Dropped < 10 {
				return fmt.Errorf("%+v", c)
			}
			return nil
		})
		heal(t, l, "network-loss", "agent-1>agent-2=20%")
		if c := l.network.Counts("agent-2", "agent-1"); c.Dropped > 0 {
			t.Errorf("the other way lost packets: %+v", c)
		}
	})
	t.Run("delay", func(t *testing.T) {
		inject(t, l, "network-delay", "*>*=60ms+20ms")
		eventually(t, "round trips are slow", func() error { return l.slowerThan(120) })
		heal(t, l, "network-delay", "*>*=60ms+20ms")
	})
	t.Run("cut", func(t *testing.T) {
		inject(t, l, "network-cut", "agent-1<>*")
		eventually(t, "agent-1 is alone", func() error {
			for _, link := range l.Links() {
				if cut := link.Local == "agent-1" || link.Peer == "agent-1"; cut && link.State == wire.StateConnected {
					return fmt.Errorf("%s is connected", link.ID)
				}
			}
			return nil
		})
		heal(t, l, "network-cut", "agent-1<>*")
	})
	l.mustBeSteady(t, 200*time.Millisecond)
	if active := l.Active(); len(active) > 0 {
		t.Errorf("faults are left: %v", active)
	}
}

// slowerThan tells whether every link measured a round trip of that many
// milliseconds or more.
func (l *Lab) slowerThan(ms float64) error {
	for _, link := range l.Links() {
		if link.RTTMillis == nil || *link.RTTMillis < ms {
			return fmt.Errorf("%s: %v ms", link.ID, link.RTTMillis)
		}
	}
	return nil
}
