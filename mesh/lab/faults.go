package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is broken.
type Fault struct {
	Name   string `json:"name"`
	Target string `json:"target"` // "" = the default target
}

// FaultInfo describes a kind of fault.
type FaultInfo struct {
	Name          string `json:"name"`
	Summary       string `json:"summary"`
	DefaultTarget string `json:"default_target"`
}

// change breaks a target or makes it whole.
type change func(ctx context.Context, l *Lab, target string) error

type faultKind struct {
	FaultInfo
	inject, heal change
}

const (
	nameController = "controller"
	nameWitness    = "witness"
	nameEnvFile    = "env-file"
	namePrometheus = "prometheus"
	nameNginx      = "nginx"
)

// faultKinds is the table of all faults. Injecting one that is there, or
// healing one that is not, does nothing.
func faultKinds() []faultKind {
	return append([]faultKind{
		turnFault(faultKilled, "the server is gone and its port closed; it comes back without its allocations"),
		turnFault(faultSilent, "the port is open, nothing is answered or relayed"),
		turnFault(faultRefuses, "Binding is answered and Allocate refused (486 by pion, 442 by coturn); existing allocations live on"),
		turnFault(faultDrains, "Binding is answered and Allocate refused (403), as by a coturn that drains; existing allocations live on (pion only)"),
		turnFault(faultSecret, "the password is another one than its users have (coturn restarts)"),
		turnFault(faultQuota, "the user has as many allocations as it may (486; coturn restarts)"),
		turnFault(faultPorts, "no relay port is left (508; coturn restarts)"),
		turnFault(faultRangeClosed, "a firewall lets in only answers: nothing unsolicited reaches an allocation (pion only)"),
		turnFault(faultExternal, "allocations announce an address where nothing is (coturn restarts)"),
		turnFault(faultExpiry, "the server refuses (401) all that credentials ask which have expired, or name no time: "+
			"live allocations end with their lifetime (pion only)"),
		turnFlaps(),
		credentialsExpired(),
		controllerFault("controller-lies", "admin calls are answered with 200 and not carried out"),
		controllerFault("controller-html", "every call is answered with 200 and a page of HTML; none is carried out"),
		controllerFault("controller-truncated", "calls work, but half of every reply is missing"),
		controllerFault("controller-wrong-types", "calls work, but replies have numbers as strings and lists as objects"),
		siteFault("controller-down", "connections are refused", nameController, func(l *Lab, _ string) *site { return l.controllerSite }),
		witnessDown(),
		witnessFault("witness-401", "every call is answered with 401"),
		witnessFault("witness-slow", "every call is answered after 10 s"),
		witnessFault("witness-loses-reply", "the next event is stored and the connection closed without a reply; strikes once"),
		siteFault("signaling-down", "connections are refused and all WebSockets closed", signalingName(0), func(l *Lab, target string) *site {
			return l.signalingServer(target).site
		}),
		signalingFault(faultHangs, "connections are accepted and never answered, and all WebSockets closed"),
		{
			FaultInfo{"signaling-ghosts", "all agents lose their WebSockets, and the server takes the lost ones for open: each holds its agent's id", signalingName(0)},
			func(_ context.Context, l *Lab, target string) error {
				l.signalingServer(target).haunt()
				return nil
			},
			func(_ context.Context, l *Lab, target string) error {
				l.signalingServer(target).exorcise()
				return nil
			},
		},
		{
			FaultInfo{"signaling-evicts", "the server forgets all its agents and tells each that it has left; strikes once", signalingName(0)},
			func(_ context.Context, l *Lab, target string) error {
				l.signalingServer(target).evict()
				return nil
			},
			func(context.Context, *Lab, string) error { return nil },
		},
		signalingFault(fault401, "new WebSockets are answered with 401; those that are open live on"),
		nginxReloads(),
		{
			FaultInfo{"prometheus-down", "the process is gone (only with --metrics prometheus)", namePrometheus},
			func(_ context.Context, l *Lab, _ string) error { return l.prometheus.close() },
			func(ctx context.Context, l *Lab, _ string) error {
				return poll(ctx, portBack, func() error { return l.prometheus.up(ctx) })
			},
		},
		{
			FaultInfo{"agent-gone", "the agent has ended", agentID(1)},
			func(_ context.Context, l *Lab, target string) error { return l.fleet.stop(target) },
			func(_ context.Context, l *Lab, target string) error { return l.fleet.start(target) },
		},
	}, networkFaults()...)
}

func turnFault(name, summary string) faultKind {
	return faultKind{
		FaultInfo{name, summary, turnName(0)},
		func(ctx context.Context, l *Lab, target string) error { return l.turnServer(target).inject(ctx, name) },
		func(ctx context.Context, l *Lab, target string) error { return l.turnServer(target).heal(ctx, name) },
	}
}

func controllerFault(name, summary string) faultKind {
	return switchFault(name, summary, nameController, func(l *Lab) *switches { return &l.controller.faults })
}

func witnessFault(name, summary string) faultKind {
	return switchFault(name, summary, nameWitness, func(l *Lab) *switches { return &l.witness.faults })
}

func switchFault(name, summary, target string, of func(*Lab) *switches) faultKind {
	set := func(on bool) change {
		return func(_ context.Context, l *Lab, _ string) error {
			of(l).set(name, on)
			return nil
		}
	}
	return faultKind{FaultInfo{name, summary, target}, set(true), set(false)}
}

