package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/runbooks/notify"
	"github.com/infrafabric/meshctl/witnessclient"
)

// How long the end of a command waits for those who must be told, and how long
// when the operator waits for it to end.
const (
	notifyPatience   = 10 * time.Second
	notifyImpatience = 2 * time.Second
)

// notifier tells whom the configuration names. A secret that is not there is
// reported when somebody should have been told: it stops no recovery.
func (a *app) notifier(c config) *notify.Notifier {
	return notify.New(c.Mesh, a.notifyTargets("routes", c.Notify.Routes), a.notifyTargets("security", c.Notify.Security))
}

func (a *app) notifyTargets(route string, from []notifyTarget) []notify.Target {
	var targets []notify.Target
	for i, t := range from {
		target := notify.Target{Name: fmt.Sprintf("%s (notify.%s[%d])", t.Type, route, i), Type: t.Type}
		target.URL = a.optionalSecret(t.URLEnv, t.URLFile)
		target.Key = a.optionalSecret(t.KeyEnv, t.KeyFile)
		if t.Type == "pagerduty" {
			target.URL = secret.New(cmp.Or(t.URL, notify.DefaultPagerDuty))
		}
		for _, kind := range t.Events {
			target.Kinds = append(target.Kinds, notify.Kind(kind))
		}
		targets = append(targets, target)
	}
	return targets
}

// optionalSecret is empty where the secret cannot be read.
func (a *app) optionalSecret(env, file string) secret.Secret {
	value, err := a.readSecret(env, file)
	if err != nil {
		return secret.Secret{}
	}
	return value
}

// told waits until everybody was told, and says who was not. nil: nobody had
// to be.
func (s *session) told() *notify.Report {
	patience := notifyPatience
	if s.ended() {
		patience = notifyImpatience
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	report := s.notifier.Close(ctx)
	if report.Sent == 0 && len(report.Problems) == 0 {
		return nil
	}
	return &report
}

func (p *page) told(report *notify.Report) {
	if report == nil {
		return
	}
	for _, problem := range report.Problems {
		p.line("%s %s", p.warn("not told:"), oneLine(problem))
	}
	if report.Sent > 0 {
		p.line("%s %d messages sent", p.dim("told:"), report.Sent)
	}
}

// pager tells the receivers of one event, for a process that stays. It fails
// when nobody could be told.
func (a *app) pager(c config) func(context.Context, witnessclient.Event) error {
	return func(ctx context.Context, e witnessclient.Event) error {
		n := a.notifier(c)
		n.Event(e)
		report := n.Close(ctx)
		if report.Sent == 0 && len(report.Problems) > 0 {
			return errors.New(strings.Join(report.Problems, "; "))
		}
		return nil
	}
}
