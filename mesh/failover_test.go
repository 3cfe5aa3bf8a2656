package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/witnessclient"
)

func uris(relays ...*relayServer) []wire.ServerURI {
	var list []wire.ServerURI
	for _, r := range relays {
		list = append(list, r.uri)
	}
	return list
}

// withTraffic has every agent's messages noted by f.
func withTraffic(f *traffic) func(*AgentOptions) {
	return func(o *AgentOptions) { o.OnMessage = f.receiver(o.ID) }
}

// unhurried is for links that a busy machine shall not break.
func unhurried(o *AgentOptions) {
	o.Timing.Disconnected, o.Timing.Connect = 20*time.Second, 20*time.Second
}

func TestFailoverWhenTURNDies(t *testing.T) {
	first, second := newRelay(t, true), newRelay(t, true)
	m, f := newTestMesh(t), newTraffic(20*time.Millisecond)
	m.addRelayed(3, uris(first, second), withTraffic(f))
	m.connectAll()
	m.onServer(first.uri)
	f.start(t, m.agents)
	m.eventually("messages on all 6 directions", allArrive(f, time.Now(), 6))

	first.kill()
	m.onServer(second.uri)
	m.eventually("messages again", allArrive(f, time.Now(), 6))
	for _, name := range []string{"turn_fallback_initiated", "turn_fallback_successful", "connection_state_changed"} {
		if m.events.count(name) == 0 {
			t.Errorf("no %s event", name)
		}
	}
	for _, e := range m.events.named("turn_fallback_initiated") {
		if e.Metadata["turn_server"] != first.uri.String() {
			t.Errorf("fallback left %v, want %s", e.Metadata["turn_server"], first.uri)
		}
	}
	for _, e := range m.events.named("turn_fallback_retry") {
		if e.Metadata["turn_server"] == first.uri.String() {
			t.Errorf("%s tried the dead server again", e.AgentID)
		}
	}
}

func allArrive(f *traffic, after time.Time, directions int) func() error {
	return func() error {
		if n := f.since(after); n != directions {
			return fmt.Errorf("messages arrive on %d of %d directions", n, directions)
		}
		return nil
	}
}

func TestFailoverOnceMoreAndBack(t *testing.T) {
	first, second := newRelay(t, true), newRelay(t, true)
	m := newTestMesh(t)
	m.addRelayed(2, uris(first, second), nil)
	m.onServer(first.uri)
	first.kill()
	m.onServer(second.uri)
	first.revive()
	second.kill()
	m.onServer(first.uri)
}

// TestFailoverPastASilentServer leaves a server while pion still gathers from it.
func TestFailoverPastASilentServer(t *testing.T) {
	first, last := newRelay(t, true), newRelay(t, true)
	m := newTestMesh(t)
	m.addRelayed(2, []wire.ServerURI{first.uri, silentServer(t), last.uri}, func(o *AgentOptions) { o.Check = nil })
	m.onServer(first.uri)
	first.kill()
	m.onServer(last.uri)
}

func TestRecoveryWhenAllTURNServersWereDead(t *testing.T) {
	relay := newRelay(t, true)
	m := newTestMesh(t)
	m.addRelayed(2, uris(relay), nil)
	m.onServer(relay.uri)
	relay.kill()
	m.eventually("links down", func() error {
		for _, a := range m.agents {
			if l := a.Links()[0]; l.State == wire.StateConnected {
				return fmt.Errorf("%s is connected", l.ID)
			}
		}
		return nil
	})
	m.eventually("all servers unhealthy", func() error {
		for _, e := range m.events.named("all_turn_servers_unhealthy") {
			if e.Severity == "critical" {
				return nil
			}
		}
		return errors.New("no such critical event")
	})
	relay.revive()
	m.onServer(relay.uri)
}