func siteFault(name, summary, target string, of func(l *Lab, target string) *site) faultKind {
	return faultKind{
		FaultInfo{name, summary, target},
		func(_ context.Context, l *Lab, target string) error { return of(l, target).down() },
		func(ctx context.Context, l *Lab, target string) error { return of(l, target).up(ctx) },
	}
}

func signalingFault(name, summary string) faultKind {
	set := func(on bool) change {
		return func(_ context.Context, l *Lab, target string) error {
			l.signalingServer(target).set(name, on)
			return nil
		}
	}
	return faultKind{FaultInfo{name, summary, signalingName(0)}, set(true), set(false)}
}

// credentialsExpired gives out credentials that ran out, as a TURN REST
// service does whose clock is wrong. Agents that run keep theirs.
func credentialsExpired() faultKind {
	return faultKind{
		FaultInfo{"turn-expired-credentials", "the env file has time-limited credentials that have expired", nameEnvFile},
		func(_ context.Context, l *Lab, _ string) error { return l.expireCredentials() },
		func(_ context.Context, l *Lab, _ string) error { return l.renewCredentials() },
	}
}

// witnessDown also keeps out the events of the lab's own agents, which take
// another way.
func witnessDown() faultKind {
	f := siteFault("witness-down", "connections are refused", nameWitness, func(l *Lab, _ string) *site { return l.witnessSite })
	down, up := f.inject, f.heal
	f.inject = func(ctx context.Context, l *Lab, target string) error {
		l.witness.faults.set(f.Name, true)
		return down(ctx, l, target)
	}
	f.heal = func(ctx context.Context, l *Lab, target string) error {
		if err := up(ctx, l, target); err != nil {
			return err
		}
		l.witness.faults.set(f.Name, false)
		return nil
	}
	return f
}

// Faults lists every kind of fault.
func Faults() []FaultInfo {
	var list []FaultInfo
	for _, k := range faultKinds() {
		list = append(list, k.FaultInfo)
	}
	return list
}

// Inject breaks something and returns when it is broken. Faults of different
// servers can be there together; a TURN server has one at a time.
func (l *Lab) Inject(ctx context.Context, f Fault) error {
	kind, err := l.kind(&f)
	if err == nil {
		err = l.apply(ctx, kind.inject, f, true)
	}
	if err != nil {
		return fmt.Errorf("inject %s: %w", f, err)
	}
	return nil
}

// Heal undoes Inject and returns when the server answers again, on the same
// port.
func (l *Lab) Heal(ctx context.Context, f Fault) error {
	kind, err := l.kind(&f)
	if err == nil {
		err = l.apply(ctx, kind.heal, f, false)
	}
	if err != nil {
		return fmt.Errorf("heal %s: %w", f, err)
	}
	return nil
}

// String names the fault and its target.
func (f Fault) String() string {
	if f.Target == "" {
		return f.Name
	}
	return f.Name + " on " + f.Target
}

// apply makes one change at a time, and none once the lab is closing.
func (l *Lab) apply(ctx context.Context, c change, f Fault, active bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.ctx, func() { cancel(errClosed) })()
	l.faultMu.Lock()
	defer l.faultMu.Unlock()
	if l.ctx.Err() != nil {
		return errClosed
	}
	if err := c(ctx, l, f.Target); err != nil {
		return err
	}
	l.active = slices.DeleteFunc(l.active, func(a Fault) bool { return a == f })
	if active {
		l.active = append(l.active, f)
	}
	return nil
}

var errClosed = errors.New("the lab is closed")

// kind finds the fault in the table, and fills in and checks its target.
func (l *Lab) kind(f *Fault) (faultKind, error) {
	kinds := faultKinds()
	i := slices.IndexFunc(kinds, func(k faultKind) bool { return k.Name == f.Name })
	if i < 0 {
		return faultKind{}, errors.New("no such fault")
	}
	if f.Target == "" {
		f.Target = kinds[i].DefaultTarget
	}
	if strings.HasPrefix(f.Name, "network-") {
		var err error
		f.Target, err = networkTarget(f.Name, f.Target, kinds[i].DefaultTarget)
		return kinds[i], err
	}
	targets := l.targets(kinds[i].FaultInfo)
	if !slices.Contains(targets, f.Target) {
		if len(targets) == 0 {
			return faultKind{}, fmt.Errorf("no target %q: this lab was started without it", f.Target)
		}
		return faultKind{}, fmt.Errorf("no target %q, only %s", f.Target, strings.Join(targets, ", "))
	}
	return kinds[i], nil
}

// targets are all that the fault can strike.
func (l *Lab) targets(f FaultInfo) []string {
	targets := []string{}
	switch f.DefaultTarget {
	case turnName(0):
		for _, t := range l.TURN {
			targets = append(targets, t.Name)
		}
	case signalingName(0):
		for _, s := range l.Signaling {
			targets = append(targets, s.Name)
		}
	case agentID(1):
		targets = l.Agents
	case namePrometheus:
		if l.prometheus != nil {
			targets = append(targets, namePrometheus)
		}
	case nameNginx:
		if l.nginx != nil {
			targets = append(targets, nameNginx)
		}
	default:
		targets = append(targets, f.DefaultTarget)
	}
	return targets
}

// Active lists the faults that are there now, in the order of their injection.
func (l *Lab) Active() []Fault {
	l.faultMu.Lock()
	defer l.faultMu.Unlock()
	return append([]Fault{}, l.active...)
}
