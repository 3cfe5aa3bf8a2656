package control

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/wire"
)

const fullStats = `{"total_agents":3,"server":"signaling-1","local_agents":["a","b"],"more":{"x":1},"connections":[
 {"state":"connected","id":"l1","local":"a","peer":"b","path":"relay","turn_server":"turn:turn-1:3478","rtt_ms":12.5,
  "rtt_age_ms":300,"jitter_ms":0,"loss_tx":0.25,"loss_rx":1,"requests_sent":10,"responses_received":9,"bytes_sent":1e3,
  "bytes_received":9007199254740992,"buffered_amount":0,"created_at":"2026-01-02T03:04:05.5Z","last_rx_at":"2026-01-02T04:04:05+01:00",
  "key_epoch":2,"local_fingerprint":"AA:BB","remote_fingerprint":"CC:DD","other":[1]},
 {"state":"failed","rtt_ms":null,"turn_server":null}]}`

func pointer[T any](v T) *T { return &v }

func TestStats(t *testing.T) {
	c, _ := start(t, http.StatusOK, fullStats)
	got, err := c.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if time.Since(got.Date) > time.Hour {
		t.Errorf("got date %v", got.Date)
	}
	got.Date = time.Time{}
	created, received := time.Date(2026, 1, 2, 3, 4, 5, 5e8, time.UTC), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := Stats{TotalAgents: 3, Server: "signaling-1", LocalAgents: []string{"a", "b"}, Connections: []wire.Link{{
		ID: "l1", Local: "a", Peer: "b", State: "connected", Path: "relay", TURNServer: pointer("turn:turn-1:3478"),
		RTTMillis: pointer(12.5), RTTAgeMillis: pointer(300.0), JitterMillis: pointer(0.0), LossTx: pointer(0.25), LossRx: pointer(1.0),
		RequestsSent: pointer(uint64(10)), ResponsesReceived: pointer(uint64(9)), BytesSent: pointer(uint64(1000)),
		BytesReceived: pointer(uint64(1 << 53)), BufferedAmount: pointer(uint64(0)), CreatedAt: &created, LastRxAt: &received,
		KeyEpoch: pointer(int64(2)), LocalFingerprint: "AA:BB", RemoteFingerprint: "CC:DD",
	}, {State: "failed"}}}
	if diff := cmp.Diff(want, got, cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Error(diff)
	}
}

func TestStatsOfTheSmallestKind(t *testing.T) {
	got, err := parseStats([]byte(` {"total_agents":0,"connections":[]} `))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Stats{}, got); diff != "" {
		t.Error(diff)
	}
}

