package lab

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/mesh/lab/network"
)

// networkSeed makes every lab lose the same packets.
const networkSeed = 1

const slowDirect = "network-delay-direct"

// networkFaults are those of the paths between agents. A target is
// FROM>TO=VALUE, or A<>B=VALUE for both directions; FROM and TO are names of
// agents or TURN servers, or patterns; "*" is every agent.
func networkFaults() []faultKind {
	return []faultKind{
		networkFault("network-loss", "packets FROM>TO are lost, target FROM>TO=SHARE", "agent-1>*=20%"),
		networkFault("network-delay", "packets FROM>TO come later, target FROM>TO=DELAY or =DELAY+JITTER", "*>*=150ms"),
		networkFault(slowDirect, "the same for packets that no TURN server relays: a direct path that is slower than a relay", "*>*=300ms"),
		networkFault("network-cut", "no packet passes, target FROM>TO or FROM<>TO (both ways)", "agent-1<>*"),
	}
}

func networkFault(name, summary, target string) faultKind {
	set := func(set func(*network.Network, network.Rule) error) change {
		return func(_ context.Context, l *Lab, target string) error {
			rules, err := networkRules(name, target)
			if err != nil {
				return err
			}
			var errs []error
			for _, r := range rules {
				errs = append(errs, set(l.network, r))
			}
			return errors.Join(errs...)
		}
	}
	remove := func(n *network.Network, r network.Rule) error {
		n.Remove(r)
		return nil
	}
	replace := func(n *network.Network, r network.Rule) error {
		n.Remove(r)
		return n.Add(r)
	}
	return faultKind{FaultInfo{name, summary, target}, set(replace), set(remove)}
}

// networkTarget gives the target with its value, the default one if it has
// none.
func networkTarget(name, target, byDefault string) (string, error) {
	if _, value, ok := strings.Cut(byDefault, "="); ok && !strings.Contains(target, "=") {
		target += "=" + value
	}
	_, err := networkRules(name, target)
	return target, err
}

// networkRules reads FROM>TO=VALUE.
func networkRules(name, target string) ([]network.Rule, error) {
	ends, value, _ := strings.Cut(target, "=")
	impairment, err := readImpairment(name, value)
	if err != nil {
		return nil, fmt.Errorf("target %q: %w", target, err)
	}
	from, to, ok := strings.Cut(ends, ">")
	from, both := strings.CutSuffix(from, "<")
	if !ok || from == "" || to == "" {
		return nil, fmt.Errorf("target %q: not FROM>TO or FROM<>TO", target)
	}
	rules := []network.Rule{{From: from, To: to, Impairment: impairment, Direct: name == slowDirect}}
	if both {
		rules = append(rules, network.Rule{From: to, To: from, Impairment: impairment, Direct: name == slowDirect})
	}
	return rules, nil
}

func readImpairment(name, value string) (network.Impairment, error) {
	var i network.Impairment
	var err error
	switch name {
	case "network-cut":
		i.Cut = true
		if value != "" {
			err = errors.New("a cut has no value")
		}
	case "network-loss":
		number, ok := strings.CutSuffix(value, "%")
		i.Loss, err = strconv.ParseFloat(number, 64)
		i.Loss /= 100
		if !ok || err != nil || !(i.Loss > 0 && i.Loss <= 1) {
			err = fmt.Errorf("%q is not a share such as 20%%", value)
		}
	case "network-delay", slowDirect:
		delay, jitter, jitters := strings.Cut(value, "+")
		i.Delay, err = time.ParseDuration(delay)
		if err == nil && jitters {
			i.Jitter, err = time.ParseDuration(jitter)
		}
		if err != nil || i.Delay < 0 || i.Jitter < 0 || i.Delay+i.Jitter > time.Minute {
			err = fmt.Errorf("%q is not a delay such as 150ms or 150ms+50ms", value)
		}
	}
	return i, err
}
