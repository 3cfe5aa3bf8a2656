package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// browserLog collects what the page and our agents say.
type browserLog struct {
	mu      sync.Mutex
	reports []string
	got     map[string]map[string]bool // by agent: what the browser answered to
	hellos  map[string]bool            // agents the browser spoke to by itself
}

func (b *browserLog) report(w http.ResponseWriter, r *http.Request) {
	var said struct{ What, Detail string }
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&said) == nil {
		b.mu.Lock()
		b.reports = append(b.reports, said.What+" "+said.Detail)
		b.mu.Unlock()
	}
}

func (b *browserLog) message(agent string, m wire.Message) {
	var payload struct {
		AnswerTo string `json:"answer_to"`
		Got      struct{ Text string }
		Greeting string
	}
	if json.Unmarshal(m.Payload, &payload) != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if payload.Greeting != "" {
		b.hellos[agent] = true
	}
	if payload.AnswerTo != "" && payload.Got.Text == "from "+agent {
		b.got[agent][payload.AnswerTo] = true
	}
}

func (b *browserLog) greeted(agent string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.hellos[agent] {
		return fmt.Errorf("the browser has not greeted %s; it says %q", agent, b.reports)
	}
	return nil
}

func (b *browserLog) answered(agent, id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.got[agent][id] {
		return fmt.Errorf("no answer to %s; the browser says %q", id, b.reports)
	}
	return nil
}

// TestChromium lets a page in a real browser, which knows the wire protocol
// and nothing of us, exchange signed messages with our agents. One of them
// offers to the browser, the other one is offered to.
func TestChromium(t *testing.T) {
	path := need(t, "chromium")
	l := startLab(t, Options{NoAgents: true})
	log := &browserLog{got: map[string]map[string]bool{}, hellos: map[string]bool{}}
	agents := []string{"agent-1", "zebra"} // the browser's id lies between
	started := map[string]*mesh.Agent{}
	for _, id := range agents {
		log.got[id] = map[string]bool{}
		a, err := mesh.StartAgent(t.Context(), mesh.AgentOptions{
			ID: id, SignalingURLs: []string{l.SignalingURL}, Loopback: true, Timing: mesh.DefaultTiming(),
			OnMessage: func(from string, m wire.Message, _ time.Time) {
				if from == "browser" {
					log.message(id, m)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Close() })
		started[id] = a
	}
	browse(t, path, l.SignalingURL, log)
	for id, a := range started {
		eventually(t, "the browser reaches "+id, func() error { return log.greeted(id) })
		for range 20 {
			m, err := a.Send("browser", map[string]any{"text": "from " + id, "id": "signed with the envelope"})
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "an answer", func() error { return log.answered(id, m.ID) })
		}
		for _, link := range a.Links() {
			t.Logf("%s is %s by %s", link.ID, link.State, link.Path)
		}
	}
}

// browse opens the page and ends the browser with the test.
func browse(t *testing.T, chromium, signaling string, log *browserLog) {
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir("testdata")))
	mux.HandleFunc("POST /report", log.report)
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	page := site.URL + "/agent.html?" + url.Values{"id": {"browser"}, "signaling": {signaling}}.Encode()
	profile, err := os.MkdirTemp("", "meshctl-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(profile) })
	cmd := exec.Command(chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--allow-loopback-in-peer-connection", "--disable-features=WebRtcHideLocalIpsWithMdns",
		"--user-data-dir="+profile, page)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Env = append(os.Environ(), "HOME="+profile)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its whole process group
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("chromium says:\n%s", output.String())
		}
	})
}
