package runbooks

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/probes"
)

func TestListTURN(t *testing.T) {
	t.Parallel()
	l := steadyLab(t, lab.Options{Agents: 2})
	m := meshOf(t, l)
	inject(t, l, "turn-refuses-allocate", "turn-2")
	rewrite("TURN_SERVERS=\"", "TURN_SERVERS=\""+uriOf(l, "turn-3")+",")(t, l) // and the controller has turn-1 and turn-2
	list := m.ListTURN(t.Context())
	type line struct {
		URI                 string
		InFile, InConfig    bool
		Links               int
		Verdict             probes.Verdict
		Code                string
		SaysThatItIsHealthy bool
	}
	var got []line
	for _, s := range list.Servers {
		got = append(got, line{s.URI, *s.InFile, *s.InController, *s.Links, s.Verdict, s.Code, s.Summary == "relays"})
	}
	want := []line{
		{uriOf(l, "turn-3"), true, false, 0, probes.Pass, "", true},
		{uriOf(l, "turn-1"), true, true, 2, probes.Pass, "", true},
		{uriOf(l, "turn-2"), true, true, 0, probes.Fail, probes.CodeQuotaReached, false},
	}
	if diff := cmp.Diff(want, got); diff != "" || list.Verdict != probes.Fail || len(list.Problems) != 0 {
		t.Errorf("verdict %s, problems %v\n%s", list.Verdict, list.Problems, diff)
	}
}

// What cannot be read is not known, and said.
func TestListTURNWithoutSources(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		fault   string
		seed    bool
		noFile  bool
		servers int
		want    probes.Verdict
		problem string
	}{
		{name: "controller is down", fault: "controller-down", servers: 2, want: probes.Unknown, problem: "connection refused"},
		{name: "controller with a page", fault: "controller-html", servers: 2, want: probes.Unknown, problem: "a page of HTML"},
		{name: "controller that offers little", seed: true, servers: 2, want: probes.Pass, problem: "does not offer GET /config"},
		{name: "no file", noFile: true, servers: 2, want: probes.Unknown, problem: "no such file"},
		{name: "no file and no controller", noFile: true, fault: "controller-down", want: probes.Unknown, problem: "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := startLab(t, lab.Options{NoAgents: true, SeedOnly: tt.seed})
			m := meshOf(t, l)
			if tt.fault != "" {
				inject(t, l, tt.fault, "")
			}
			if tt.noFile {
				m.EnvFile += ".gone"
			}
			list := m.ListTURN(t.Context())
			if len(list.Servers) != tt.servers || list.Verdict != tt.want || !strings.Contains(strings.Join(list.Problems, "\n"), tt.problem) {
				t.Errorf("got %+v", list)
			}
			for _, s := range list.Servers {
				if (s.InFile == nil) != tt.noFile || (s.InController == nil) != (tt.fault != "" || tt.seed) || (s.Links == nil) != (tt.fault != "") {
					t.Errorf("%+v: known is what was read", s)
				}
			}
		})
	}
}

func TestServerNames(t *testing.T) {
	path := t.TempDir() + "/mesh.env"
	writeFile(t, path, "TURN_SERVERS='turn:t1:3478?transport=udp,turns:t2,turn:[2001:db8::1]:3478'\n")
	if got := ServerNames(path); !slices.Equal(got, []string{"t1:3478", "t2", "[2001:db8::1]:3478"}) {
		t.Errorf("got %v", got)
	}
	writeFile(t, path, "TURN_SERVERS=http://x\n")
	if got := ServerNames(path); got != nil {
		t.Errorf("got %v", got)
	}
	if got := ServerNames(path + ".gone"); got != nil {
		t.Errorf("got %v", got)
	}
}
