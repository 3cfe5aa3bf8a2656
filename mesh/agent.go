// Package mesh answers: can these agents reach each other, by which path, and
// do their messages arrive? It embeds a WebRTC agent of the mesh.
//
// An Agent registers with a signaling server and keeps one link per peer. A
// link outlives its PeerConnections: it moves to the next TURN server when one
// dies and is left alone when only signaling does. A delivery test lets
// throw-away agents count what arrives.
package mesh

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/transport/v5"
	"github.com/pion/webrtc/v4"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/witnessclient"
)

// TURNCheck asks a TURN server whether it really serves, and how fast. It must
// end when ctx does.
type TURNCheck func(ctx context.Context, server wire.ServerURI) (latency time.Duration, err error)

// AgentOptions says who an agent is and what it uses.
type AgentOptions struct {
	ID            string
	SignalingURLs []string         // ws or wss, in order of preference
	TURNServers   []wire.ServerURI // in order of preference; may hold STUN servers too
	Username      string           // for every TURN server
	Password      secret.Secret
	Credentials   CredentialSource // instead of both, when they expire
	RelayOnly     bool             // TURN paths only
	Loopback      bool             // 127.0.0.1 only
	Media         bool             // send and receive an Opus track of silence beside the data channels
	// Net makes the sockets; nil: the system's. The lab gives bad ones.
	Net       transport.Net
	Timing    Timing           // zero fields: DefaultTiming
	Standby   bool             // relayed links to our own agents hold a second path over another server
	Check     TURNCheck        // nil: no TURN health checks
	STUNCheck STUNCheck        // nil: the STUN servers are used as they are listed
	STUNSpare []wire.ServerURI // used when none of the listed STUN servers answers
	Passive   bool             // answers offers; makes links only when Connect asks for them

	// Emit receives every event. It is called from many goroutines, also while
	// a link recovers, so it must return at once and must not call the agent.
	// ifmessage_sent and ifmessage_received are left out: one event per message
	// would be more traffic than the messages.
	Emit func(witnessclient.Event)
	// OnMessage receives every message whose signature is right, per peer in
	// the order of arrival. It must not block and must not call Close.
	OnMessage func(from string, m wire.Message, at time.Time)
	SignKey   ed25519.PrivateKey // nil: generated
	CAFile    string             // PEM roots for wss, besides the system's

	plain bool // tests: behave as an agent that is not ours
}

// What a signaling server can make an agent open, and remember.
const (
	maxLinks = 1024
	maxPeers = 10_000
)

// Agent is one member of a mesh. Its methods may be called from any goroutine.
type Agent struct {
	o           AgentOptions
	api         *webrtc.API
	quick       *webrtc.API // for links that were relayed before
	certificate webrtc.Certificate
	fingerprint string // of the certificate
	pool        *pool
	signaling   *signaling
	ctx         context.Context // ends the agent
	cancel      context.CancelFunc
	wg          sync.WaitGroup
	track       *webrtc.TrackLocalStaticSample // nil: no media
	bandwidth   atomic.Pointer[Bandwidth]      // nil: free

	mu      sync.Mutex
	peers   map[string]bool
	links   map[string]*link
	estates map[string]estate // of links that have ended, by peer
}

// StartAgent registers an agent with the first signaling server that takes it
// and connects it to the mesh. The agent closes when ctx ends.
//
// An agent of meshctl ("meshctl-RUN-N") links only to those of its own run,
// and others do not link to it. It is an error when no signaling server takes
// the agent in one pass over the list; once registered, it looks for one for
// as long as it lives, unless one refuses it with 401 or 403.
func StartAgent(ctx context.Context, o AgentOptions) (*Agent, error) {
	a, err := newAgent(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("start agent %s: %w", o.ID, err)
	}
	if err := a.pool.refresh(a.ctx); err != nil {
		a.cancel()
		return nil, fmt.Errorf("start agent %s: %w", o.ID, err)
	}
	conn, err := a.signaling.connect(a.ctx)
	if err != nil {
		a.cancel()
		return nil, fmt.Errorf("start agent %s: %w", o.ID, err)
	}
	a.wg.Go(func() { a.pool.run(a.ctx) })
	if a.track != nil {
		a.wg.Go(a.play)
	}
	a.wg.Go(func() { a.signaling.run(a.ctx, conn) })
	return a, nil
}

func newAgent(ctx context.Context, o AgentOptions) (*Agent, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	certificate, print, err := newCertificate()
	if err != nil {
		return nil, err
	}
	api, err := newAPI(o, o.Timing.Fallback)
	if err != nil {
		return nil, err
	}
	quick, err := newAPI(o, o.Timing.Fallback/20)
	if err != nil {
		return nil, err
	}
	track, err := newTrack(o)
	if err != nil {
		return nil, err
	}
	a := &Agent{
		o: o, api: api, quick: quick, track: track, certificate: certificate, fingerprint: print,
		peers: map[string]bool{}, links: map[string]*link{}, estates: map[string]estate{},
	}
	a.signaling, err = newSignaling(o, a.emit, a.receive)
	if err != nil {
		return nil, err
	}
	a.signaling.settled = a.splitNoticed
	a.pool = newPool(o, a.emit, a.kickLinks)
	a.pool.renewed = a.renewLinks
	a.ctx, a.cancel = context.WithCancel(ctx)
	return a, nil
}

