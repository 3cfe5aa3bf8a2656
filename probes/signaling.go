package probes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"github.com/infrafabric/meshctl/mesh/wire"
)

const closePatience = 500 * time.Millisecond

// Signaling asks a signaling server what agents ask: to upgrade to WebSocket,
// to register, and to relay an offer. It registers under throw-away ids.
type Signaling struct {
	URL      string // ws or wss, the server's own address
	ID       string // throw-away agent id; must start with wire.OwnPrefix
	Other    string // URL of a server that should share the registry; "" = not asked
	Balancer bool   // URL is a balancer's: its health is not that of a server
	Roots    *x509.CertPool
	Timeout  time.Duration // of each server's registration; 0 = as long as the quick schedule
	Limits   Limits        // of the certificate's life; zero = DefaultLimits
}

// Run registers and reports signaling.ok, or names the step that failed.
func (p Signaling) Run(ctx context.Context) Report {
	started := time.Now()
	return reportOf("signaling", p.URL, started, p.findings(ctx))
}

func (p Signaling) findings(ctx context.Context) []Finding {
	bounded, cancel := QuickSchedule().bounded(ctx, p.Timeout)
	defer cancel()
	me, err := p.join(bounded, p.URL, p.ID)
	if err != nil {
		return p.refused(err)
	}
	defer me.leave()
	code := CodeSignalingOK
	if p.Balancer {
		code = CodeSignalingBalancer
	}
	findings := []Finding{newFinding(code, "", me.facts...)}
	if p.Other != "" {
		findings = append(findings, p.cross(ctx, me))
	}
	return append(findings, me.judged(p.Roots, p.Limits)...)
}

// refused turns the error of join into findings.
func (p Signaling) refused(err error) []Finding {
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return []Finding{Service{URL: p.URL, Roots: p.Roots}.certificate(untrusted)}
	}
	return []Finding{refusalFinding(err, nil)}
}

// member is a registration at one server.
type member struct {
	conn    *websocket.Conn
	id      string
	server  string
	present []string // other agents that the server knows
	chain   []*x509.Certificate
	facts   []Fact
}

// join takes the steps of an agent. The error is a *Refusal.
func (p Signaling) join(ctx context.Context, server, id string) (*member, error) {
	step := signalingStep{server: server, started: time.Now(), name: "connect"}
	m := &member{id: id, server: server}
	var connected atomic.Int64 // since started; the dialer may outlive an ended ctx
	transport := &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: p.Roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err == nil {
				connected.Store(int64(time.Since(step.started)))
			}
			return conn, err
		},
	}
	conn, response, err := websocket.Dial(ctx, server, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport, CheckRedirect: noRedirect}})
	if took := time.Duration(connected.Load()); took > 0 {
		step.name, m.facts = "upgrade", []Fact{{"connect_ms", millis(took)}}
	}
	if err != nil {
		return nil, step.upgradeRefused(ctx, response, err)
	}
	if response != nil && response.TLS != nil {
		m.chain = response.TLS.PeerCertificates
	}
	m.conn, step.name = conn, "register"
	conn.SetReadLimit(wire.MaxFrame)
	if err := m.register(ctx, step); err != nil {
		_ = conn.CloseNow()
		return nil, err
	}
	own := 0
	for _, id := range m.present {
		if wire.OwnAgent(id) {
			own++
		}
	}
	m.facts = append(m.facts, Fact{"registered_ms", millis(time.Since(step.started))},
		Fact{"agents", strconv.Itoa(len(m.present) - own)}, Fact{"own_agents", strconv.Itoa(own)})
	return m, nil
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// register introduces us and waits until the server says that we are known.
func (m *member) register(ctx context.Context, step signalingStep) error {
	hello := wire.Signal{Type: wire.TypeRegister, AgentID: m.id}
	if err := m.conn.Write(ctx, websocket.MessageText, hello.Encode()); err != nil {
		return step.broken(ctx, err)
	}
	answer, err := m.await(ctx, step, func(s wire.Signal) bool { return s.Type == wire.TypeRegistered })
	if err != nil {
		return err
	}
	if answer.AgentID != m.id {
		return step.refusal(CodeSignalingGarbled, fmt.Sprintf("registered %q in place of us", printable(answer.AgentID)), nil)
	}
	m.present = answer.ConnectedAgents
	return nil
}

