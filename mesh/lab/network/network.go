// Package network answers: what does a bad path do to a mesh?
//
// It delays, drops and cuts UDP packets between the agents of a lab in user
// space, so it needs no privilege and no kernel module. Agents take their
// sockets from Net, TURN servers in this process pass their relay sockets
// through Relay, and signaling tells by Learn who owns which address. Rules
// name both ends, so a path can be bad in one direction only, also where it
// goes through a TURN server.
package network

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Impairment is what happens to the packets of one direction.
type Impairment struct {
	Delay  time.Duration // of every packet
	Jitter time.Duration // evenly spread on top; packets overtake each other
	Loss   float64       // share of packets dropped, 0..1
	Cut    bool          // nothing passes
}

// Rule impairs one direction. The ends are patterns for names as path.Match
// has them; "*" alone means every agent and no server, so that a packet which
// a server relays is met once.
type Rule struct {
	From, To string
	Impairment
	Direct bool // only packets that no server relays
}

// Count is what became of the packets of one direction.
type Count struct{ Passed, Dropped, Delayed int }

// Network holds the rules and knows who owns which address. Its decisions
// depend on the seed and the order of the packets of a direction alone.
type Network struct {
	seed  uint64
	queue *queue

	mu      sync.Mutex
	rules   []Rule
	owners  map[netip.AddrPort]string
	servers map[string]bool         // names that are no agents
	relays  map[netip.AddrPort]bool // addresses that servers relay from
	local   map[string]bool         // agents whose sockets come from Net
	paths   map[direction]*track
}

type direction struct{ from, to string }

// track is the state of one direction.
type track struct {
	random *rand.Rand
	count  Count
}

// New makes a network without rules. It ends with Close.
func New(seed uint64) *Network {
	return &Network{
		seed: seed, queue: newQueue(),
		owners: map[netip.AddrPort]string{}, servers: map[string]bool{}, relays: map[netip.AddrPort]bool{},
		local: map[string]bool{}, paths: map[direction]*track{},
	}
}

// Close drops what is still delayed.
func (n *Network) Close() error { n.queue.close(); return nil }

// Add puts a rule into force. Several rules for a packet add up.
func (n *Network) Add(r Rule) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("network rule %s to %s: %w", r.From, r.To, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rules = append(n.rules, r)
	return nil
}

func (r Rule) check() error {
	for _, pattern := range []string{r.From, r.To} {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return fmt.Errorf("%q is no name and no pattern", pattern)
		}
	}
	if !(r.Loss >= 0 && r.Loss <= 1) || r.Delay < 0 || r.Jitter < 0 {
		return errors.New("loss is 0 to 1, and delay and jitter are not negative")
	}
	return nil
}

// Remove takes back what Add did, once. Packets that are delayed still arrive.
func (n *Network) Remove(r Rule) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := slices.Index(n.rules, r); i >= 0 {
		n.rules = slices.Delete(n.rules, i, i+1)
	}
}

// Learn records that an address is an agent's: of a socket or a relay address.
func (n *Network) Learn(addr netip.AddrPort, agent string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.owners[unmap(addr)] = agent
}

// LearnServer records the address of a server.
func (n *Network) LearnServer(addr netip.AddrPort, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.owners[unmap(addr)] = name
	n.servers[name] = true
}

// LearnCandidate records an ICE candidate (RFC 8839 section 5.1) that an agent
// has sent: its address is the agent's. Anything else is ignored.
func (n *Network) LearnCandidate(candidate, agent string) {
	fields := strings.Fields(candidate)
	if len(fields) < 6 || !strings.HasPrefix(fields[0], "candidate:") || !strings.EqualFold(fields[2], "udp") {
		return
	}
	addr, err := netip.ParseAddrPort(net.JoinHostPort(fields[4], fields[5]))
	if err != nil {
		return
	}
	n.Learn(addr, agent)
	if strings.Contains(candidate, " typ relay") {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.relays[unmap(addr)] = true
	}
}

// LearnDescription records the candidates within an SDP.
func (n *Network) LearnDescription(sdp, agent string) {
	for line := range strings.Lines(sdp) {
		if candidate, ok := strings.CutPrefix(line, "a="); ok {
			n.LearnCandidate(candidate, agent)
		}
	}
}

// Counts gives what became of the packets from one name to another.
func (n *Network) Counts(from, to string) Count {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t := n.paths[direction{from, to}]; t != nil {
		return t.count
	}
	return Count{}
}

// fate decides about one packet, which a server relays or not. The path is only
// kept count of when a rule could apply to it: both ends are known.
func (n *Network) fate(from, to string, relayed bool) (delay time.Duration, drop bool) {
	if from == "" || to == "" {
		return 0, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.track(direction{from, to})
	for _, r := range n.rules {
		if r.Direct && relayed || !n.matches(r.From, from) || !n.matches(r.To, to) {
			continue
		}
		if r.Cut || r.Loss > 0 && t.random.Float64() < r.Loss {
			drop = true
		}
		delay += r.Delay
		if r.Jitter > 0 {
			delay += time.Duration(t.random.Int64N(int64(r.Jitter)))
		}
	}
	switch {
	case drop:
		t.count.Dropped++
	case delay > 0:
		t.count.Delayed++
	default:
		t.count.Passed++
	}
	return delay, drop
}

func (n *Network) track(d direction) *track {
	t := n.paths[d]
	if t == nil {
		sum := fnv.New64a()
		_, _ = sum.Write([]byte(d.from + "\n" + d.to))
		t = &track{random: rand.New(rand.NewPCG(n.seed, sum.Sum64()))} //nolint:gosec // repeatable on purpose
		n.paths[d] = t
	}
	return t
}

func (n *Network) matches(pattern, name string) bool {
	if pattern == "*" {
		return !n.servers[name]
	}
	ok, _ := path.Match(pattern, name)
	return ok
}

func (n *Network) owner(addr netip.AddrPort) (name string, server bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	name = n.owners[unmap(addr)]
	return name, n.servers[name]
}

func (n *Network) isRelay(addr netip.AddrPort) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.relays[addr]
}

func (n *Network) isLocal(agent string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.local[agent]
}

// addrPort is the address of a UDP end, and zero for anything else.
func addrPort(addr net.Addr) netip.AddrPort {
	if udp, ok := addr.(*net.UDPAddr); ok {
		return unmap(udp.AddrPort())
	}
	return netip.AddrPort{}
}

func unmap(addr netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}