func TestFailoverFromDifferentServers(t *testing.T) {
	first, second := newRelay(t, true), newRelay(t, true)
	for _, test := range []struct {
		name string
		dies *relayServer
		left *relayServer
	}{{"the offering side's dies", first, second}, {"the answering side's dies", second, first}} {
		t.Run(test.name, func(t *testing.T) {
			m := newTestMesh(t)
			lists := [][]wire.ServerURI{uris(first, second), uris(second, first)}
			for i, list := range lists {
				m.add(fmt.Sprintf("a%d", i+1), func(o *AgentOptions) {
					o.RelayOnly, o.TURNServers, o.Check = true, list, allocate
				})
			}
			m.connectAll()
			for i, a := range m.agents {
				if got := text(a.Links()[0].TURNServer); got != lists[i][0].String() {
					t.Errorf("%s is on %s, want %s", a.ID(), got, lists[i][0])
				}
			}
			test.dies.kill()
			m.onServer(test.left.uri)
			test.dies.revive()
		})
	}
}

func TestFailoverWhenCoturnDies(t *testing.T) {
	first, kill := coturn(t)
	second, _ := coturn(t)
	m := newTestMesh(t)
	m.addRelayed(3, []wire.ServerURI{first, second}, nil)
	m.onServer(first)
	kill()
	m.onServer(second)
}

// startTURN starts a TURN server, and gives what kills it.
type startTURN func(t *testing.T) (server wire.ServerURI, kill func())

// onEachTURN runs a test on pion's TURN servers and on Debian's.
func onEachTURN(t *testing.T, test func(*testing.T, startTURN)) {
	t.Run("pion", func(t *testing.T) {
		test(t, func(t *testing.T) (wire.ServerURI, func()) {
			r := newRelay(t, true)
			return r.uri, r.kill
		})
	})
	t.Run("coturn", func(t *testing.T) { test(t, coturn) })
}

// coturn starts Debian's TURN server. It cannot choose a free port and tell, so
// another process may take the port that was free: then another one is tried.
func coturn(t *testing.T) (wire.ServerURI, func()) {
	t.Helper()
	program, err := exec.LookPath("turnserver")
	if err != nil && os.Getenv("CI") == "" {
		t.Skip("coturn is not installed")
	} else if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		var uri wire.ServerURI
		var kill func()
		if uri, kill, err = startCoturn(t, program); err == nil {
			return uri, kill
		}
	}
	t.Fatal(err)
	return wire.ServerURI{}, nil
}

func startCoturn(t *testing.T, program string) (wire.ServerURI, func(), error) {
	t.Helper()
	free, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return wire.ServerURI{}, nil, err
	}
	port := free.LocalAddr().(*net.UDPAddr).Port
	_ = free.Close()
	dir := t.TempDir()
	cmd := exec.Command(program, "-n", "--no-cli", "--no-rfc5780", "--no-tls", "--no-dtls",
		"-p", strconv.Itoa(port), "-L", "127.0.0.1", "-E", "127.0.0.1", "-r", "mesh.test",
		"--lt-cred-mech", "-u", turnUser+":"+turnPassword, "--allow-loopback-peers",
		"--userdb", dir+"/db", "--pidfile", dir+"/pid", "--log-file", dir+"/log")
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		return wire.ServerURI{}, nil, err
	}
	kill := sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	uri := parseList(t, fmt.Sprintf("turn:127.0.0.1:%d?transport=udp", port))[0]
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := poll(ctx, func() bool { _, err := allocate(ctx, uri); return err == nil }); err != nil {
		kill()
		return uri, nil, fmt.Errorf("coturn on %s does not answer: %w", uri, err)
	}
	return uri, kill, nil
}

