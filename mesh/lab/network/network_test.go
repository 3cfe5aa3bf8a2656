package network

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newNetwork(t *testing.T) *Network {
	n := New(1)
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func add(t *testing.T, n *Network, rules ...Rule) {
	t.Helper()
	for _, r := range rules {
		if err := n.Add(r); err != nil {
			t.Fatal(err)
		}
	}
}

// dropped counts how many of many packets get lost.
func dropped(n *Network, from, to string) (count int) {
	for range 10_000 {
		if _, drop := n.fate(from, to, false); drop {
			count++
		}
	}
	return count
}

func TestLossIsOfOneDirection(t *testing.T) {
	n := newNetwork(t)
	add(t, n, Rule{"a", "b", Impairment{Loss: 0.2}, false})
	if got := dropped(n, "a", "b"); got < 1800 || got > 2200 {
		t.Errorf("%d of 10000 packets lost, not a fifth", got)
	}
	if got := dropped(n, "b", "a") + dropped(n, "a", "c") + dropped(n, "", "b"); got != 0 {
		t.Errorf("%d packets lost in directions without a rule", got)
	}
	if c := n.Counts("a", "b"); c.Dropped+c.Passed != 10_000 || n.Counts("b", "a").Passed != 10_000 {
		t.Errorf("counted %+v", c)
	}
}

func TestSameSeedSameFate(t *testing.T) {
	fates := func(seed uint64) (list []bool) {
		n := New(seed)
		add(t, n, Rule{"*", "*", Impairment{Loss: 0.5, Jitter: time.Second}, false})
		for range 100 {
			delay, drop := n.fate("a", "b", false)
			list = append(list, drop, delay > time.Second/2)
		}
		return list
	}
	one, again, other, equal := fates(7), fates(7), fates(8), 0
	for i := range one {
		if one[i] != again[i] {
			t.Fatalf("decision %d differs with the same seed", i)
		}
		if one[i] == other[i] {
			equal++
		}
	}
	if equal == len(one) {
		t.Error("another seed changes nothing")
	}
}

func TestPatterns(t *testing.T) {
	n := newNetwork(t)
	n.LearnServer(netip.MustParseAddrPort("127.0.0.1:3478"), "turn-1")
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "a", true},
		{"*", "turn-1", false},
		{"turn-*", "turn-1", true},
		{"turn-1", "turn-1", true},
		{"meshctl-*-1", "meshctl-01ABC-1", true},
		{"meshctl-*-1", "meshctl-01ABC-2", false},
	} {
		if got := n.matches(test.pattern, test.name); got != test.want {
			t.Errorf("%s matches %s: %t", test.pattern, test.name, got)
		}
	}
	for _, bad := range []Rule{{From: "", To: "a"}, {From: "a", To: "["}, {"a", "b", Impairment{Loss: 1.1}, false}, {"a", "b", Impairment{Delay: -1}, false}} {
		if n.Add(bad) == nil {
			t.Errorf("rule %+v was taken", bad)
		}
	}
}

func TestRulesAddUpAndGo(t *testing.T) {
	n := newNetwork(t)
	slow, cut := Rule{"*", "b", Impairment{Delay: time.Second}, false}, Rule{"a", "*", Impairment{Cut: true}, false}
	add(t, n, slow, slow, cut)
	if delay, drop := n.fate("a", "b", false); delay != 2*time.Second || !drop {
		t.Errorf("delay %s, drop %t", delay, drop)
	}
	n.Remove(cut)
	n.Remove(slow)
	if delay, drop := n.fate("a", "b", false); delay != time.Second || drop {
		t.Errorf("delay %s, drop %t", delay, drop)
	}
}

func TestDirectSparesRelays(t *testing.T) {
	n := newNetwork(t)
	add(t, n, Rule{"a", "b", Impairment{Delay: time.Second}, true})
	for relayed, want := range map[bool]time.Duration{true: 0, false: time.Second} {
		if delay, _ := n.fate("a", "b", relayed); delay != want {
			t.Errorf("relayed %t: delay %s, want %s", relayed, delay, want)
		}
	}
	n.LearnCandidate("candidate:9 1 udp 1 127.0.0.1 4003 typ relay raddr 127.0.0.1 rport 1", "b")
	n.LearnCandidate("candidate:9 1 udp 1 127.0.0.1 4004 typ host", "b")
	if at := netip.MustParseAddr("127.0.0.1"); !n.isRelay(netip.AddrPortFrom(at, 4003)) || n.isRelay(netip.AddrPortFrom(at, 4004)) {
		t.Error("a relay address is not known from a host's")
	}
}

func TestLearnCandidates(t *testing.T) {
	n := newNetwork(t)
	n.LearnDescription("v=0\r\na=candidate:1 1 udp 2130706431 127.0.0.1 4001 typ host\r\n"+
		"a=candidate:2 1 tcp 1 127.0.0.1 4002 typ host\r\na=candidate:3 1 UDP 1 nonsense\r\n", "a")
	n.LearnCandidate("candidate:9 1 udp 1 127.0.0.1 4003 typ relay raddr 127.0.0.1 rport 1", "b")
	for port, want := range map[uint16]string{4001: "a", 4002: "", 4003: "b"} {
		if got, _ := n.owner(netip.AddrPortFrom(netip.MustParseAddr("::ffff:127.0.0.1"), port)); got != want {
			t.Errorf("port %d is %q's, not %q's", port, got, want)
		}
	}
}

// listen opens a host socket of an agent.
func listen(t *testing.T, n *Network, agent string) net.PacketConn {
	t.Helper()
	own, err := n.Net(agent)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := own.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func send(t *testing.T, from net.PacketConn, text string, to net.Addr) {
	t.Helper()
	if _, err := from.WriteTo([]byte(text), to); err != nil {
		t.Fatal(err)
	}
}

// receive gives the next packet.
func receive(t *testing.T, conn net.PacketConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1500)
	count, _, err := conn.ReadFrom(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:count])
}

func TestDelayKeepsTheOrder(t *testing.T) {
	n := newNetwork(t)
	add(t, n, Rule{"a", "b", Impairment{Delay: 50 * time.Millisecond}, false})
	a, b := listen(t, n, "a"), listen(t, n, "b")
	start := time.Now()
	for _, text := range []string{"1", "2", "3", "4", "5"} {
		send(t, a, text, b.LocalAddr())
	}
	for _, want := range []string{"1", "2", "3", "4", "5"} {
		if got := receive(t, b); got != want {
			t.Errorf("got %s, not %s", got, want)
		}
	}
	if took := time.Since(start); took < 50*time.Millisecond {
		t.Errorf("delayed by %s", took)
	}
}

func TestCutOneWay(t *testing.T) {
	n := newNetwork(t)
	cut := Rule{"a", "b", Impairment{Cut: true}, false}
	add(t, n, cut)
	a, b := listen(t, n, "a"), listen(t, n, "b")
	send(t, a, "lost", b.LocalAddr())
	send(t, b, "back", a.LocalAddr())
	if got := receive(t, a); got != "back" {
		t.Errorf("got %s", got)
	}
	n.Remove(cut)
	send(t, a, "after", b.LocalAddr())
	if got := receive(t, b); got != "after" {
		t.Errorf("got %s", got)
	}
}

func TestCloseDropsWhatIsDelayed(t *testing.T) {
	n := New(1)
	add(t, n, Rule{"*", "*", Impairment{Delay: time.Hour}, false})
	a, b := listen(t, n, "a"), listen(t, n, "b")
	send(t, a, "never", b.LocalAddr())
	_ = n.Close()
	_ = n.Close()
	send(t, a, "never", b.LocalAddr())
}
