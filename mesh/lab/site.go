package lab

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	loopback = "127.0.0.1:0"

	// portBack bounds the wait for a port that was given up: another process
	// may have it for a moment as the near end of a connection.
	portBack = 5 * time.Second
)

// site is an HTTP server on one loopback port, which can go away and come back
// on the same port.
type site struct {
	handler http.Handler
	address string

	mu       sync.Mutex
	server   *http.Server // nil while it is down
	cancel   context.CancelFunc
	requests sync.WaitGroup
	served   chan struct{} // closed when the server's goroutine has ended
}

func openSite(handler http.Handler) (*site, error) {
	s := &site{handler: handler}
	listener, err := net.Listen("tcp4", loopback)
	if err != nil {
		return nil, err
	}
	s.address = listener.Addr().String()
	s.serve(listener)
	return s, nil
}

func (s *site) url() string { return "http://" + s.address }

func (s *site) serve(listener net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		Handler:           http.HandlerFunc(s.handle),
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	served := make(chan struct{})
	s.mu.Lock()
	s.server, s.cancel, s.served = server, cancel, served
	s.mu.Unlock()
	go func() {
		defer close(served)
		_ = server.Serve(listener) // ends when down closes it
	}()
}

// handle keeps count of the running requests, WebSockets among them, so that
// down can wait for them.
func (s *site) handle(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.server == nil {
		s.mu.Unlock()
		panic(http.ErrAbortHandler) // accepted in the moment of going down
	}
	s.requests.Add(1)
	s.mu.Unlock()
	defer s.requests.Done()
	s.handler.ServeHTTP(w, r)
}

// down ends everything that runs; from then on connections are refused.
func (s *site) down() error {
	s.mu.Lock()
	server, cancel, served := s.server, s.cancel, s.served
	s.server = nil
	s.mu.Unlock()
	if server == nil {
		return nil
	}
	err := server.Close() // first: nothing is answered from here on
	cancel()
	<-served
	s.requests.Wait()
	return err
}

// up listens on the same port again.
func (s *site) up(ctx context.Context) error {
	s.mu.Lock()
	running := s.server != nil
	s.mu.Unlock()
	if running {
		return nil
	}
	var listener net.Listener
	err := poll(ctx, portBack, func() (err error) {
		listener, err = net.Listen("tcp4", s.address)
		return err
	})
	if err != nil {
		return fmt.Errorf("listen on %s again: %w", s.address, err)
	}
	s.serve(listener)
	return nil
}

// poll calls try until it succeeds. It gives the last error of try when the
// time is over.
func poll(ctx context.Context, limit time.Duration, try func() error) error {
	start := time.Now()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		if time.Since(start) >= limit {
			return fmt.Errorf("gave up after %s: %w", time.Since(start).Round(time.Millisecond), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}
