package lab

import (
	"crypto/rand"
	"strings"

	"github.com/infrafabric/meshctl/mesh/secret"
)

// newKey makes a random password of letters and digits, which needs no quoting
// anywhere.
func newKey() secret.Secret { return secret.New(strings.ToLower(rand.Text())) }