// await reads frames until one is wanted. An error frame ends it.
func (m *member) await(ctx context.Context, step signalingStep, wanted func(wire.Signal) bool) (wire.Signal, error) {
	for {
		_, frame, err := m.conn.Read(ctx)
		if err != nil {
			return wire.Signal{}, step.broken(ctx, err)
		}
		signal, err := wire.DecodeSignal(frame)
		switch {
		case err != nil:
			return signal, step.refusal(CodeSignalingGarbled, printable(err.Error()), nil)
		case signal.Type == wire.TypeError:
			return signal, step.refusal(CodeSignalingError, fmt.Sprintf("it says %q", printable(signal.Message)), nil)
		case wanted(signal):
			return signal, nil
		}
	}
}

// leave closes as agents do. A server that does not answer the close is not
// waited for.
func (m *member) leave() {
	late := time.AfterFunc(closePatience, func() { _ = m.conn.CloseNow() })
	defer late.Stop()
	_ = m.conn.Close(websocket.StatusNormalClosure, "")
}

// judged are the problems with a certificate that was accepted: it may expire
// soon.
func (m *member) judged(roots *x509.CertPool, limits Limits) []Finding {
	if len(m.chain) == 0 {
		return nil
	}
	_, problems := Certificate{Chain: m.chain, Roots: roots, Limits: limits, Now: time.Now()}.Judge()
	return problems
}

// signalingStep names refusals.
type signalingStep struct {
	name, server string
	started      time.Time
}

func (s signalingStep) refusal(code, reason string, err error) *Refusal {
	return &Refusal{Code: code, Target: s.server, Step: s.name, Server: hostOf(s.server), Reason: reason, After: time.Since(s.started), Err: err}
}

// upgradeRefused names why there is no WebSocket.
func (s signalingStep) upgradeRefused(ctx context.Context, response *http.Response, err error) error {
	if response == nil {
		return s.broken(ctx, err)
	}
	if response.Body != nil {
		_ = response.Body.Close()
	}
	switch code := response.StatusCode; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return s.refusal(CodeSignalingAuth, "HTTP "+response.Status, nil)
	case code >= 500:
		return s.refusal(CodeSignalingRefused, "HTTP "+response.Status, nil)
	}
	return s.refusal(CodeSignalingProtocol, "HTTP "+response.Status+" in place of an upgrade", nil)
}

// broken names the end of a connection, or its silence.
func (s signalingStep) broken(ctx context.Context, err error) error {
	var untrusted *tls.CertificateVerificationError
	var transport *url.Error
	if errors.As(err, &transport) {
		err = transport.Err
	}
	switch {
	case errors.As(err, &untrusted):
		return untrusted
	case interrupted(ctx):
		return s.refusal(CodeProbeInterrupted, "no answer", context.Cause(ctx))
	case isNameError(err):
		return s.refusal(CodeDNSFailed, "no such name", nil)
	case ctx.Err() != nil:
		code := map[string]string{"register": CodeSignalingHangs, "offer": CodeSignalingHangs, "upgrade": CodeSignalingStalled}[s.name]
		if code == "" {
			code = CodeSignalingSilent
		}
		return s.refusal(code, "no answer", nil)
	case errors.Is(err, syscall.ECONNREFUSED):
		return s.refusal(CodeSignalingClosed, "port closed", nil)
	case errors.Is(err, http.ErrSchemeMismatch):
		return s.refusal(CodeTLSNoListener, "it answers without TLS", nil)
	case s.name == "connect":
		return s.refusal(CodeSignalingUnreachable, "", err)
	case s.name == "upgrade" && !hungUp(err):
		return s.refusal(CodeSignalingProtocol, spoken(err), nil)
	}
	return s.refusal(CodeSignalingHangup, "the server closed the connection", nil)
}

// hungUp tells an end from an answer. net/http has no error of its own for a
// server that closes before it is asked.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || strings.Contains(err.Error(), "server closed idle connection")
}

// spoken says what came in place of an HTTP response.
func spoken(err error) string {
	text := innermost(err)
	if strings.Contains(text, "readLoopPeekFail") { // net/http, when it is told something before it asks
		return "it speaks before it is asked"
	}
	return printable(text)
}

// innermost is the cause without what the libraries say around it.
func innermost(err error) string {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err.Error()
}

func hostOf(server string) string {
	if u, err := url.Parse(server); err == nil {
		return u.Host
	}
	return server
}