func TestUselessServersArePassedOver(t *testing.T) {
	for _, test := range []struct {
		name string
		bad  func(*testing.T) wire.ServerURI
	}{
		{"silent", func(t *testing.T) wire.ServerURI { return silentServer(t) }},
		{"refuses Allocate", func(t *testing.T) wire.ServerURI { return newRelay(t, false).uri }},
		{"closed port", func(t *testing.T) wire.ServerURI {
			r := newRelay(t, true)
			r.kill()
			return r.uri
		}},
	} {
		for _, check := range []TURNCheck{nil, allocate} {
			t.Run(fmt.Sprintf("%s, checks %t", test.name, check != nil), func(t *testing.T) {
				t.Parallel()
				good := newRelay(t, true)
				m := newTestMesh(t)
				m.addRelayed(3, []wire.ServerURI{test.bad(t), good.uri}, func(o *AgentOptions) { o.Check = check })
				m.connectAll()
				m.onServer(good.uri)
			})
		}
	}
}

func TestReloadAndReconnectMoveToTheFirstServer(t *testing.T) {
	old, replacement := newRelay(t, true), newRelay(t, true)
	m, f := newTestMesh(t), newTraffic(100*time.Millisecond)
	m.addRelayed(3, uris(old), func(o *AgentOptions) {
		unhurried(o)
		withTraffic(f)(o)
	})
	m.onServer(old.uri)
	f.start(t, m.agents)
	for _, a := range m.agents {
		a.SetTURNServers(uris(replacement, old))
	}
	for _, a := range m.agents {
		a.ReconnectTURN()
	}
	m.onServer(replacement.uri)
	m.eventually("messages", allArrive(f, time.Now(), 6))
	if n := m.events.count("turn_fallback_initiated"); n != 0 {
		t.Errorf("%d turn_fallback_initiated events, want none: the move was planned\n%s", n, m.events.tail(80))
	}
	moved := slices.ContainsFunc(m.events.named("turn_connection_detected"), func(e witnessclient.Event) bool {
		return e.Metadata["turn_server"] == replacement.uri.String() && e.Metadata["candidateType"] == "relay"
	})
	if !moved {
		t.Error("no turn_connection_detected names the replacement")
	}
}

func TestReconnectRepairsLinksThatAreDown(t *testing.T) {
	old, replacement := newRelay(t, true), newRelay(t, true)
	m := newTestMesh(t)
	m.addRelayed(2, uris(old), func(o *AgentOptions) { o.Timing.Backoff = time.Hour; o.Check = nil })
	m.onServer(old.uri)
	old.kill()
	m.eventually("backoff", func() error {
		for _, e := range m.events.named("turn_fallback_retry") {
			if e.Metadata["delay_ms"].(float64) > 0 {
				return nil
			}
		}
		return errors.New("not yet")
	})
	offers := m.events.count("webrtc_offer_created")
	for _, a := range m.agents {
		a.SetTURNServers(uris(replacement))
		a.ReconnectTURN()
	}
	m.onServer(replacement.uri)
	if by := m.events.named("webrtc_offer_created")[offers].AgentID; by != "a1" {
		t.Errorf("%s made the offer, want a1 at once", by)
	}
}

// TestReconnectAskedForAgainAndAgain: that does not keep links down.
func TestReconnectAskedForAgainAndAgain(t *testing.T) {
	old, replacement := newRelay(t, true), newRelay(t, true)
	m := newTestMesh(t)
	m.addRelayed(2, uris(old), func(o *AgentOptions) { o.Check = nil })
	m.onServer(old.uri)
	old.kill()
	m.eventually("both links down", func() error {
		for _, a := range m.agents {
			if l := a.Links()[0]; l.State == wire.StateConnected {
				return errors.New(l.ID + " is not")
			}
		}
		return nil
	})
	for _, a := range m.agents {
		a.SetTURNServers(uris(replacement))
	}
	offers := m.events.count("webrtc_offer_created")
	asking, stop := context.WithCancel(t.Context())
	var asked sync.WaitGroup
	asked.Go(func() {
		for tick := time.NewTicker(time.Millisecond); asking.Err() == nil; <-tick.C {
			for _, a := range m.agents {
				a.ReconnectTURN()
			}
		}
	})
	m.onServer(replacement.uri)
	stop()
	asked.Wait()
	if n := m.events.count("webrtc_offer_created") - offers; n > 100 {
		t.Errorf("%d offers were made: each question began anew", n)
	}
}
