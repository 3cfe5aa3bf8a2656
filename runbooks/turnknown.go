package runbooks

import (
	"encoding/json"
	"net"
	"strings"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// known are the servers that the mesh has or has had: in its lists, under its
// links, and in the lists of earlier runs. What cannot be read adds nothing.
func (s *turnSurvey) known() []wire.ServerURI {
	given, _ := wireServers(s.config.TURNServers)
	lists := [][]wire.ServerURI{s.listed, given}
	for _, l := range s.people.links {
		if relay, _ := l.Relay(); relay != "" {
			if uri, err := reportedServer(relay); err == nil {
				lists = append(lists, []wire.ServerURI{uri})
			}
		}
	}
	for _, run := range s.past {
		var f turnFacts
		_ = json.Unmarshal(run.start.Facts, &f) // of other runbooks they name no servers
		before, _ := wireServers(f.ServersBefore)
		after, _ := wireServers(f.ServersAfter)
		lists = append(lists, before, after)
	}
	return unite(lists...)
}

// stranger refuses a name that the mesh has never had, which is a typing error:
// that nobody uses it proves nothing. spelled writes a server as the operator
// would have to, or "" to leave it out.
func (s *turnSurvey) stranger(name string, spelled func(wire.ServerURI) string) Problem {
	var names []string
	seen := map[string]bool{"": true}
	for _, uri := range s.known() {
		if text := spelled(uri); !seen[text] {
			seen[text] = true
			names = append(names, text)
		}
	}
	p := Problem{
		Summary: name + " is no server of this mesh, which has or had " + shorten(names, 10),
		Hint:    "`meshctl turn list` shows the servers that are in use",
	}
	if near := nearest(name, names); near != "" {
		p.Hint = "did you mean " + near + "?"
	}
	return p
}

// nearest is the name that a mistyped one looks like or is a part of, "" for
// none. A host may be given without its port.
func nearest(typed string, names []string) string {
	typed = strings.ToLower(typed)
	best, least := "", len(typed)/3+1
	for _, name := range names {
		d := distance(typed, name)
		if host, _, err := net.SplitHostPort(name); err == nil {
			d = min(d, distance(typed, host))
		}
		if len(typed) > 2 && strings.Contains(name, typed) {
			d = 0
		}
		if d < least {
			best, least = name, d
		}
	}
	return best
}

// distance counts the characters to insert, delete or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(row[j]+1, row[j+1]+1, replaced)
		}
	}
	return row[len(b)]
}
