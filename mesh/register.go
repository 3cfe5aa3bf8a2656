package mesh

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"

	"github.com/infrafabric/meshctl/mesh/httpapi"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// SignalingError says why a signaling server did not register an agent.
type SignalingError struct {
	Server  string
	After   time.Duration
	Silent  bool // it did not answer in time
	Refused bool // it answered 401 or 403: trying again is no use
	Err     error
}

func (e *SignalingError) Error() string {
	if e.Silent {
		return fmt.Sprintf("register at %s: no answer after %s", e.Server, e.After.Round(time.Millisecond))
	}
	return fmt.Sprintf("register at %s: %v", e.Server, e.Err)
}

func (e *SignalingError) Unwrap() error { return e.Err }

// register opens a socket and makes the agent known on it.
func (s *signaling) register(ctx context.Context, server *url.URL) (*websocket.Conn, wire.Signal, error) {
	start := time.Now()
	bounded, cancel := context.WithTimeout(ctx, s.timing.Register)
	defer cancel()
	conn, response, err := websocket.Dial(bounded, server.String(), &websocket.DialOptions{HTTPClient: s.client})
	if err == nil {
		var registered wire.Signal
		if registered, err = s.introduce(bounded, conn); err == nil {
			return conn, registered, nil
		}
		_ = conn.CloseNow()
	}
	failure := &SignalingError{Server: server.Redacted(), After: time.Since(start), Err: err}
	var transport *url.Error
	if errors.As(err, &transport) {
		failure.Err = transport.Err // without the URL, which is named already
	}
	if response != nil && response.StatusCode != http.StatusSwitchingProtocols {
		failure.Err = fmt.Errorf("HTTP %s", response.Status)
		failure.Refused = response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden
	}
	failure.Silent = bounded.Err() != nil && ctx.Err() == nil
	if ctx.Err() != nil {
		failure.Err = context.Cause(ctx)
	}
	return nil, wire.Signal{}, failure
}

// introduce sends the register frame and waits until it is acknowledged.
func (s *signaling) introduce(ctx context.Context, conn *websocket.Conn) (wire.Signal, error) {
	conn.SetReadLimit(longestFrame)
	hello := wire.Signal{Type: wire.TypeRegister, AgentID: s.id}
	if err := conn.Write(ctx, websocket.MessageText, hello.Encode()); err != nil {
		return wire.Signal{}, lostError(err)
	}
	for {
		frame, err := s.read(ctx, conn)
		if err != nil {
			return wire.Signal{}, lostError(err)
		}
		signal, err := wire.DecodeSignal(frame)
		switch {
		case err != nil:
			return wire.Signal{}, err
		case signal.Type == wire.TypeError:
			return wire.Signal{}, fmt.Errorf("the server says %.200q", signal.Message)
		case signal.Type == wire.TypeRegistered && signal.AgentID != s.id:
			return wire.Signal{}, fmt.Errorf("the server has registered us as %.200q", signal.AgentID)
		case signal.Type == wire.TypeRegistered:
			return signal, nil
		}
	}
}

// lostError says why a socket ended, without the layers the library adds.
func lostError(err error) error {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	if errors.Is(err, io.EOF) {
		return errors.New("the server closed the connection")
	}
	return err
}

// newHTTPClient trusts the system's roots and those of the file, if any.
func newHTTPClient(caFile string) (*http.Client, error) {
	roots, err := httpapi.LoadRoots(caFile)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}}, nil
}
