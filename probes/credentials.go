package probes

import (
	"strconv"
	"strings"
	"time"

	"github.com/jxskiss/base62"

	"github.com/infrafabric/meshctl/mesh/secret"
)

// Credentials are long-term credentials of a TURN server (RFC 8489 section
// 9.2), given or made by a TURN REST service.
type Credentials struct {
	Username string
	Password secret.Secret
	Realm    string // that they were made for; "" = any
}

// Empty tells that no credentials were given.
func (c Credentials) Empty() bool { return c.Username == "" && c.Password.Empty() }

// Expiry reads the time after which issued credentials are void. The user name
// of a TURN REST service is UNIXTIME or UNIXTIME:USER
// (draft-uberti-behave-turn-rest-00 section 2.2), that of LiveKit the base62 of
// KEY|PARTICIPANT|UNIXTIME.
func (c Credentials) Expiry() (time.Time, bool) {
	digits, _, _ := strings.Cut(c.Username, ":")
	if text, err := base62.DecodeString(c.Username); err == nil && strings.Count(string(text), "|") == 2 {
		digits = string(text[strings.LastIndexByte(string(text), '|')+1:])
	}
	seconds, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || len(digits) != 10 || seconds < 0 { // ten digits: from 2001 to 2286
		return time.Time{}, false
	}
	return time.Unix(seconds, 0), true
}

// rejected names a 401 to these credentials. Only the user name tells whether
// they have expired, and only the server's clock whether it thinks so.
func (c Credentials) rejected(r *Refusal, skew, precision time.Duration, known bool) {
	r.Code = CodeAuthRejected
	expiry, isREST := c.Expiry()
	if !isREST {
		return
	}
	r.facts = append(r.facts, Fact{"expires", expiry.UTC().Format(time.RFC3339)})
	left := time.Until(expiry)
	switch {
	case left < 0:
		r.Code = CodeAuthExpired
		r.facts = append(r.facts, Fact{"expired_ago", (-left).Round(time.Second).String()})
	case known && left < skew-precision:
		r.Code = CodeClockSkew
		r.facts = append(r.facts, Fact{"expired_there", (skew - left).Round(time.Second).String() + " ago"})
	}
}
