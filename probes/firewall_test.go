package probes_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

func silentLog() *log.Logger { return log.New(io.Discard, "", 0) }

// The relay's ports in a network namespace of the test's own, where nobody else
// has ports.
const relayFrom, relayTo = 61000, 61100

// firewallRules break the relay for the class of their number. They all drop
// what comes in: a server is told of what may not go out.
var firewallRules = map[int]string{
	3: "add rule inet relay in ct state new udp dport 61000-61100 drop",
	4: "add rule inet relay in udp dport 61000-61100 drop",
	5: "add rule inet relay in udp sport 61000-61100 drop",
}

const inNamespace = "MESHCTL_TEST_NAMESPACE"

// behindFirewall runs TestBehindFirewall in a network namespace and returns
// what the classes there were named. Where there are no namespaces it skips.
func behindFirewall(t *testing.T) map[int]result {
	t.Helper()
	if err := exec.CommandContext(t.Context(), "unshare", "-rn", "nft", "list", "ruleset").Run(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("no network namespace with nftables: ", err)
		}
		t.Skip("needs a network namespace with nftables")
	}
	child := exec.CommandContext(t.Context(), "unshare", "-rn", os.Args[0], "-test.run=^TestBehindFirewall$", "-test.v")
	child.Env = append(os.Environ(), inNamespace+"=1")
	child.SysProcAttr = diesWithParent()
	output, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("in the namespace: %v\n%s", err, output)
	}
	results := map[int]result{}
	for line := range strings.Lines(string(output)) {
		fields := strings.SplitN(strings.TrimSpace(line), "|", 5)
		if len(fields) != 5 || fields[0] != "class" {
			continue
		}
		number, _ := strconv.Atoi(fields[1])
		took, _ := time.ParseDuration(fields[3])
		results[number] = result{fields[2], fields[4], took}
	}
	return results
}

// TestBehindFirewall prints what each firewalled coturn is named.
func TestBehindFirewall(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		t.Skip("runs in a namespace, as a part of TestClasses")
	}
	run(t, "ip", "link", "set", "lo", "up")
	run(t, "nft", "add table inet relay; add chain inet relay in { type filter hook input priority 0 ; }")
	target := coturn(t, userFlags("--min-port", strconv.Itoa(relayFrom), "--max-port", strconv.Itoa(relayTo))...)
	peer := servePeer(t)
	for number, rule := range firewallRules {
		run(t, "nft", rule)
		var own, given result
		var asked sync.WaitGroup
		p := probes.TURN{Target: target, Credentials: goodLogin()}
		asked.Go(func() { own = outcome([]probes.Report{p.Run(t.Context())}) })
		q := p
		q.Peer = peer
		asked.Go(func() { given = outcome([]probes.Report{q.Run(t.Context())}) })
		asked.Wait()
		run(t, "nft", "flush chain inet relay in")
		if own.code != given.code {
			t.Errorf("class %d: %s by our own sockets, %s by an echo peer: %s", number, own.code, given.code, given.summary)
		}
		fmt.Printf("class|%d|%s|%s|%s\n", number, given.code, given.took, given.summary)
	}
	wantReport(t, probes.TURN{Target: target, Credentials: goodLogin(), Peer: peer}.Run(t.Context()), probes.CodeTURNOK)
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if output, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, output)
	}
}

// servePeer runs an echo peer for the test.
func servePeer(t *testing.T) netip.AddrPort {
	t.Helper()
	p, err := probes.ListenPeer(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Serve(t.Context()) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p.Addr()
}

// through passes the datagrams of clients to the server that pick says, and
// all answers back, as a middlebox with one port per client does.
func through(t testing.TB, pick func(b []byte) wire.ServerURI) wire.ServerURI {
	t.Helper()
	front := listen(t)
	go func() {
		upstreams := map[netip.AddrPort]*net.UDPConn{}
		defer func() {
			for _, up := range upstreams {
				_ = up.Close()
			}
		}()
		b := make([]byte, 4096)
		for {
			n, from, err := front.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			up := upstreams[from]
			if up == nil {
				if up, err = net.ListenUDP("udp", &net.UDPAddr{IP: loopback}); err != nil {
					return
				}
				upstreams[from] = up
				go answersOf(up, front, from)
			}
			_, _ = up.WriteToUDPAddrPort(b[:n], netip.MustParseAddrPort(pick(b[:n]).Address()))
		}
	}()
	return uri(addrPort(front.LocalAddr()))
}

func answersOf(up, front *net.UDPConn, to netip.AddrPort) {
	b := make([]byte, 4096)
	for {
		n, err := up.Read(b)
		if err != nil {
			return
		}
		_, _ = front.WriteToUDPAddrPort(b[:n], to)
	}
}
