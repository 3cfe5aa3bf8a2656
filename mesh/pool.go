package mesh

import (
	"context"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

const (
	breakerOpens = 3               // failed checks in a row
	checkTimeout = 3 * time.Second // for one TURN server
)

// pool knows the TURN servers and how they are.
type pool struct {
	check     TURNCheck // nil: nothing is ever known
	emit      emitter
	recovered func() // called when a server answers again
	again     chan struct{}

	mu      sync.Mutex
	servers []*turnServer // in order of preference
	stun    []wire.ServerURI
}

// turnServer is one server of the pool. Its checks are its only evidence here;
// what a link saw with it stays with that link.
type turnServer struct {
	uri       wire.ServerURI
	failures  int           // checks failed in a row
	latency   time.Duration // moving average; 0: not known
	answered  time.Time     // start of the latest check, when that succeeded
	unhealthy bool          // breaker is open
}

func newPool(servers []wire.ServerURI, check TURNCheck, emit emitter, recovered func()) *pool {
	p := &pool{check: check, emit: emit, recovered: recovered, again: make(chan struct{}, 1)}
	p.set(servers)
	return p
}

// set replaces the list. What was known about the servers is forgotten: a new
// list is an operator's word that these servers work now.
func (p *pool) set(servers []wire.ServerURI) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.servers, p.stun = nil, nil
	for _, u := range servers {
		if u.IsTURN() {
			p.servers = append(p.servers, &turnServer{uri: u})
		} else {
			p.stun = append(p.stun, u)
		}
	}
	p.checkSoon()
}

func (p *pool) stunServers() []wire.ServerURI {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stun
}

// first is the server at the head of the list, "" when there is none.
func (p *pool) first() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.servers) == 0 {
		return ""
	}
	return p.servers[0].uri.String()
}

// planned is where a planned move goes: the first server of the list that does
// not fail its checks, whatever its latency.
func (p *pool) planned() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.servers {
		if s.failures == 0 {
			return s.uri.String()
		}
	}
	if len(p.servers) == 0 {
		return ""
	}
	return p.servers[0].uri.String()
}

// exclusions are the servers a link shall not use, and since when.
type exclusions map[string]time.Time

// choose picks the server for the next attempt of a link: one not excluded
// whose last check did not fail, else one that was excluded but has answered a
// check since then (its exclusion is removed), else one not excluded that
// fails checks but not for long. ok is false when the whole list failed.
func (p *pool) choose(excluded exclusions) (server string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.servers) == 0 {
		_, failed := excluded[""]
		return "", !failed
	}
	if s := p.best(func(s *turnServer) bool { return s.failures == 0 && !excluded.has(s) }); s != nil {
		return s.uri.String(), true
	}
	if s := p.best(func(s *turnServer) bool { return s.failures == 0 && s.answered.After(excluded.since(s)) }); s != nil {
		delete(excluded, s.uri.String())
		return s.uri.String(), true
	}
	if s := p.best(func(s *turnServer) bool { return !s.unhealthy && !excluded.has(s) }); s != nil {
		return s.uri.String(), true
	}
	if len(excluded) > 0 {
		return "", false
	}
	// Every breaker is open, but a try costs nothing and checks can be wrong.
	return p.servers[0].uri.String(), true
}

func (e exclusions) since(s *turnServer) time.Time { return e[s.uri.String()] }

func (e exclusions) has(s *turnServer) bool { return !e.since(s).IsZero() }

// best is the server with the lowest latency. Close latencies count as equal
// and the list decides, so that all agents of a mesh choose alike.
func (p *pool) best(usable func(*turnServer) bool) *turnServer {
	var candidates []*turnServer
	var lowest time.Duration
	for _, s := range p.servers {
		if usable(s) {
			candidates = append(candidates, s)
			if s.latency > 0 && (lowest == 0 || s.latency < lowest) {
				lowest = s.latency
			}
		}
	}
	limit := max(lowest+5*time.Millisecond, lowest*5/4)
	for _, s := range candidates {
		if lowest == 0 || s.latency <= limit {
			return s
		}
	}
	return nil
}

// checkSoon asks for a check of all servers now: a link has stalled.
func (p *pool) checkSoon() {
	select {
	case p.again <- struct{}{}:
	default:
	}
}

// run checks all servers every interval, and at once when asked.
func (p *pool) run(ctx context.Context, interval time.Duration) {
	if p.check == nil {
		return
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		p.checkAll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-p.again:
		case <-ticker.C:
		}
	}
}

func (p *pool) checkAll(ctx context.Context) {
	p.mu.Lock()
	servers := p.servers
	p.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range servers {
		wg.Go(func() { p.checkOne(ctx, s) })
	}
	wg.Wait()
}

func (p *pool) checkOne(ctx context.Context, s *turnServer) {
	bounded, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	start := time.Now()
	latency, err := p.check(bounded, s.uri)
	switch {
	case ctx.Err() != nil: // says nothing about the server
	case err != nil:
		p.failed(s)
	default:
		p.succeeded(s, start, latency)
	}
}

func (p *pool) succeeded(s *turnServer, start time.Time, latency time.Duration) {
	p.mu.Lock()
	again := s.failures > 0
	s.failures, s.unhealthy, s.answered = 0, false, start
	if s.latency == 0 {
		s.latency = latency
	}
	s.latency += (latency - s.latency) / 4
	p.mu.Unlock()
	p.emit("turn_server_health_check_success", "", metadata{
		"turn_server": s.uri.String(), "latency_ms": millis(latency),
	})
	if again {
		p.recovered()
	}
}

func (p *pool) failed(s *turnServer) {
	p.mu.Lock()
	s.failures++
	opens := s.failures == breakerOpens
	if opens {
		s.unhealthy = true
	}
	failures, none := s.failures, opens
	for _, other := range p.servers {
		none = none && other.unhealthy
	}
	p.mu.Unlock()
	if opens {
		p.emit("turn_server_marked_unhealthy", "", metadata{
			"turn_server": s.uri.String(), "failure_count": failures,
		})
	}
	if none {
		p.emit("all_turn_servers_unhealthy", "", nil)
	}
}
