// Package sentinel answers: how does the mesh look from one of its members,
// now and over the months?
//
// A sentinel is a long-lived agent that links to everybody. It counts what its
// links live through as Prometheus metrics, hands its events to the witness
// through a journal, pages somebody when healing a partition was given up or no
// TURN server works, and says honestly whether it can see anything at all.
package sentinel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/witnessclient"
)

const (
	defaultRefresh = time.Minute
	startRetries   = 5 // backoffs of the agent between two attempts to join
	pageTimeout    = 30 * time.Second
	pageTries      = 5
	healthCheck    = time.Second
	shutdownTime   = 5 * time.Second
)

// Options says what a sentinel watches and whom it tells.
type Options struct {
	Agent    mesh.AgentOptions // Emit is the sentinel's own
	Listener net.Listener      // for /metrics and /healthz; the sentinel closes it
	// TURNServers is asked every Refresh for the list that agents get now; nil:
	// the list of Agent stays.
	TURNServers func(context.Context) ([]wire.ServerURI, error)
	Refresh     time.Duration // 0: a minute
	Journals    string        // directory of the sentinel's journals alone; "" = no audit log
	Stamp       witnessclient.Stamp
	NewRun      func() string         // gives each journal its run id
	Witness     *witnessclient.Client // nil: events stay in the journals
	// Page tells whoever is on call; nil: nobody. It is tried again when it
	// fails.
	Page func(context.Context, witnessclient.Event) error
	Log  *slog.Logger
}

// Sentinel is one that runs.
type Sentinel struct {
	o        Options
	started  time.Time
	counts   *counts
	recorder *recorder
	pages    chan witnessclient.Event
	agent    atomic.Pointer[mesh.Agent] // nil until it has joined
	listAt   atomic.Int64               // unix ns of the last TURN list that could be read
}

// Run watches until ctx ends, which is no error. It joins as soon as a
// signaling server takes it, for as long as that takes; one that answers 401
// or 403, then or later, ends it with an error: it would stay blind for ever. So does a journal that cannot be written.
func Run(ctx context.Context, o Options) error {
	if o.Refresh <= 0 {
		o.Refresh = defaultRefresh
	}
	if o.Log == nil {
		o.Log = discard()
	}
	s := &Sentinel{o: o, started: time.Now(), counts: newCounts(), pages: make(chan witnessclient.Event, 16)}
	s.listAt.Store(s.started.UnixNano())
	var err error
	if s.recorder, err = newRecorder(o); err != nil {
		_ = o.Listener.Close()
		return fmt.Errorf("sentinel: %w", err)
	}
	if err = s.run(ctx); err != nil {
		return fmt.Errorf("sentinel: %w", err)
	}
	return nil
}

// run ends the recorder last: an agent that closes has something to say.
func (s *Sentinel) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	recording, stop := context.WithCancel(context.WithoutCancel(ctx))
	recorded := make(chan error, 1)
	go func() { recorded <- s.recorder.run(recording) }()
	group.Go(func() error { return s.serve(ctx) })
	group.Go(func() error { s.page(ctx); return nil })
	group.Go(func() error { s.tell(ctx); return nil })
	group.Go(func() error { return s.watch(ctx) })
	group.Go(func() error {
		select {
		case err := <-recorded:
			recorded <- err
			return err
		case <-ctx.Done():
			return nil
		}
	})
	err := group.Wait()
	stop()
	return errors.Join(err, <-recorded)
}

func (s *Sentinel) serve(ctx context.Context) error {
	server := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 1 << 14,
	}
	stopped := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		defer close(stopped)
		bounded, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer done()
		_ = server.Shutdown(bounded)
		_ = server.Close()
	})()
	if err := server.Serve(s.o.Listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	<-stopped
	return nil
}

// watch joins the mesh and keeps the list of TURN servers fresh.
func (s *Sentinel) watch(ctx context.Context) error {
	agent, err := s.join(ctx)
	if agent == nil {
		return err
	}
	defer func() {
		_ = agent.Close()
		s.o.Log.Info("left the mesh", "agent", s.o.Agent.ID)
	}()
	s.agent.Store(agent)
	defer s.agent.Store(nil)
	current := s.o.Agent.TURNServers
	ticker := time.NewTicker(s.o.Refresh)
	defer ticker.Stop()
	for {
		if servers, ok := s.list(ctx); ok && !slices.Equal(servers, current) {
			current = servers
			agent.SetTURNServers(servers)
			s.o.Log.Info("the list of TURN servers has changed", "servers", len(servers))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-agent.Over():
			return agent.Refusal() // nil when ctx has ended just now
		case <-ticker.C:
		}
	}
}

// join returns no agent when ctx ends before a signaling server takes it.
func (s *Sentinel) join(ctx context.Context) (*mesh.Agent, error) {
	o := s.o.Agent
	o.Emit = s.emit
	for {
		if servers, ok := s.list(ctx); ok {
			o.TURNServers = servers
			s.o.Agent.TURNServers = servers
		}
		agent, err := mesh.StartAgent(ctx, o)
		if err == nil {
			s.o.Log.Info("joined the mesh", "agent", o.ID)
			return agent, nil
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		var refused *mesh.SignalingError
		if !errors.As(err, &refused) || refused.Refused {
			return nil, err
		}
		s.o.Log.Warn("cannot join the mesh", "error", err)
		timer := time.NewTimer(startRetries * max(o.Timing.Backoff, mesh.LabTiming().Backoff))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, nil
		case <-timer.C:
		}
	}
}

// list reads the TURN servers. When that fails the last list stays: the agent
// must not lose its relays because the controller is down.
func (s *Sentinel) list(ctx context.Context) ([]wire.ServerURI, bool) {
	if s.o.TURNServers == nil {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.Refresh)
	defer cancel()
	servers, err := s.o.TURNServers(ctx)
	if err != nil || len(servers) == 0 {
		s.counts.add("list_failed")
		if ctx.Err() == nil {
			s.o.Log.Warn("the list of TURN servers cannot be read", "error", err)
		}
		return nil, false
	}
	s.listAt.Store(time.Now().UnixNano())
	return servers, true
}

// emit is called by the agent and must not wait.
func (s *Sentinel) emit(e witnessclient.Event) {
	s.counts.event(e)
	s.recorder.add(e)
	if e.Name == "mesh_healing_failed_final" || e.Name == "all_turn_servers_unhealthy" {
		select {
		case s.pages <- e:
		default:
			s.counts.add("page_failed")
		}
	}
}

// page tells whoever is on call, and tries again: nobody else knows.
func (s *Sentinel) page(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-s.pages:
			s.pageOne(ctx, e)
		}
	}
}

func (s *Sentinel) pageOne(ctx context.Context, e witnessclient.Event) {
	if s.o.Page == nil {
		return
	}
	for try := range pageTries {
		bounded, cancel := context.WithTimeout(ctx, pageTimeout)
		err := s.o.Page(bounded, e)
		cancel()
		if err == nil {
			s.counts.add("page_sent")
			return
		}
		s.o.Log.Error("nobody could be told", "event", e.Name, "error", err)
		timer := time.NewTimer(time.Second << try)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
	s.counts.add("page_failed")
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