// complete checks the options and fills in what may be left out.
func (o *AgentOptions) complete() error {
	if o.ID == "" {
		return errors.New("no agent id")
	}
	o.Timing = o.Timing.orDefault()
	turn := slices.ContainsFunc(o.TURNServers, wire.ServerURI.IsTURN)
	if turn && o.Credentials == nil && (o.Username == "" || o.Password.Empty()) {
		return errors.New("TURN servers without username and password")
	}
	if o.SignKey == nil {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			return fmt.Errorf("generate signing key: %w", err)
		}
		o.SignKey = key
	}
	if len(o.SignKey) != ed25519.PrivateKeySize {
		return errors.New("signing key: not an ed25519 private key")
	}
	return nil
}

// ID is the agent's name in the mesh.
func (a *Agent) ID() string { return a.o.ID }

// Peers are the other agents registered with signaling, sorted; as last heard
// when signaling is lost.
func (a *Agent) Peers() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	peers := make([]string, 0, len(a.peers))
	for id := range a.peers {
		peers = append(peers, id)
	}
	slices.Sort(peers)
	return peers
}

// Links are the agent's links as they are now, sorted by peer.
func (a *Agent) Links() []wire.Link {
	links := a.allLinks()
	described := make([]wire.Link, 0, len(links))
	for _, l := range links {
		described = append(described, l.describe())
	}
	slices.SortFunc(described, func(x, y wire.Link) int { return strings.Compare(x.Peer, y.Peer) })
	return described
}

// Connect makes a link to a registered peer and returns when messages can be
// sent. It tries until ctx ends.
func (a *Agent) Connect(ctx context.Context, peer string) error {
	if !linkable(a.o.ID, peer) {
		return fmt.Errorf("connect %s to %s: agents of meshctl link only within their own run", a.o.ID, peer)
	}
	if !a.registered(peer) {
		return fmt.Errorf("connect %s to %s: not registered with signaling", a.o.ID, peer)
	}
	l := a.link(peer)
	if l == nil {
		return fmt.Errorf("connect %s to %s: the agent is closed or has %d links", a.o.ID, peer, maxLinks)
	}
	start, up := time.Now(), make(chan struct{})
	l.inbox.post(func() { l.await(up) })
	select {
	case <-up:
		return nil
	case <-l.done:
		return fmt.Errorf("connect %s to %s: the peer left or the agent closed", a.o.ID, peer)
	case <-a.signaling.over:
		if a.ctx.Err() != nil {
			return fmt.Errorf("connect %s to %s: the agent closed", a.o.ID, peer)
		}
		return fmt.Errorf("connect %s to %s: signaling refuses this agent", a.o.ID, peer)
	case <-ctx.Done():
		now := l.describe()
		return fmt.Errorf("connect %s to %s: %s after %s, %s: %w", a.o.ID, peer, now.State,
			time.Since(start).Round(time.Millisecond), l.via(), context.Cause(ctx))
	}
}

// SetTURNServers replaces the list that new and restarted links use. Links
// that work are left alone; ReconnectTURN moves them.
func (a *Agent) SetTURNServers(servers []wire.ServerURI) {
	a.pool.set(servers)
	for _, l := range a.allLinks() {
		l.inbox.post(func() { clear(l.excluded) })
	}
}

// MoveOff takes a TURN server out of use, as far as others are there, and moves
// the links that use it. Between our own agents no message is lost.
func (a *Agent) MoveOff(server wire.ServerURI) {
	a.pool.drain(server.String(), true)
	for _, l := range a.allLinks() {
		l.inbox.post(func() { l.moveOff(server.String()) })
	}
}

// MoveBack takes a server into use again that MoveOff took out, and moves the
// relayed links to the first of the list.
func (a *Agent) MoveBack(server wire.ServerURI) {
	a.pool.drain(server.String(), false)
	a.ReconnectTURN()
}

// renewLinks moves relayed links to allocations with the credentials of now: a
// server refuses to go on with those that have expired.
func (a *Agent) renewLinks() {
	for _, l := range a.allLinks() {
		l.inbox.post(l.renew)
	}
}

// Heal has links that are down tried now, those to the given peers or all. It
// gives the number of links it concerns.
func (a *Agent) Heal(peers ...string) int {
	var concerned []*link
	for _, l := range a.allLinks() {
		if l.down() && (len(peers) == 0 || slices.Contains(peers, l.peer)) {
			concerned = append(concerned, l)
		}
	}
	a.emit("mesh_healing_manual_triggered", "", metadata{"peers_reconnecting": len(concerned)})
	for _, l := range concerned {
		l.inbox.post(l.healNow)
	}
	return len(concerned)
}

// ReconnectTURN moves relayed links to the first TURN server of the list (that
// does not fail its checks) and tries links that are down again. Only the
// offering side of a link acts, so every agent of a mesh has to be told.
func (a *Agent) ReconnectTURN() {
	for _, l := range a.allLinks() {
		l.inbox.post(l.reconnect)
	}
}

// Close ends all links and waits until nothing of the agent is left.
func (a *Agent) Close() error {
	a.mu.Lock() // no link is opened after this
	a.cancel()
	a.mu.Unlock()
	a.wg.Wait()
	return nil
}
