package mesh

import (
	"errors"
	"slices"
	"strings"
	"time"
)

// Tally counts messages.
type Tally struct {
	Sent       int // accepted by the channel
	Refused    int // not accepted: the channel was closed or full
	Received   int // distinct and intact
	Lost       int // sent and not received
	Duplicated int // received again
	Reordered  int // received after a later one
	Corrupt    int // received with content that was not sent

	LatencyP50, LatencyP95, LatencyP99 time.Duration // zero when nothing was received
}

// PairResult is one direction between two agents.
type PairResult struct {
	From, To  string
	Connected bool   // false: nothing could be measured
	Untried   bool   // the test ended before it was known whether they connect
	Error     string // why it is not connected
	// Path and TURNServer are the sender's at the end: host, srflx, prflx or
	// relay, and "" when the link was down then.
	Path       string
	TURNServer string
	// Probes are single packets that nothing retransmits, sent beside the
	// messages: what the path loses before it is sent again.
	Probes, ProbesLost int
	Tally
}

// PathResult is all messages of the directions that took one path.
type PathResult struct {
	Path       string
	TURNServer string
	Pairs      int // directions
	Tally
}

// DeliveryResult is what a delivery test found. Without Complete, zero losses
// mean nothing.
type DeliveryResult struct {
	Run    string
	Agents []string
	Pairs  []PairResult // every direction, sorted
	Paths  []PathResult // each path, sorted
	Tally               // of all pairs
}

// Complete tells whether every pair was connected and every pair sent.
func (r DeliveryResult) Complete() bool {
	for _, p := range r.Pairs {
		if !p.Connected || p.Sent == 0 {
			return false
		}
	}
	return len(r.Pairs) > 0
}

// result has to be taken before the agents close: it asks them for their paths.
func (d *delivery) result() DeliveryResult {
	r := DeliveryResult{Run: d.o.Run}
	paths := map[direction]PairResult{}
	for _, a := range d.agents {
		r.Agents = append(r.Agents, a.ID())
		for _, l := range a.Links() {
			p := PairResult{Path: l.Path}
			if l.TURNServer != nil {
				p.TURNServer = *l.TURNServer
			}
			paths[direction{l.Local, l.Peer}] = p
		}
	}
	var all []time.Duration
	byPath := map[PathResult][]time.Duration{}
	for between, c := range d.counts {
		p := paths[between]
		p.From, p.To = between.from, between.to
		latencies := c.fill(&p)
		probes := d.probed(between)
		p.Probes, p.ProbesLost = int(probes.sent), int(probes.lost)
		all = append(all, latencies...)
		path := PathResult{Path: p.Path, TURNServer: p.TURNServer}
		byPath[path] = append(byPath[path], latencies...)
		r.add(p.Tally)
		r.Pairs = append(r.Pairs, p)
	}
	r.setLatency(all)
	r.addPaths(byPath)
	slices.SortFunc(r.Pairs, func(x, y PairResult) int {
		return strings.Compare(x.From+"\n"+x.To, y.From+"\n"+y.To)
	})
	return r
}

func (r *DeliveryResult) addPaths(latencies map[PathResult][]time.Duration) {
	for path, all := range latencies {
		if path.Path == "" {
			continue // not connected
		}
		sum := path
		for _, p := range r.Pairs {
			if p.Path == path.Path && p.TURNServer == path.TURNServer {
				sum.Pairs++
				sum.add(p.Tally)
			}
		}
		sum.setLatency(all)
		r.Paths = append(r.Paths, sum)
	}
	slices.SortFunc(r.Paths, func(x, y PathResult) int {
		return strings.Compare(x.Path+"\n"+x.TURNServer, y.Path+"\n"+y.TURNServer)
	})
}

func (c *count) fill(p *PairResult) []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.Connected, p.Untried = c.err == nil, errors.Is(c.err, errNotTried)
	if c.err != nil {
		p.Error = c.err.Error()
	}
	p.Tally = Tally{
		Sent: len(c.sent), Refused: c.refused, Received: len(c.latencies), Lost: len(c.sent) - len(c.latencies),
		Duplicated: c.duplicated, Reordered: c.reordered, Corrupt: c.corrupt,
	}
	p.setLatency(slices.Clone(c.latencies))
	return c.latencies
}

func (t *Tally) add(other Tally) {
	t.Sent += other.Sent
	t.Refused += other.Refused
	t.Received += other.Received
	t.Lost += other.Lost
	t.Duplicated += other.Duplicated
	t.Reordered += other.Reordered
	t.Corrupt += other.Corrupt
}

func (t *Tally) setLatency(latencies []time.Duration) {
	slices.Sort(latencies)
	t.LatencyP50 = percentile(latencies, 50)
	t.LatencyP95 = percentile(latencies, 95)
	t.LatencyP99 = percentile(latencies, 99)
}

// percentile is the nearest-rank one of sorted values.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := (len(sorted)*p + 99) / 100
	return sorted[max(rank, 1)-1]
}
