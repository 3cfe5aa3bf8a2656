package secret_test

import (
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/secret"
)

// The password is what `openssl dgst -sha1 -hmac north -binary | base64` says.
func TestMintREST(t *testing.T) {
	expires := time.Unix(1735689600, 0)
	username, password := secret.MintREST(secret.New("north"), "alice", expires)
	if username != "1735689600:alice" || password.Reveal() != "HbvWA6hGDtdv3wflBolXLhvzs0w=" {
		t.Errorf("MintREST = %s %s", username, password.Reveal())
	}
	if !secret.SignsREST(secret.New("north"), username, password) {
		t.Error("the secret that minted the credentials does not sign them")
	}
	for _, other := range []string{"", "south", "north "} {
		if secret.SignsREST(secret.New(other), username, password) {
			t.Errorf("secret %q signs credentials that it did not mint", other)
		}
	}
	if username, _ := secret.MintREST(secret.New("north"), "", expires); username != "1735689600" {
		t.Errorf("user name without a user = %q", username)
	}
}

func TestParseREST(t *testing.T) {
	for username, want := range map[string]secret.REST{
		"1735689600:alice": {Expires: time.Unix(1735689600, 0), User: "alice"},
		"1735689600":       {Expires: time.Unix(1735689600, 0)},
		"1735689600:a:b":   {Expires: time.Unix(1735689600, 0), User: "a:b"},
		"":                 {},
		"alice":            {},
		"alice:1735689600": {},
		"-735689600:x":     {},
		"0000000001:x":     {},
		"17356896000:x":    {},
		"+735689600":       {},
		"９９９９９９９９９９:wide":  {},
	} {
		got, err := secret.ParseREST(username)
		if (err != nil) != want.Expires.IsZero() || !got.Expires.Equal(want.Expires) || got.User != want.User {
			t.Errorf("ParseREST(%q) = %+v, %v, want %+v", username, got, err, want)
		}
	}
}

func FuzzParseREST(f *testing.F) {
	f.Add("1735689600:alice")
	f.Add("alice")
	f.Fuzz(func(t *testing.T, username string) {
		r, err := secret.ParseREST(username)
		if err != nil {
			return
		}
		again, err := secret.ParseREST(username[:10] + ":" + r.User)
		if err != nil || again != r {
			t.Errorf("%q reads as %+v, again as %+v, %v", username, r, again, err)
		}
	})
}
