package sentinel

import (
	"maps"
	"slices"
	"sync"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/witnessclient"
)

// rttBuckets are the upper bounds of the round-trip histogram in seconds, with
// the limits of the mesh among them.
var rttBuckets = [...]float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5}

// counts is what has happened since the sentinel began.
type counts struct {
	mu     sync.Mutex
	events map[string]uint64
	named  map[string]uint64
	rtt    map[string]*histogram // by connection type
}

type histogram struct {
	buckets [len(rttBuckets)]uint64
	count   uint64
	sum     float64
}

func newCounts() *counts {
	return &counts{
		events: map[string]uint64{}, named: map[string]uint64{},
		rtt: map[string]*histogram{"p2p": {}, "relay": {}},
	}
}

func (c *counts) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.named[name]++
}

func (c *counts) event(e witnessclient.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	count, _ := e.Metadata["count"].(int) // one event may tell of many
	c.events[e.Name] += uint64(max(1, count))
	if e.Name == "connection_quality_update" {
		c.quality(e.Metadata)
	}
}

func (c *counts) quality(m map[string]any) {
	seconds, ok := m["roundTripTime"].(float64)
	if !ok {
		return
	}
	h := c.rtt["p2p"]
	if m["candidateType"] == wire.PathRelay {
		h = c.rtt["relay"]
	}
	h.count++
	h.sum += seconds
	for i, limit := range rttBuckets {
		if seconds <= limit {
			h.buckets[i]++
		}
	}
}

// snapshot is a copy.
func (c *counts) snapshot() *counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	copied := &counts{events: maps.Clone(c.events), named: maps.Clone(c.named), rtt: map[string]*histogram{}}
	for kind, h := range c.rtt {
		clone := *h
		copied.rtt[kind] = &clone
	}
	return copied
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
