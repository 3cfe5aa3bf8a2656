package probes_test

import (
	"bufio"
	"context"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// withSessions starts a coturn whose session list can be read.
func withSessions(t *testing.T, id identity) (wire.ServerURI, func() string) {
	t.Helper()
	console := closedPort(t)
	target := startedCoturn(t, userFlags(
		"--cli-ip", "127.0.0.1", "--cli-port", strconv.Itoa(int(console.Port())), "--cli-password", "console",
		"--tls-listening-port", strconv.Itoa(int(closedPort(t).Port())), "--cert", id.cert, "--pkey", id.key), probes.UDP, probes.TCP, probes.TLS, probes.DTLS)
	return target, func() string { return sessions(t, console.String()) }
}

var total = regexp.MustCompile(`Total sessions: (\d+)`)

// sessions asks coturn's console how many it has; "" without an answer.
func sessions(t *testing.T, console string) string {
	conn, err := net.DialTimeout("tcp", console, 5*time.Second)
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	in := bufio.NewReader(conn)
	for _, say := range []string{"console", "ps"} {
		if _, err := in.ReadString(map[string]byte{"console": ':', "ps": '>'}[say]); err != nil {
			return ""
		}
		_, _ = conn.Write([]byte(say + "\r\n"))
	}
	var all strings.Builder
	for {
		line, err := in.ReadString('\n')
		all.WriteString(line)
		if found := total.FindStringSubmatch(line); found != nil {
			return found[1]
		}
		if err != nil {
			t.Logf("console: %v after %q", err, all.String())
			return ""
		}
	}
}

// TestNoSessionIsLeft reads coturn's own list after probes over every
// transport, after one that was interrupted, and after one that failed.
func TestNoSessionIsLeft(t *testing.T) {
	id := goodIdentity(t)
	target, list := withSessions(t, id)
	hold(t, target)
	if !poll(t, 10*time.Second, func() bool { return list() == "1" }) {
		t.Fatalf("the list shows %q sessions, want the one that is held", list())
	}
	healthy := probes.TURN{Credentials: goodLogin(), Roots: id.roots, Count: 10, Rate: 100}
	for _, r := range (probes.Matrix{TURN: healthy, Targets: probes.Over(target, probes.UDP, probes.TCP, probes.TLS, probes.DTLS)}).Run(t.Context()) {
		wantReport(t, r, probes.CodeTURNOK)
	}
	for _, moment := range moments[3:] {
		ctx, cancel := context.WithCancel(t.Context())
		front := forward(t, target, func(m *stun.Message) bool {
			if moment.is(m) {
				cancel()
				return moment.swallow
			}
			return false
		})
		wantReport(t, probes.TURN{Target: front, Credentials: goodLogin()}.Run(ctx), probes.CodeTURNInterrupted)
	}
	wantReport(t, probes.TURN{Target: target, Credentials: login(user, "wrong")}.Run(t.Context()), probes.CodeAuthRejected)
	if !poll(t, 30*time.Second, func() bool { return list() == "1" }) { // an allocation that was left would stay for a minute
		t.Errorf("the list shows %q sessions, want only the one that is held", list())
	}
}
