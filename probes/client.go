package probes

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"github.com/pion/stun/v3"
)

const (
	askedLife  = 60 * time.Second       // lifetime asked for; limits what a lost release leaves behind
	grantGrace = 500 * time.Millisecond // how long an interrupted probe waits for an answer that may grant
)

// client is one TURN client (RFC 8656): a socket, what the server told it for
// its credentials, and at most one allocation.
type client struct {
	socket      *socket
	credentials Credentials
	family      Family // of the relayed address; "" = the server's choice
	pace        *Pace
	skew        time.Duration // of the server's clock, if known
	life        time.Duration // to ask for, beyond askedLife

	realm, nonce    string
	nonceSkew       time.Duration         // of the server's clock, as its first nonce showed it
	nonceExact      time.Duration         // how exact that is; 0 = not known
	key             stun.MessageIntegrity // nil until the server has named its realm
	allocation      allocationState
	relayed, mapped netip.AddrPort
	software        string
	rtt             time.Duration // shortest seen; 0 when none was measured
	resent          int
	movedPort       bool // a stale allocation was in the way of the first local port
}

type allocationState int

const (
	noAllocation    allocationState = iota
	allocationAsked                 // sent, no answer: it may exist
	allocationHeld
)

// allocate asks for an allocation, first anonymously, since only that shows
// the realm and an open relay. The caller must release it, also after an error.
func (c *client) allocate(ctx context.Context) error {
	known, err := c.pace.enter(ctx, c.socket.server, !c.credentials.Empty())
	if err != nil {
		return c.notAsked(err)
	}
	c.realm, c.nonce = known.realm, known.nonce
	if known == (challenge{}) {
		if err := c.challenged(ctx); err != nil {
			return err
		}
	}
	c.key = stun.NewLongTermIntegrity(c.credentials.Username, c.realm, c.credentials.Password.Reveal())
	ctx, cancel := lingering(ctx, grantGrace)
	defer cancel()
	_, err = c.askAllocation(ctx)
	return err
}

// challenged asks anonymously and learns realm and nonce.
func (c *client) challenged(ctx context.Context) error {
	r, err := c.askAllocation(ctx)
	if err == nil {
		return &Refusal{
			Code: CodeTURNOpen, Step: stun.MethodAllocate.String(), Server: c.socket.server.String(),
			Reason: "granted without credentials", After: c.rtt,
		}
	}
	isChallenge := r.code == int(stun.CodeUnauthorized) || r.code == int(stun.CodeStaleNonce)
	if !isChallenge || r.realm == "" || r.nonce == "" {
		return err
	}
	c.realm, c.nonce = r.realm, r.nonce
	c.nonceSkew, c.nonceExact, _ = nonceSkew(r.nonce, time.Now())
	if c.credentials.Empty() {
		return withCode(err, CodeAuthMissing)
	}
	c.pace.learn(c.socket.server, challenge{r.realm, r.nonce})
	return nil
}

// notAsked names the end of the wait for a turn.
func (c *client) notAsked(cause error) error {
	code := CodeTURNInterrupted
	if errors.Is(cause, errSilence) {
		code = CodeLocalFault
	}
	return &Refusal{
		Code: code, Step: stun.MethodAllocate.String(), Server: c.socket.server.String(),
		Reason: "not sent: too many requests to this server", Err: cause,
	}
}

func (c *client) askAllocation(ctx context.Context) (reply, error) {
	attributes := []stun.Setter{requestedTransportUDP(), lifetime(askedLife + c.life)}
	if c.family != "" {
		attributes = append(attributes, requestedFamily(c.family))
	}
	c.allocation = allocationAsked
	r, err := c.request(ctx, stun.MethodAllocate, nil, attributes...)
	switch {
	case r.code != 0:
		c.allocation = noAllocation
	case err == nil:
		c.allocation = allocationHeld
		c.relayed, c.mapped = r.relayed, r.mapped
		if !r.relayed.IsValid() {
			err = &Refusal{
				Code: CodeTURNGarbled, Step: stun.MethodAllocate.String(), Server: c.socket.server.String(),
				Reason: "granted without a relayed address",
			}
		}
	}
	return r, err
}

// bind binds a channel to a peer, which permits that peer too. sent runs right
// after each send, for data in the same flight.
func (c *client) bind(ctx context.Context, channel uint16, peer netip.AddrPort, sent func()) error {
	r, err := c.request(ctx, stun.MethodChannelBind, sent, channelNumber(channel), peerAddress(peer))
	// pion/turn denies a peer with a 401 without nonce.
	denied := r.code == int(stun.CodeForbidden) || r.code == int(stun.CodeUnauthorized) && r.nonce == ""
	if denied {
		return withCode(err, CodePeerDenied)
	}
	return err
}

// release gives the allocation back and waits for the server to say so, also
// when ctx has ended. An allocation that was asked for in vain may exist too:
// a server that has answered before is asked in the same way, and whether that
// one confirms is no news; to one that never did a single request goes out.
func (c *client) release(ctx context.Context) error {
	c.socket.schedule = releaseSchedule(c.socket.transport)
	state := c.allocation
	c.allocation = noAllocation
	switch {
	case state == allocationAsked && c.key == nil:
		if request, err := c.build(stun.MethodRefresh, lifetime(0)); err == nil {
			_ = c.socket.write(request.Raw)
		}
	case state != noAllocation:
		_, err := c.request(context.WithoutCancel(ctx), stun.MethodRefresh, nil, lifetime(0))
		gone := stunCode(err) == int(stun.CodeAllocMismatch) // 437
		if state == allocationHeld && !gone {
			return err
		}
	}
	return nil
}

