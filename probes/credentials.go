package probes

import (
	"strconv"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/mesh/secret"
)

// Credentials are long-term credentials of a TURN server (RFC 8489 section
// 9.2), given or made by a TURN REST service.
type Credentials struct {
	Username string
	Password secret.Secret
}

// Empty tells that no credentials were given.
func (c Credentials) Empty() bool { return c.Username == "" && c.Password.Empty() }

// Expiry reads the time after which a TURN REST service's credentials are
// void: their user name is UNIXTIME or UNIXTIME:USER
// (draft-uberti-behave-turn-rest-00 section 2.2).
func (c Credentials) Expiry() (time.Time, bool) {
	digits, _, _ := strings.Cut(c.Username, ":")
	seconds, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || len(digits) != 10 || seconds < 0 { // ten digits: from 2001 to 2286
		return time.Time{}, false
	}
	return time.Unix(seconds, 0), true
}

// rejected names a 401 to these credentials. The servers answer the same to a
// wrong password and to expired credentials; only the user name tells.
func (c Credentials) rejected(r *Refusal) {
	r.Code = CodeAuthRejected
	expiry, known := c.Expiry()
	if !known {
		return
	}
	r.facts = append(r.facts, Fact{"expires", expiry.UTC().Format(time.RFC3339)})
	if left := time.Until(expiry); left < 0 {
		r.Code = CodeAuthExpired
		r.facts = append(r.facts, Fact{"expired_ago", (-left).Round(time.Second).String()})
	}
}
