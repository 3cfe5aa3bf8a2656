package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/coder/websocket"

	"github.com/infrafabric/meshctl/mesh/wire"
)

const (
	triesOnTimeout = 3           // per signaling server and pass
	provenFor      = time.Second // how long a frame or pong proves that signaling lives
	longestFrame   = 64 << 20    // that is read to its end, so that the next one is found
)

// signaling keeps an agent registered with one of several servers.
type signaling struct {
	id      string
	urls    []*url.URL // in order of preference
	timing  Timing
	client  *http.Client
	emit    emitter
	receive func(wire.Signal)
	settled func(server string) // called when peers have had time to register with a server too

	mu        sync.Mutex
	conn      *websocket.Conn // nil: not registered
	heard     time.Time
	server    *url.URL // last one that took us
	fallovers int
	better    *better       // registration to change over to
	brief     int           // registrations in a row that ended at once; only run changes it
	over      chan struct{} // closed when no server will ever take us again
	refusal   error         // why
}

func newSignaling(o AgentOptions, emit emitter, receive func(wire.Signal)) (*signaling, error) {
	s := &signaling{id: o.ID, timing: o.Timing, emit: emit, receive: receive, over: make(chan struct{})}
	if len(o.SignalingURLs) == 0 {
		return nil, errors.New("no signaling server")
	}
	for _, raw := range o.SignalingURLs {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss" {
			return nil, fmt.Errorf("signaling server %q: not a ws or wss URL", raw)
		}
		s.urls = append(s.urls, u)
	}
	var err error
	s.client, err = newHTTPClient(o.CAFile)
	return s, err
}

// order is that of the list, but a server that takes us and drops us at once
// comes last.
func (s *signaling) order() []*url.URL {
	if s.brief < 2 {
		return s.urls
	}
	next := slices.Index(s.urls, s.server) + 1
	return slices.Concat(s.urls[next:], s.urls[:next])
}

// connect makes one pass over the servers.
func (s *signaling) connect(ctx context.Context) (*websocket.Conn, error) {
	var errs []error
	attempt := 0
	for _, server := range s.order() {
		for try := 1; try <= triesOnTimeout; try++ {
			attempt++
			conn, registered, err := s.register(ctx, server)
			if err == nil {
				s.connected(server, attempt)
				s.alive()
				s.use(conn)
				s.receive(registered)
				return conn, nil
			}
			s.emit("signaling_connection_failed", "", metadata{
				"server": server.Redacted(), "attempt": attempt, "error": err.Error(),
			})
			var failure *SignalingError
			if errors.As(err, &failure) && failure.Refused || ctx.Err() != nil {
				return nil, err
			}
			if failure == nil || !failure.Silent {
				errs = append(errs, err)
				break
			}
			if try == triesOnTimeout {
				errs = append(errs, err)
			}
		}
	}
	return nil, errors.Join(errs...)
}

func (s *signaling) connected(server *url.URL, attempt int) {
	s.mu.Lock()
	if s.server != nil && s.server != server {
		s.fallovers++
	}
	s.server = server
	fallovers := s.fallovers
	s.mu.Unlock()
	s.emit("signaling_connected", "", metadata{
		"server": server.Redacted(), "attempt": attempt, "fallover_count": fallovers,
	})
	s.emit("agent_registered", "", nil)
}

// run reads from the registered socket and replaces it when it is lost.
func (s *signaling) run(ctx context.Context, conn *websocket.Conn) {
	defer s.emit("agent_disconnected", "", nil)
	defer close(s.over)
	for {
		began := time.Now()
		err := s.serve(ctx, conn)
		if time.Since(began) < s.timing.Register {
			s.brief++
		} else {
			s.brief = 0
		}
		next := s.change()
		if ctx.Err() != nil {
			if next != nil {
				_ = next.CloseNow()
			}
			return
		}
		if next != nil {
			conn, s.brief = next, 0
			continue
		}
		s.emit("signaling_connection_lost", "", metadata{"server": s.server.Redacted(), "error": err.Error()})
		if conn = s.reconnect(ctx); conn == nil {
			return
		}
	}
}

