package probes

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/pion/stun/v3"
)

// exchange is a request and the reply to it.
type exchange struct {
	reply reply
	rtt   time.Duration // 0 when the request was sent more than once
	sends int
}

// transaction sends a request until its reply comes, its schedule ends, or ctx
// does. It takes success and error responses alike. key, when there is one,
// must sign a success response: RFC 8489 section 9.2.5 has others ignored. An
// error response needs no signature, since servers send many before they know
// the user. sent, when not nil, runs after each send.
type transaction struct {
	socket  *socket
	request *stun.Message
	key     stun.MessageIntegrity
	sent    func()

	started time.Time
	sends   int
	forged  bool // a reply came with a wrong signature
}

func (t *transaction) run(ctx context.Context) (exchange, error) {
	inbox := t.socket.register(t.request.TransactionID)
	defer t.socket.forget(t.request.TransactionID)
	t.started = time.Now()
	giveUp := startPatience(t.socket.schedule.GiveUp)
	defer giveUp.Stop()
	resend := time.NewTimer(0)
	defer resend.Stop()
	for pause := t.socket.schedule.First; ; {
		select {
		case <-ctx.Done():
			return exchange{}, t.ended(ctx)
		case <-giveUp.C:
			if giveUp.over() {
				return exchange{}, t.silent()
			}
		case <-resend.C:
			if err := t.send(); err != nil {
				return exchange{}, t.unreachable(err)
			}
			if t.sends < t.socket.schedule.Sends {
				resend.Reset(pause)
				pause *= 2
			}
		case a := <-inbox:
			if a.err != nil {
				return exchange{}, t.unreachable(a.err)
			}
			if t.accepts(a.reply) {
				return t.finish(a), nil
			}
		}
	}
}

func (t *transaction) send() error {
	if err := t.socket.write(t.request.Raw); err != nil {
		return err
	}
	t.sends++
	if t.sent != nil {
		t.sent()
	}
	return nil
}

// accepts tells whether a message with our transaction id answers the request.
func (t *transaction) accepts(r reply) bool {
	m := r.message
	isResponse := m.Type.Class == stun.ClassSuccessResponse || m.Type.Class == stun.ClassErrorResponse
	if !isResponse || m.Type.Method != t.request.Type.Method {
		t.socket.ignore(errors.New("a message that is no response to the request"))
		return false
	}
	if m.Type.Class == stun.ClassSuccessResponse && t.key != nil && t.key.Check(m) != nil {
		t.forged = true
		return false
	}
	return true
}

func (t *transaction) finish(a arrival) exchange {
	t.socket.mu.Lock()
	defer t.socket.mu.Unlock()
	t.socket.answered = true
	x := exchange{reply: a.reply, sends: t.sends}
	if t.sends == 1 { // with more sends nobody knows which one was answered
		x.rtt = a.at.Sub(t.started)
	}
	return x
}

// ended tells the end of the probe's own time from an interruption.
func (t *transaction) ended(ctx context.Context) error {
	if !interrupted(ctx) {
		return t.silent()
	}
	return t.refusal("interrupted", "no answer", context.Cause(ctx))
}

// silent names what kind of silence it was.
func (t *transaction) silent() error {
	t.socket.mu.Lock()
	answered, garbage := t.socket.answered, t.socket.garbage
	t.socket.mu.Unlock()
	switch {
	case t.forged:
		return t.refusal("integrity", "only answers with a wrong MESSAGE-INTEGRITY", nil)
	case answered:
		return t.refusal("stalled", "no answer", nil)
	case garbage != nil:
		return t.refusal("garbled", "no usable answer", garbage)
	}
	return t.refusal("silent", "no answer", nil)
}

// unreachable reads what the kernel knows. A connected socket is told of an
// ICMP message; RFC 8489 section 6.2.1 has the transaction fail on a hard one.
func (t *transaction) unreachable(err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return t.refusal("closed", "port closed", err)
	case errors.Is(err, syscall.EHOSTUNREACH):
		return t.refusal("unreachable", "host unreachable", err)
	case errors.As(err, new(*framingError)):
		return t.refusal("garbled", "no usable answer", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return t.refusal("stalled", "it takes no more data", nil)
	case t.socket.transport != UDP: // end of file, a reset, or an alert
		return t.refusal("hangup", "the connection was closed", nil)
	}
	r := t.refusal("", "not sent", err)
	r.Code = CodeLocalFault
	return r
}

func (t *transaction) refusal(kind, reason string, err error) *Refusal {
	return &Refusal{
		Code: t.socket.service + "." + kind, Step: t.request.Type.Method.String(),
		Server: t.socket.server.String(), Reason: reason, After: time.Since(t.started), Err: err,
	}
}

// refused turns an error response into an error.
func (t *transaction) refused(r reply, code string) *Refusal {
	e := t.refusal("", r.reason, nil)
	e.Code, e.STUN = code, r.code
	return e
}
