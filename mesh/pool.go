package mesh

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// CredentialSource gives the credentials for every TURN server and when they
// expire; a zero time: never. New ones are asked for at half their life.
type CredentialSource func(ctx context.Context) (username string, password secret.Secret, expires time.Time, err error)

// STUNCheck asks a STUN server for an answer. It must end when ctx does.
type STUNCheck func(ctx context.Context, server wire.ServerURI) error

const (
	breakerOpens = 3               // failed checks in a row
	checkTimeout = 3 * time.Second // for one server
	// suspects is how many links to different peers have to stall on a server
	// to count as a failed check.
	suspects      = 2
	suspicionLife = 5 * time.Second
	// credentialRetry is the pause after credentials could not be had.
	credentialRetry = 10 * time.Second
)

// pool knows the TURN and STUN servers and how they are.
type pool struct {
	check     TURNCheck // nil: nothing is ever known
	stunCheck STUNCheck
	source    CredentialSource
	timing    Timing
	emit      emitter
	recovered func() // called when a server answers again
	renewed   func() // called when there are other credentials
	checked   func() // called after each round
	again     chan struct{}
	spareSTUN []wire.ServerURI

	mu       sync.Mutex
	servers  []*turnServer // in order of preference
	stun     []*stunServer
	chosen   string // for the next link, as long as no other is clearly better
	username string
	password secret.Secret
	renew    time.Time // zero: never
	allDown  bool      // reported
}

// turnServer is one server of the pool.
type turnServer struct {
	uri       wire.ServerURI
	failures  int           // checks failed in a row
	latency   time.Duration // moving average; 0: not known
	answered  time.Time     // start of the latest check, when that succeeded
	unhealthy bool          // breaker is open
	opened    time.Time     // when the breaker opened last
	lastError string
	drained   bool                 // taken out by an operator
	stalled   map[string]time.Time // peers whose link stalled on it lately
}

type stunServer struct {
	uri  wire.ServerURI
	down bool
}

func newPool(o AgentOptions, emit emitter, recovered func()) *pool {
	p := &pool{
		check: o.Check, stunCheck: o.STUNCheck, source: o.Credentials, timing: o.Timing.orDefault(), emit: emit, recovered: recovered,
		again: make(chan struct{}, 1), spareSTUN: o.STUNSpare, username: o.Username, password: o.Password,
	}
	p.set(o.TURNServers)
	<-p.again // the first round comes anyhow
	return p
}

// set replaces the list. What was known about the servers is forgotten: a new
// list is an operator's word that these servers work now.
func (p *pool) set(servers []wire.ServerURI) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.servers, p.stun, p.chosen, p.allDown = nil, nil, "", false
	for _, u := range servers {
		if u.IsTURN() {
			p.servers = append(p.servers, &turnServer{uri: u})
		} else {
			p.stun = append(p.stun, &stunServer{uri: u})
		}
	}
	p.checkSoon()
}

// stunServers are those that answer; when none does, the spare ones.
func (p *pool) stunServers() []wire.ServerURI {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []wire.ServerURI
	for _, s := range p.stun {
		if !s.down {
			list = append(list, s.uri)
		}
	}
	if len(list) == 0 && len(p.stun) > 0 {
		return p.spareSTUN
	}
	return list
}

func (p *pool) credentials() (string, secret.Secret) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.username, p.password
}

// refresh asks for credentials when it is time.
func (p *pool) refresh(ctx context.Context) error {
	p.mu.Lock()
	due := p.source != nil && (p.username == "" || !p.renew.IsZero() && !time.Now().Before(p.renew))
	p.mu.Unlock()
	if !due {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	username, password, expires, err := p.source(bounded)
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.renew = time.Now().Add(credentialRetry)
		return fmt.Errorf("TURN credentials: %w", err)
	}
	p.mu.Lock()
	changed := p.username != "" && p.username != username
	p.username, p.password, p.renew = username, password, time.Time{}
	if !expires.IsZero() {
		// By the time of day: the other clock stands still while a machine sleeps.
		p.renew = time.Now().Round(0).Add(max(time.Second, time.Until(expires)/2))
	}
	p.mu.Unlock()
	if changed && p.renewed != nil {
		p.renewed()
	}
	return nil
}

// drain takes a server out of use or back.
func (p *pool) drain(server string, out bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.named(server); s != nil {
		s.drained = out
	}
	p.chosen = ""
}