// reconnect goes through the list until a server takes us. It gives up when
// one refuses us, or when ctx ends.
func (s *signaling) reconnect(ctx context.Context) *websocket.Conn {
	wait := backoff.ExponentialBackOff{
		InitialInterval: s.timing.Backoff, MaxInterval: 30 * s.timing.Backoff,
		Multiplier: 2, RandomizationFactor: 0.5,
	}
	pause := s.spread()
	for range s.brief - len(s.urls) { // every server has dropped us at once
		pause = wait.NextBackOff()
	}
	for ; ; pause = wait.NextBackOff() {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		conn, err := s.connect(ctx)
		var failure *SignalingError
		if err == nil {
			return conn
		}
		if errors.As(err, &failure) && failure.Refused {
			s.mu.Lock()
			s.refusal = err
			s.mu.Unlock()
			return nil
		}
	}
}

// spread is the pause before the first attempt after a lost socket. All agents
// of a server lose theirs in the same moment, and one of them cannot know.
func (s *signaling) spread() time.Duration { return rand.N(s.timing.Spread) }

// read gives the next frame. One that is longer than any of the protocol comes
// without its end, and cannot be decoded.
func (s *signaling) read(ctx context.Context, conn *websocket.Conn) ([]byte, error) {
	_, r, err := conn.Reader(ctx)
	if err != nil {
		return nil, err
	}
	frame, err := io.ReadAll(io.LimitReader(r, wire.MaxFrame+1))
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	return frame, err
}

// serve reads frames until the socket is lost.
func (s *signaling) serve(ctx context.Context, conn *websocket.Conn) error {
	var pinger sync.WaitGroup
	agent := ctx
	ctx, cancel := context.WithCancel(agent)
	pinger.Go(func() { s.ping(ctx, conn) })
	pinger.Go(func() { s.attend(ctx, agent, conn) })
	defer pinger.Wait()
	defer cancel()
	defer func() { _ = conn.CloseNow() }()
	defer s.use(nil)
	var evicted time.Time
	for {
		frame, err := s.read(ctx, conn)
		if err != nil {
			return lostError(err)
		}
		s.alive()
		signal, err := wire.DecodeSignal(frame)
		switch {
		case err != nil: // one bad frame is no reason to lose the good ones
		case signal.Type == wire.TypeRegistered && signal.AgentID != s.id: // not meant for us
		case signal.Type == wire.TypeAgentLeft && signal.AgentID == s.id:
			// The server took the end of our older socket for ours.
			if time.Since(evicted) < s.timing.Register {
				return errors.New("the server says again and again that this agent has left")
			}
			evicted = time.Now()
			if err := s.send(ctx, wire.Signal{Type: wire.TypeRegister, AgentID: s.id}); err != nil {
				return err
			}
		default:
			s.receive(signal)
		}
	}
}

// ping keeps proxies from cutting the socket and notices a dead server.
func (s *signaling) ping(ctx context.Context, conn *websocket.Conn) {
	ticker := time.NewTicker(s.timing.Ping)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := s.pong(ctx, conn, s.timing.Register); err != nil && ctx.Err() == nil {
			_ = conn.CloseNow()
			return
		}
	}
}

func (s *signaling) pong(ctx context.Context, conn *websocket.Conn, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := conn.Ping(ctx)
	if err == nil {
		s.alive()
	}
	return err
}

// live proves that the signaling server answers right now. Restarting ICE cuts
// a working link at once, so it must never be tried without.
func (s *signaling) live(ctx context.Context) bool {
	s.mu.Lock()
	conn, heard := s.conn, s.heard
	s.mu.Unlock()
	if conn == nil || ctx.Err() != nil {
		return false
	}
	return time.Since(heard) < provenFor || s.pong(ctx, conn, provenFor) == nil
}

func (s *signaling) send(ctx context.Context, signal wire.Signal) error {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn == nil {
		return errors.New("send to signaling: not registered")
	}
	ctx, cancel := context.WithTimeout(ctx, s.timing.Register)
	defer cancel()
	if err := conn.Write(ctx, websocket.MessageText, signal.Encode()); err != nil {
		return fmt.Errorf("send to signaling: %w", lostError(err))
	}
	return nil
}

func (s *signaling) use(conn *websocket.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = conn
}

func (s *signaling) alive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = time.Now()
}
