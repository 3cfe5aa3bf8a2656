package lab

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/stun/v4"
)

func (t *turnServer) mustRefuse(tb *testing.T, want stun.ErrorCode) {
	tb.Helper()
	if err := bindingAnswered(t.relay.address(), patience); err != nil {
		tb.Errorf("binding: %v", err)
	}
	eventually(tb, "the refusal", func() error { // coturn may remember the port of another client: 437
		_, code, err := allocate(tb, t.relay.address(), turnLogin.password.Reveal())
		if code == want {
			return nil
		}
		if err == nil {
			tb.Fatal("the allocation was granted")
		}
		return err
	})
}

func TestTURNRefusals(t *testing.T) {
	tests := []struct {
		fault string
		code  stun.ErrorCode
	}{
		{faultSecret, stun.CodeUnauthorized},
		{faultQuota, stun.CodeAllocQuotaReached},
		{faultPorts, stun.CodeInsufficientCapacity},
	}
	forBackends(t, func(t *testing.T, s *turnServer) {
		for _, tt := range tests {
			t.Run(tt.fault, func(t *testing.T) {
				s.mustInject(t, tt.fault)
				s.mustRefuse(t, tt.code)
				s.mustHeal(t, tt.fault)
				s.mustServe(t)
			})
		}
	})
}

func TestTURNWrongExternalAddress(t *testing.T) {
	forBackends(t, func(t *testing.T, s *turnServer) {
		s.mustInject(t, faultExternal)
		u := mustAllocate(t, s.relay.address())
		if host, _, _ := net.SplitHostPort(u.relay.LocalAddr().String()); host != wrongAddress {
			t.Errorf("announced %s", host)
		}
		if err := u.echo(t, patience); err == nil || !strings.Contains(err.Error(), "from 127.0.0.1:") {
			t.Errorf("the packet came %v, want it from 127.0.0.1", err)
		}
		s.mustHeal(t, faultExternal)
		s.mustServe(t)
	})
}

// A closed range lets in the answers to what was sent, and nothing else.
func TestTURNRangeClosed(t *testing.T) {
	s := startRelay(t, "pion")
	u := mustAllocate(t, s.relay.address())
	if err := u.echo(t, patience); err != nil { // installs the permission for 127.0.0.1
		t.Fatal(err)
	}
	s.mustInject(t, faultRangeClosed)
	if err := u.hears(t, "unsolicited", 200*time.Millisecond); err == nil {
		t.Error("an unsolicited packet got in")
	}
	if err := u.answered(t); err != nil {
		t.Errorf("an answer: %v", err)
	}
	s.mustHeal(t, faultRangeClosed)
	if err := u.hears(t, "unsolicited", patience); err != nil {
		t.Error(err)
	}
}

// answered sends through the relay to a peer, which answers.
func (u *user) answered(t *testing.T) error {
	t.Helper()
	far, err := net.ListenPacket("udp4", loopback)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = far.Close() }()
	deadline := time.Now().Add(patience)
	if err := far.SetReadDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	if err := u.relay.SetReadDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	if _, err := u.relay.WriteTo([]byte("ping"), far.LocalAddr()); err != nil {
		return err
	}
	buf := make([]byte, 100)
	_, from, err := far.ReadFrom(buf)
	if err != nil {
		return err
	}
	if _, err := far.WriteTo([]byte("pong"), from); err != nil {
		return err
	}
	_, _, err = u.relay.ReadFrom(buf)
	return err
}

func TestCoturnHasNoFirewall(t *testing.T) {
	s := startRelay(t, "coturn")
	if err := s.inject(t.Context(), faultRangeClosed); err == nil || !strings.Contains(err.Error(), "use --turn pion") {
		t.Errorf("error %v", err)
	}
	s.mustServe(t)
}

func TestExpiredCredentials(t *testing.T) {
	l := startLab(t, Options{NoAgents: true})
	before, err := os.ReadFile(l.EnvFile)
	if err != nil {
		t.Fatal(err)
	}
	inject(t, l, "turn-expired-credentials", "")
	username := ""
	after, err := os.ReadFile(l.EnvFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(after)) {
		if value, found := strings.CutPrefix(line, "TURN_USERNAME="); found {
			username = strings.TrimSpace(value)
		}
	}
	seconds, _, _ := strings.Cut(username, ":")
	if at, err := strconv.ParseInt(seconds, 10, 64); err != nil || !time.Unix(at, 0).Before(time.Now()) {
		t.Errorf("user name %q", username)
	}
	if strings.Contains(string(after), l.Password.Reveal()) {
		t.Error("the password that works is still there")
	}
	heal(t, l, "turn-expired-credentials", "")
	healed, err := os.ReadFile(l.EnvFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(before), string(healed)); diff != "" {
		t.Error(diff)
	}
}

func TestQuotaIsUsedUpAlready(t *testing.T) {
	s := startRelay(t, "pion")
	s.mustInject(t, faultQuota)
	held, err := useUpQuota(context.Background(), s.relay.address(), turnLogin)
	if held != nil || err != nil {
		t.Errorf("got %v, error %v", held, err)
	}
}
