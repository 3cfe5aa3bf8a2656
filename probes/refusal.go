package probes

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Refusal is an answer other than the wanted one, or none at all. Code is a
// finding code; Explain tells its meaning.
type Refusal struct {
	Code   string
	Target string        // the URI that was asked about
	Step   string        // what was asked: resolve, Binding, Allocate, ChannelBind, Refresh
	Server string        // address and port that were asked; "" before they were known
	STUN   int           // error code of the reply; 0 without one
	Reason string        // text of the reply, or what happened instead
	After  time.Duration // from the first send to this outcome
	Err    error         // cause, such as the end of the context

	facts []Fact
}

// Error names what did not answer as wanted, where, and after how long.
func (r *Refusal) Error() string {
	return fmt.Sprintf("probe %s: %s", r.Target, r.detail())
}

// Unwrap gives the cause: errors.Is finds the end of a context.
func (r *Refusal) Unwrap() error { return r.Err }

func (r *Refusal) detail() string {
	where, what := r.Step, r.Reason
	if r.Server != "" {
		where += " on " + r.Server
	}
	if r.STUN != 0 {
		what = strings.TrimSpace(fmt.Sprintf("refused with %d %s", r.STUN, r.Reason))
	}
	if r.After > 0 {
		what += " after " + short(r.After)
	}
	parts := []string{where, what}
	if r.Err != nil {
		parts = append(parts, cause(r.Err))
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ")
}

// cause leaves out what the detail already says: operation and addresses.
func cause(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// refusalFinding turns an error of this package into a finding; known are the
// facts that were learned before.
func refusalFinding(err error, known []Fact) Finding {
	var r *Refusal
	if !errors.As(err, &r) {
		return newFinding(CodeLocalFault, err.Error(), known...)
	}
	facts := slices.Clone(known)
	if r.Server != "" && len(known) == 0 {
		facts = append(facts, Fact{"address", r.Server})
	}
	if r.Step != "" {
		facts = append(facts, Fact{"step", r.Step}, Fact{"after_ms", millis(r.After)})
	}
	if r.STUN != 0 {
		facts = append(facts, Fact{"stun_code", strconv.Itoa(r.STUN)}, Fact{"reason", r.Reason})
	}
	return newFinding(r.Code, r.detail(), append(facts, r.facts...)...)
}

// refusalCode returns the finding code of an error, "" for none.
func refusalCode(err error) string {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

// stunCode returns the STUN error code behind an error, 0 without one.
func stunCode(err error) int {
	var r *Refusal
	if errors.As(err, &r) {
		return r.STUN
	}
	return 0
}

// withFacts adds to what is known of a refusal.
func withFacts(err error, facts ...Fact) error {
	var r *Refusal
	if errors.As(err, &r) {
		r.facts = append(r.facts, facts...)
	}
	return err
}