// Each of these must be an error and never a count of zero.
func TestStatsRefuses(t *testing.T) {
	link := func(field string) string {
		return `{"total_agents":1,"connections":[{"state":"new"},{"state":"new"},{"state":"new"},{"state":"new",` + field + `}]}`
	}
	for _, tt := range []struct{ name, body, want string }{
		{"empty", ``, "the body is empty"},
		{"html", "<html><body>Sign in</body></html>", "a page of HTML"},
		{"truncated", fullStats[:200], "not JSON, or cut short"},
		{"error", `{"error":"x"}`, "total_agents is missing"},
		{"array", `[]`, "a JSON array instead of an object"},
		{"number as text", `{"total_agents":"3","connections":[]}`, "total_agents is a JSON string, not a number"},
		{"null agents", `{"total_agents":null,"connections":[]}`, "total_agents is a JSON null, not a number"},
		{"negative agents", `{"total_agents":-1,"connections":[]}`, "total_agents is -1, not an integer"},
		{"half an agent", `{"total_agents":1.5,"connections":[]}`, "total_agents is 1.5, not an integer"},
		{"endless agents", `{"total_agents":1e999,"connections":[]}`, "total_agents is 1e999, not an integer"},
		{"many agents", `{"total_agents":18446744073709551616,"connections":[]}`, "not an integer from 0 to"},
		{"no connections", `{"total_agents":3}`, "connections is missing"},
		{"null connections", `{"total_agents":3,"connections":null}`, "connections is a JSON null, not an array"},
		{"connections as a count", `{"total_agents":3,"connections":4}`, "connections is a JSON number, not an array"},
		{"connections as an object", `{"total_agents":3,"connections":{}}`, "connections is a JSON object, not an array"},
		{"connection is text", `{"total_agents":3,"connections":["connected"]}`, "connections[0] is a JSON string, not an object"},
		{"no state", `{"total_agents":3,"connections":[{}]}`, "connections[0].state is missing"},
		{"null state", `{"total_agents":3,"connections":[{"state":null}]}`, "connections[0].state is a JSON null"},
		{"unknown state", `{"total_agents":3,"connections":[{"state":"established"}]}`, `connections[0].state is "established"`},
		{"state in capitals", `{"total_agents":3,"connections":[{"state":"Connected"}]}`, `connections[0].state is "Connected"`},
		{"server", `{"total_agents":3,"connections":[],"server":1}`, "server is a JSON number, not a string"},
		{"local agents", `{"total_agents":3,"connections":[],"local_agents":3}`, "local_agents is a JSON number, not an array"},
		{"local agent", `{"total_agents":3,"connections":[],"local_agents":["a",{}]}`, "local_agents[1] is a JSON object, not a string"},
		{"id", link(`"id":1`), "connections[3].id is a JSON number, not a string"},
		{"long id", link(`"id":"` + strings.Repeat("x", 2000) + `"`), "connections[3].id is longer than 1024 bytes"},
		{"turn_server", link(`"turn_server":false`), "connections[3].turn_server is a JSON boolean, not a string"},
		{"rtt_ms", link(`"rtt_ms":"12"`), "connections[3].rtt_ms is a JSON string, not a number"},
		{"negative rtt_ms", link(`"rtt_ms":-1`), "connections[3].rtt_ms is -1, which is out of range"},
		{"endless jitter_ms", link(`"jitter_ms":1e999`), "connections[3].jitter_ms is 1e999, which is out of range"},
		{"loss in per cent", link(`"loss_tx":5`), "connections[3].loss_tx is 5, which is out of range"},
		{"bytes_sent", link(`"bytes_sent":-5`), "connections[3].bytes_sent is -5, not an integer"},
		{"a counter that wrapped", link(`"bytes_sent":18446744073709551615`), "connections[3].bytes_sent is 18446744073709551615, not an integer"},
		{"requests_sent", link(`"requests_sent":[1]`), "connections[3].requests_sent is a JSON array, not a number"},
		{"created_at", link(`"created_at":1700000000`), "connections[3].created_at is a JSON number, not a string"},
		{"last_rx_at", link(`"last_rx_at":"yesterday"`), "connections[3].last_rx_at is not an RFC 3339 time"},
		{"key_epoch", link(`"key_epoch":"2"`), "connections[3].key_epoch is a JSON string, not a number"},
		{"too many", `{"total_agents":3,"connections":[],"local_agents":["a"` + strings.Repeat(`,"a"`, maxEntries) + `]}`, "local_agents has more than 200000 entries"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, url := start(t, http.StatusOK, tt.body)
			got, err := c.Stats(t.Context())
			e := as[*ReplyError](t, err)
			if e.Op != "read stats" || e.URL != url+"/stats" || !strings.Contains(e.Reason, tt.want) {
				t.Errorf("got %v, want %q", e, tt.want)
			}
			if diff := cmp.Diff(Stats{}, got); diff != "" {
				t.Errorf("a part of the reply was used: %s", diff)
			}
		})
	}
}

// Every optional field is checked: a wrong type of none of them goes through.
func TestEveryLinkFieldIsRead(t *testing.T) {
	for _, name := range []string{
		"id", "local", "peer", "path", "turn_server", "rtt_ms", "rtt_age_ms", "jitter_ms", "loss_tx", "loss_rx",
		"requests_sent", "responses_received", "bytes_sent", "bytes_received", "buffered_amount", "created_at",
		"last_rx_at", "key_epoch", "local_fingerprint", "remote_fingerprint",
	} {
		t.Run(name, func(t *testing.T) {
			body := fmt.Sprintf(`{"total_agents":1,"connections":[{"state":"new",%q:{}}]}`, name)
			_, err := parseStats([]byte(body))
			want := "connections[0]." + name + " is a JSON object, not a "
			if err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got error %v, want %q", err, want)
			}
		})
	}
}

func FuzzStats(f *testing.F) {
	f.Add([]byte(fullStats))
	f.Add([]byte(`{"total_agents":0,"connections":[]}`))
	f.Add([]byte(`{"total_agents":"3"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		stats, err := parseStats(body)
		if err != nil {
			if stats.Connections != nil || stats.TotalAgents != 0 {
				t.Fatalf("of %q: a part was used: %+v", body, stats)
			}
			return
		}
		for _, l := range stats.Connections {
			if !wire.KnownState(l.State) {
				t.Fatalf("of %q: state %q", body, l.State)
			}
		}
	})
}
