package control

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// largeStats is a /stats of n connections, about 300 bytes each.
func largeStats(n int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"total_agents":%d,"server":"signaling-1","connections":[`, n/10)
	states := []string{wire.StateConnected, wire.StateConnected, wire.StateConnected, wire.StateFailed}
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":"link-%06d","local":"agent-%05d","peer":"agent-%05d","state":"%s","path":"relay","turn_server":"turn:turn-%d.example.com:3478?transport=udp",`+
			`"rtt_ms":%d.25,"rtt_age_ms":800,"loss_tx":0.01,"bytes_sent":%d,"bytes_received":1048576,"created_at":"2026-11-30T10:00:00Z","key_epoch":3}`,
			i, i%9973, i%9967, states[i%len(states)], i%3, i%200, i)
	}
	b.WriteString("]}")
	return b.Bytes()
}

// Scan sees what Stats keeps.
func TestScanIsStats(t *testing.T) {
	for name, body := range map[string][]byte{"full": []byte(fullStats), "many": largeStats(1000)} {
		t.Run(name, func(t *testing.T) {
			c, _ := start(t, http.StatusOK, string(body))
			want, err := c.Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var links []wire.Link
			got, err := c.Scan(t.Context(), func(l wire.Link) {
				if l.TURNServer != nil { // it is used again for the next link
					l.TURNServer = pointer(*l.TURNServer)
				}
				links = append(links, wire.Link{ID: l.ID, State: l.State, TURNServer: l.TURNServer})
			})
			if err != nil {
				t.Fatal(err)
			}
			var kept []wire.Link
			for _, l := range want.Connections {
				kept = append(kept, wire.Link{ID: l.ID, State: l.State, TURNServer: l.TURNServer})
			}
			if diff := cmp.Diff(kept, links); diff != "" || got.TotalAgents != want.TotalAgents || got.Connections != nil {
				t.Errorf("%+v: %s", got, diff)
			}
		})
	}
}

// A mesh too large to be read says so; it is not half read.
func TestTooLargeStats(t *testing.T) {
	states := `{"total_agents":9,"connections":[` + strings.TrimSuffix(strings.Repeat(`{"state":"connected"},`, 1_000_000), ",") + "]}"
	for _, tt := range []struct {
		name string
		send func(w http.ResponseWriter)
		want string
	}{
		{"1 000 000 connections", func(w http.ResponseWriter) { _, _ = w.Write([]byte(states)) }, "connections has more than 200000 entries"},
		{"300 MB", func(w http.ResponseWriter) {
			piece := bytes.Repeat([]byte(" "), 1<<20)
			for range 300 {
				if _, err := w.Write(piece); err != nil {
					return // the client has read enough
				}
			}
		}, "larger than the limit of 64 MiB"},
		{"300 MB, announced", func(w http.ResponseWriter) { w.Header().Set("Content-Length", "314572800") }, "larger than the limit of 64 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { tt.send(w) })
			stats, err := c.Scan(t.Context(), func(wire.Link) {})
			var reply *ReplyError
			if !errors.As(err, &reply) || !reply.TooLarge || !strings.Contains(err.Error(), tt.want) || stats.TotalAgents != 0 {
				t.Errorf("got %+v, error %v, want %q", stats, err, tt.want)
			}
		})
	}
}

// TestScanOnce reads /stats as a command does, for a process of its own.
func TestScanOnce(t *testing.T) {
	url := os.Getenv("SCAN_TEST_URL")
	if url == "" {
		t.Skip("only as a child process")
	}
	c, err := New(Options{URL: url, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	links := 0
	if _, err := c.Scan(t.Context(), func(wire.Link) { links++ }); err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile("/proc/self/status") // Maxrss of a child counts the memory of its parent too
	if err != nil {
		t.Skip(err)
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	fmt.Println("links", links, "peak", strings.Fields(peak)[0])
}

// scanProcess gives the most memory that a process took to read /stats.
func scanProcess(b *testing.B, url string) (kilobytes int64) {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestScanOnce$")
	cmd.Env = append(os.Environ(), "SCAN_TEST_URL="+url)
	out, err := cmd.CombinedOutput()
	var links int
	if _, scanErr := fmt.Sscanf(string(out), "links %d peak %d", &links, &kilobytes); err != nil || scanErr != nil {
		b.Fatalf("%v, %v: %s", err, scanErr, out)
	}
	return kilobytes
}

// BenchmarkScanStats reads 100 000 connections over HTTP, beside what a shell
// script does with them: curl and jq, three times.
func BenchmarkScanStats(b *testing.B) {
	body := largeStats(100_000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/small/stats" {
			_, _ = w.Write(largeStats(1))
			return
		}
		_, _ = w.Write(body) // of no announced length, which takes more memory
	}))
	defer server.Close()
	c, err := New(Options{URL: server.URL, Timeout: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	best := time.Hour
	for b.Loop() {
		started := time.Now()
		if _, err := c.Scan(b.Context(), func(wire.Link) {}); err != nil {
			b.Fatal(err)
		}
		best = min(best, time.Since(started))
	}
	script := fmt.Sprintf(`for q in .total_agents '.connections|map(select(.state=="connected"))|length' '.connections|map(select(.state=="failed"))|length'; do curl -s %s/stats | jq "$q"; done`, server.URL)
	started := time.Now()
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil || strings.Count(string(out), "\n") != 3 {
		b.Fatalf("%v: %s", err, out)
	}
	b.ReportMetric(float64(best)/float64(time.Since(started)), "x/jq-time")
	b.ReportMetric(1024*float64(scanProcess(b, server.URL)-scanProcess(b, server.URL+"/small"))/float64(len(body)), "x/body-memory")
	b.ReportMetric(float64(best.Milliseconds()), "ms/scan")
}

func BenchmarkParseStats(b *testing.B) {
	body := largeStats(100_000)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := scanStats(body, func() *linkReader { return &linkReader{} }, func(wire.Link) {}); err != nil {
			b.Fatal(err)
		}
	}
}
