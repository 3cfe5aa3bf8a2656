package mesh

import "time"

// exclusions are the servers a link shall not use, and since when.
type exclusions map[string]time.Time

func (e exclusions) since(s *turnServer) time.Time { return e[s.uri.String()] }

func (e exclusions) has(s *turnServer) bool { return !e.since(s).IsZero() }

// first is the server at the head of the list, "" when there is none.
func (p *pool) first() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.servers) == 0 {
		return ""
	}
	return p.servers[0].uri.String()
}

// planned is where a planned move goes: the first server of the list that
// answers or whose breaker is closed, whatever its latency. A single failed
// check does not send users elsewhere for good: a move to a dead server ends,
// and is tried again.
func (p *pool) planned() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.servers {
		if (s.failures == 0 || !s.unhealthy) && !s.drained {
			return s.uri.String()
		}
	}
	if len(p.servers) == 0 {
		return ""
	}
	return p.servers[0].uri.String()
}

// second is the best server beside the one in use, for a path in reserve.
func (p *pool) second(used string, excluded exclusions) (server string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.best(func(s *turnServer) bool { return s.healthy() && s.uri.String() != used && !excluded.has(s) })
	if s == nil {
		return "", false
	}
	return s.uri.String(), true
}

// healthy: its checks succeed, its breaker is closed and nobody took it out.
func (s *turnServer) healthy() bool { return s.failures == 0 && !s.unhealthy && !s.drained }

// choose picks the server for the next attempt of a link: a healthy one not
// excluded, else one that was excluded but has answered a check since then
// (its exclusion is removed), else one not excluded whose checks fail but not
// for long, or that is held back although it answers. ok is false when the
// whole list failed.
func (p *pool) choose(excluded exclusions) (server string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.servers) == 0 {
		_, failed := excluded[""]
		return "", !failed
	}
	if s := p.preferred(excluded); s != nil {
		return s.uri.String(), true
	}
	if s := p.best(func(s *turnServer) bool { return s.healthy() && s.answered.After(excluded.since(s)) }); s != nil {
		delete(excluded, s.uri.String())
		return s.uri.String(), true
	}
	if s := p.best(func(s *turnServer) bool {
		return !s.drained && (!s.unhealthy || s.failures == 0) && (!excluded.has(s) || s.failures == 0 && s.answered.After(excluded.since(s)))
	}); s != nil {
		delete(excluded, s.uri.String())
		return s.uri.String(), true
	}
	if len(excluded) > 0 {
		return "", false
	}
	// Every breaker is open, but a try costs nothing and checks can be wrong.
	return p.servers[0].uri.String(), true
}

// preferred is the best healthy server. The one chosen before stays the choice
// while no other is clearly faster.
func (p *pool) preferred(excluded exclusions) *turnServer {
	usable := func(s *turnServer) bool { return s.healthy() && !excluded.has(s) }
	s := p.best(usable)
	if s == nil {
		return nil
	}
	if before := p.named(p.chosen); before != nil && usable(before) && !clearlyFaster(s, before) {
		return before
	}
	if len(excluded) == 0 {
		p.chosen = s.uri.String()
	}
	return s
}

func clearlyFaster(s, other *turnServer) bool {
	return s.latency > 0 && other.latency > 0 && other.latency > s.latency*3/2 && other.latency-s.latency > 10*time.Millisecond
}

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