// request runs one transaction. A stale nonce is replaced once (RFC 8489
// section 9.2.5). The error is a *Refusal unless the request cannot be built;
// the reply of an error response is returned with it.
func (c *client) request(ctx context.Context, method stun.Method, sent func(), attributes ...stun.Setter) (reply, error) {
	r, err := c.exchange(ctx, method, sent, attributes)
	if r.code != int(stun.CodeStaleNonce) || c.key == nil || r.nonce == "" {
		return r, err
	}
	c.nonce = r.nonce
	return c.exchange(ctx, method, sent, attributes)
}

func (c *client) exchange(ctx context.Context, method stun.Method, sent func(), attributes []stun.Setter) (reply, error) {
	request, err := c.build(method, attributes...)
	if err != nil {
		return reply{}, &Refusal{
			Code: CodeAuthUnusable, Step: method.String(), Server: c.socket.server.String(),
			Reason: "not sent", Err: err,
		}
	}
	t := transaction{socket: c.socket, request: request, key: c.key, sent: sent}
	x, err := t.run(ctx)
	c.resent += max(t.sends-1, 0)
	if err != nil {
		return reply{}, err
	}
	if c.rtt == 0 || x.rtt > 0 && x.rtt < c.rtt {
		c.rtt = x.rtt
	}
	if x.reply.software != "" {
		c.software = x.reply.software
	}
	if x.reply.code == 0 {
		return x.reply, nil
	}
	return x.reply, c.refused(&t, x.reply)
}

func (c *client) build(method stun.Method, attributes ...stun.Setter) (*stun.Message, error) {
	setters := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, attributes...)
	if c.key != nil {
		setters = append(setters, stun.NewUsername(c.credentials.Username), stun.NewRealm(c.realm), stun.NewNonce(c.nonce), c.key)
	}
	return stun.Build(setters...)
}

// refused names an error response.
func (c *client) refused(t *transaction, r reply) *Refusal {
	e := t.refused(r, CodeTURNRefused)
	switch stun.ErrorCode(r.code) {
	case stun.CodeTryAlternate:
		e.Code = CodeTURNRedirect
		if r.alternate.IsValid() {
			e.facts = append(e.facts, Fact{"alternate", r.alternate.String()})
		}
	case stun.CodeUnauthorized:
		if c.key != nil {
			c.rejected(e)
		}
	case stun.CodeWrongCredentials:
		e.Code = CodeRealm
	case stun.CodeAddrFamilyNotSupported:
		e.Code = CodeFamilyRelay
	case stun.CodePeerAddrFamilyMismatch:
		e.Code = CodeFamilyPeer
	case stun.CodeAllocMismatch:
		e.Code = CodeTupleInUse
	case stun.CodeStaleNonce:
		if c.key != nil {
			e.Code = CodeNonceLoop
		}
	case stun.CodeAllocQuotaReached:
		e.Code = CodeQuotaReached
	case stun.CodeInsufficientCapacity:
		e.Code = CodeNoCapacity
	}
	return e
}

// facts are what is known of the server so far.
func (c *client) facts() []Fact {
	facts := c.socket.facts()
	add := func(name, value string, known bool) {
		if known {
			facts = append(facts, Fact{name, value})
		}
	}
	add("software", c.software, c.software != "")
	add("realm", printable(c.realm), c.realm != "")
	add("relayed", c.relayed.String(), c.relayed.IsValid())
	add("mapped", c.mapped.String(), c.mapped.IsValid())
	add("rtt_ms", millis(c.rtt), c.rtt > 0)
	if skew, precision, known := c.clockSkew(); known {
		facts = append(facts, Fact{"clock_skew", skew.Round(precision).String()})
	}
	add("resent", strconv.Itoa(c.resent), c.resent > 0)
	add("new_port_after_437", "yes", c.movedPort)
	return facts
}

// clockSkew is how far the server's clock is ahead of ours, and how sure that
// is.
func (c *client) clockSkew() (skew, precision time.Duration, known bool) {
	if c.skew != 0 {
		return c.skew, time.Second, true
	}
	return c.nonceSkew, c.nonceExact, c.nonceExact > 0
}

// rejected names a 401 to our credentials. The servers answer the same to a
// wrong password, expired credentials and, in effect, another realm or clock.
func (c *client) rejected(r *Refusal) {
	skew, precision, known := c.clockSkew()
	c.credentials.rejected(r, skew, precision, known)
	if wanted := c.credentials.Realm; wanted != "" && wanted != c.realm {
		r.Code = CodeRealm
		r.facts = append(r.facts, Fact{"realm_expected", printable(wanted)})
	}
}

// withCode gives a refusal the name that its step makes of it.
func withCode(err error, code string) error {
	var r *Refusal
	if errors.As(err, &r) {
		r.Code = code
	}
	return err
}
