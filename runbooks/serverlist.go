package runbooks

import (
	"strings"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// replaceServer edits a comma-separated list of STUN/TURN URIs as text: every
// entry on the failed server gets the replacement's host (and port, when it
// gives one) and keeps its own scheme and transport. An edited entry that
// would then stand twice is removed. All other bytes stay, spaces included.
func replaceServer(list, failed string, replacement wire.ServerURI) string {
	entries := strings.Split(list, ",")
	taken := map[string]bool{}
	for _, entry := range entries {
		if uri, err := wire.ParseServerURI(strings.TrimSpace(entry)); err == nil && !uri.Matches(failed) {
			taken[serverKey(uri)] = true
		}
	}
	kept := entries[:0:0]
	for _, entry := range entries {
		trimmed := strings.TrimSpace(entry)
		uri, err := wire.ParseServerURI(trimmed)
		if err != nil || !uri.Matches(failed) {
			kept = append(kept, entry)
			continue
		}
		uri.Host = replacement.Host
		if replacement.Port != 0 {
			uri.Port = replacement.Port
		}
		if taken[serverKey(uri)] {
			continue
		}
		taken[serverKey(uri)] = true
		kept = append(kept, strings.Replace(entry, trimmed, uri.String(), 1))
	}
	return strings.Join(kept, ",")
}

// removeServer drops every entry on the server; all other bytes stay.
func removeServer(list, server string) string {
	var kept []string
	for entry := range strings.SplitSeq(list, ",") {
		if uri, err := wire.ParseServerURI(strings.TrimSpace(entry)); err == nil && uri.Matches(server) {
			continue
		}
		kept = append(kept, entry)
	}
	return strings.Join(kept, ",")
}

// prependServer puts a server at the head, where agents prefer it. Entries for
// the same service are dropped.
func prependServer(list string, server wire.ServerURI) string {
	kept := []string{server.String()}
	for entry := range strings.SplitSeq(list, ",") {
		uri, err := wire.ParseServerURI(strings.TrimSpace(entry))
		if strings.TrimSpace(entry) != "" && (err != nil || serverKey(uri) != serverKey(server)) {
			kept = append(kept, entry)
		}
	}
	return strings.Join(kept, ",")
}

// serverKey is equal for two URIs that name the same service.
func serverKey(uri wire.ServerURI) string {
	return uri.Scheme + " " + uri.Address() + " " + uri.EffectiveTransport()
}

// listed tells whether any entry of the list is on the server.
func listed(servers []wire.ServerURI, server string) bool {
	for _, uri := range servers {
		if uri.Matches(server) {
			return true
		}
	}
	return false
}

// sameServers compares two lists by what they name, in order: the first
// server is the one that agents prefer.
func sameServers(a, b []wire.ServerURI) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if serverKey(a[i]) != serverKey(b[i]) {
			return false
		}
	}
	return true
}

func serverTexts(servers []wire.ServerURI) []string {
	texts := make([]string, 0, len(servers))
	for _, uri := range servers {
		texts = append(texts, uri.String())
	}
	return texts
}
