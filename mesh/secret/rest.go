package secret

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the TURN REST convention has no other hash
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// REST is what the user name of a TURN REST service's credentials says
// (draft-uberti-behave-turn-rest-00 section 2.2): UNIXTIME or UNIXTIME:USER.
type REST struct {
	Expires time.Time
	User    string
}

// MintREST makes credentials that a TURN server with this shared secret takes
// until they expire: the password is the base64 HMAC-SHA1 of the user name.
func MintREST(key Secret, user string, expires time.Time) (username string, password Secret) {
	username = strconv.FormatInt(expires.Unix(), 10)
	if user != "" {
		username += ":" + user
	}
	return username, New(restPassword(key, username))
}

// ParseREST reads a user name; ten digits: from 2001 to 2286.
func ParseREST(username string) (REST, error) {
	digits, user, _ := strings.Cut(username, ":")
	seconds, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || len(digits) != 10 || seconds < 1e9 {
		return REST{}, fmt.Errorf("parse user name %q: not UNIXTIME or UNIXTIME:USER", username)
	}
	return REST{Expires: time.Unix(seconds, 0), User: user}, nil
}

// SignsREST tells whether credentials were made with this shared secret.
func SignsREST(key Secret, username string, password Secret) bool {
	return !key.Empty() && hmac.Equal([]byte(restPassword(key, username)), []byte(password.Reveal()))
}

func restPassword(key Secret, username string) string {
	mac := hmac.New(sha1.New, []byte(key.Reveal()))
	mac.Write([]byte(username))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
