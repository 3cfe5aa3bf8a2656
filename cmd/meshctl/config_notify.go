package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/runbooks/notify"
)

// The kinds of receivers and what a route can be told of.
var (
	notifyTypes  = []string{"slack", "webhook", "pagerduty"}
	notifyEvents = []string{"start", "failure", "finish", "healing_failed", "turn_down"}
)

func (p *problems) notify(n notifyConfig) {
	for i, t := range n.Routes {
		p.notifyTarget(fmt.Sprintf("notify.routes[%d]", i), t)
	}
	for i, t := range n.Security {
		key := fmt.Sprintf("notify.security[%d]", i)
		p.notifyTarget(key, t)
		if t.Events != nil {
			p.add(key+".events", "the security route gets every security incident and nothing else")
		}
	}
}

func (p *problems) notifyTarget(key string, t notifyTarget) {
	p.env(key+".url_env", t.URLEnv)
	p.env(key+".key_env", t.KeyEnv)
	for i, name := range t.Events {
		if !slices.Contains(notifyEvents, name) {
			p.add(fmt.Sprintf("%s.events[%d]", key, i), "%q is not one of %s", name, strings.Join(notifyEvents, ", "))
		}
	}
	switch {
	case !slices.Contains(notifyTypes, t.Type):
		p.add(key+".type", "%q is not one of %s", t.Type, strings.Join(notifyTypes, ", "))
	case t.Type == "pagerduty":
		p.pagerDuty(key, t)
	case t.URL != "":
		p.add(key+".url", "the address of a %s is a secret: url_env or url_file says where it is", t.Type)
	case t.URLEnv == "" && t.URLFile == "":
		p.add(key, "missing: url_env or url_file, where the address is")
	case t.KeyEnv != "" || t.KeyFile != "":
		p.add(key, "a %s has no key", t.Type)
	}
}

func (p *problems) pagerDuty(key string, t notifyTarget) {
	switch {
	case t.KeyEnv == "" && t.KeyFile == "":
		p.add(key, "missing: key_env or key_file, where the integration key is")
	case t.URLEnv != "" || t.URLFile != "":
		p.add(key, "pagerduty has a key and no secret address")
	case slices.Contains(t.Events, "start"):
		p.add(key+".events", "nobody is paged because a run begins: failure, finish, healing_failed, turn_down")
	case t.URL != "":
		if err := notify.CheckURL(secret.New(t.URL)); err != nil {
			p.add(key+".url", "%v", err)
		}
		p.url(key+".url", t.URL, "http", "https")
	}
}