func (p *pool) named(server string) *turnServer {
	for _, s := range p.servers {
		if s.uri.String() == server {
			return s
		}
	}
	return nil
}

// suspect notes that a link stalled on a server and has all of them checked.
// Two links to different peers are as good as a failed check.
func (p *pool) suspect(server, peer string) {
	now := time.Now()
	p.mu.Lock()
	s := p.named(server)
	enough := false
	if s != nil {
		if s.stalled == nil {
			s.stalled = map[string]time.Time{}
		}
		s.stalled[peer] = now
		for other, at := range s.stalled {
			if now.Sub(at) > suspicionLife {
				delete(s.stalled, other)
			}
		}
		if enough = len(s.stalled) == suspects && s.failures == 0; enough {
			s.failures, s.lastError = 1, fmt.Sprintf("%d links stalled on it", suspects)
		}
	}
	p.mu.Unlock()
	p.checkSoon()
}

// checkSoon asks for a check of all servers now: a link has stalled.
func (p *pool) checkSoon() {
	select {
	case p.again <- struct{}{}:
	default:
	}
}

// run checks all servers every interval, at once when asked, and soon again
// when a check has just failed.
func (p *pool) run(ctx context.Context) {
	if p.check == nil && p.stunCheck == nil && p.source == nil {
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.again:
		case <-timer.C:
		}
		_ = p.refresh(ctx) // the old ones serve as long as they live
		p.checkAll(ctx)
		if p.checked != nil && ctx.Err() == nil {
			p.checked()
		}
		timer.Reset(p.pause())
	}
}

// pause is the time until the next check.
func (p *pool) pause() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	pause := p.timing.TURNHealth
	for _, s := range p.servers {
		if s.failures > 0 && !s.unhealthy {
			pause = min(pause, p.timing.TURNAgain)
		}
	}
	if !p.renew.IsZero() {
		pause = max(min(pause, time.Until(p.renew)), 100*time.Millisecond)
	}
	return pause
}

func (p *pool) checkAll(ctx context.Context) {
	p.mu.Lock()
	servers, stun := p.servers, p.stun
	p.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range servers {
		if p.check != nil {
			wg.Go(func() { p.checkOne(ctx, s) })
		}
	}
	for _, s := range stun {
		if p.stunCheck != nil {
			wg.Go(func() { p.checkSTUN(ctx, s) })
		}
	}
	wg.Wait()
}

func (p *pool) checkSTUN(ctx context.Context, s *stunServer) {
	bounded, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := p.stunCheck(bounded, s.uri)
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.down = err != nil
}

func (p *pool) checkOne(ctx context.Context, s *turnServer) {
	bounded, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	start := time.Now()
	latency, err := p.check(bounded, s.uri)
	switch {
	case ctx.Err() != nil: // says nothing about the server
	case err != nil:
		p.failed(s, err)
	default:
		p.succeeded(s, start, latency)
	}
}

// succeeded closes the breaker, but not before its hold is over: a server that
// comes and goes is not taken again each time.
func (p *pool) succeeded(s *turnServer, start time.Time, latency time.Duration) {
	p.mu.Lock()
	again := s.failures > 0
	s.failures, s.answered, s.lastError, s.stalled = 0, start, "", nil
	if s.unhealthy && time.Since(s.opened) >= p.timing.TURNHold {
		s.unhealthy = false
	}
	if s.latency == 0 {
		s.latency = latency
	}
	s.latency += (latency - s.latency) / 4
	p.allDown = false
	p.mu.Unlock()
	p.emit("turn_server_health_check_success", "", metadata{
		"turn_server": s.uri.String(), "latency_ms": millis(latency),
	})
	if again && p.recovered != nil {
		p.recovered()
	}
}

func (p *pool) failed(s *turnServer, err error) {
	p.mu.Lock()
	s.failures++
	s.lastError = err.Error()
	opens := s.failures == breakerOpens
	if opens || s.unhealthy {
		s.unhealthy, s.opened = true, time.Now() // the hold begins anew
	}
	failures := s.failures
	none := !p.allDown
	for _, other := range p.servers {
		none = none && other.unhealthy && other.failures > 0
	}
	p.allDown = p.allDown || none
	p.mu.Unlock()
	if opens {
		p.emit("turn_server_marked_unhealthy", "", metadata{
			"turn_server": s.uri.String(), "failure_count": failures, "error": err.Error(),
		})
	}
	if none {
		p.emit("all_turn_servers_unhealthy", "", nil)
	}
}
