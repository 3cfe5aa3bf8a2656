package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/secret"
)

const credentialLife = 4 * time.Second

// renewing has an agent ask for credentials that expire, as from a TURN REST
// service.
func renewing(o *mesh.AgentOptions) {
	patient(o)
	username, password := o.Username, o.Password
	o.Username, o.Password = "", secret.Secret{}
	o.Credentials = func(context.Context) (string, secret.Secret, time.Time, error) {
		ends := time.Now().Add(credentialLife).Truncate(time.Second).Add(time.Second)
		return fmt.Sprintf("%d:%s", ends.Unix(), username), password, ends, nil
	}
}

// The server refuses to go on with allocations whose credentials have expired.
// Agents that get new ones in time never leave it.
func TestCase5CredentialsExpireOnALiveRelay(t *testing.T) {
	tests := []struct {
		name  string
		agent func(*mesh.AgentOptions)
		check func(t *testing.T, l *Lab, r *recorder, broken time.Time)
	}{
		{"renewed at half life", renewing, moveToNewCredentials},
		{"not renewed", nil, fallBack},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var r recorder
			l := startLab(t, Options{Agents: 2, AllocationLife: credentialLife, Agent: r.on(tt.agent)})
			l.mustBeSteady(t, 200*time.Millisecond)
			broken := time.Now()
			inject(t, l, faultExpiry, "turn-1")
			tt.check(t, l, &r, broken)
			l.mustBeSteady(t, 200*time.Millisecond)
			intact(t, l)
		})
	}
}

// moveToNewCredentials: several times in the life of allocation and
// credentials, and nobody leaves the server.
func moveToNewCredentials(t *testing.T, l *Lab, r *recorder, broken time.Time) {
	last, renewals := created(l), 0
	eventually(t, "connections with new credentials", func() error {
		if now := created(l); now != last && l.allOn(l.TURN[0].URI) == nil {
			last, renewals = now, renewals+1
		}
		if age := time.Since(broken); renewals < 3 || age < 2*credentialLife {
			return fmt.Errorf("%d renewals in %s", renewals, age)
		}
		return nil
	})
	if left := r.after(broken, "turn_fallback_initiated"); len(left) > 0 {
		t.Errorf("%d links left turn-1, the first because of %v", len(left), left[0].Metadata["reason"])
	}
	report(t, 5, fmt.Sprintf("%s, %d renewals in two lives of 4 s", faultExpiry, renewals), none, none, "nothing to detect")
	for _, o := range l.Outages(broken) {
		t.Logf("longest silence %s to %s: %s", o.From, o.To, o.Outage.Round(time.Millisecond))
	}
}

// fallBack: the allocation ends, and links are on the next server.
func fallBack(t *testing.T, l *Lab, r *recorder, broken time.Time) {
	detected := r.detected(t, broken, "turn_fallback_initiated", says("turn_server", l.TURN[0].URI.String()))
	eventually(t, "all links on turn-2", func() error { return l.allOn(l.TURN[1].URI) })
	report(t, 5, faultExpiry+", credentials not renewed", detected, l.back(t, broken),
		"the life of the allocation, 4 s, then the next server; with pion's 10 min and 5 min of permission after 306 s")
}

// A server with the fault refuses what has expired and takes the rest.
func TestTURNCredentialsExpire(t *testing.T) {
	s := startRelay(t, "pion")
	ask := func(at time.Time) error {
		login := credentials{fmt.Sprintf("%d:%s", at.Unix(), turnLogin.username), turnLogin.password}
		held, err := useUpQuota(t.Context(), s.relay.address(), login)
		if held != nil {
			_ = held.Close()
		}
		return err
	}
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if err := errors.Join(ask(past), ask(future)); err != nil {
		t.Errorf("without the fault: %v", err)
	}
	s.mustInject(t, faultExpiry)
	if err := ask(past); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("expired: %v, want 401", err)
	}
	if err := ask(future); err != nil {
		t.Errorf("not expired: %v", err)
	}
	s.mustRefuse(t, 401) // the credentials without a time
	s.mustHeal(t, faultExpiry)
	s.mustServe(t)
}
