package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// secretCommands are command lines that must not show a secret, whatever the
// servers answer: one line a command. HTTP, WS and TURN stand for servers
// that give back what they were sent.
var secretCommands = []string{
	"probe all",
	"probe turn",
	"probe turn turn:TURN --verbose",
	"probe stun stun:TURN --output jsonl",
	"probe tls https://HTTP",
	"probe signaling",
	"probe signaling WS/?token=x",
	"probe controller --output json --verbose",
	"probe witness --verbose",
	"probe witness --output junit",
	"probe prometheus --output prom",
	"probe witness https://user:CANARY-url@HTTP",
	"explain CANARY-nothing",
	"turn list --output json",
	"turn list --verbose",
	"turn recover --failed TURN --replacement turn:127.0.0.1:2 --dry-run",
	"turn credential decode",
	"validate --scenario A --phase immediate --no-wait --output junit",
	"witness query",
	"witness query --output json",
	"witness log --event x --meta a=b",
	"witness flush",
	"runs list --output json",
	"config show",
	"config show --output json",
	"config check",
	"status",
	"status --output json",
	"status --output junit",
	"scenarios",
	"mesh peers",
	"turn drain TURN --dry-run",
	"turn restore TURN --dry-run",
	"runs report",
	"config check --online --output json",
	"turn credential mint --user u",
	"turn credential mint --output json",
	"turn credential decode 1735689600:CANARY-nothing --output json",
	"incident declare --id I-1 --summary s --yes",
	"incident declare --id S-1 --summary s --security --yes --output json",
	"runs report CANARY-nothing",
}

// reflecting answers as a service that shows its clients' secrets: in an error, in
// JSON that looks right, or in a page.
func reflecting(mode string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		shown := r.Header.Get("Authorization")
		switch mode {
		case "refuses":
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = fmt.Fprintf(w, `{"error":"bad key %s"}`, shown)
		case "agrees":
			_, _ = fmt.Fprintf(w, `{"status":"success","echo":%q,"total_agents":1,"connections":[],"agents":[],"results":[{"event":"x","metadata":{"key":%q}}],`+
				`"data":{"resultType":"vector","result":[{"metric":{"instance":%q},"value":[1,"0"]}]}}`, shown, shown, shown)
		default:
			_, _ = io.WriteString(w, "<html>"+shown)
		}
	}
}

// canaryConfig names files and variables that hold canaries.
const canaryConfig = `mesh: canary
state_dir: DIR/state
signaling:
  - {name: s1, url: "ws://HTTP"}
  - {name: s2, url: "ws://127.0.0.1:1"}
controller: {url: "http://HTTP", key_env: ADMIN_API_KEY}
witness: {url: "http://HTTP", key_file: DIR/witness.key}
prometheus: {url: "http://HTTP", key_file: DIR/prometheus.key}
turn:
  env_file: DIR/mesh.env
  rest: {secrets: [{name: main, file: DIR/rest.key}]}
notify:
  routes:
    - {type: slack, url_file: DIR/slack.url}
    - {type: pagerduty, key_file: DIR/pager.key, url: "http://HTTP"}
  security:
    - {type: webhook, url_file: DIR/garbled.url}
`

func TestNoCommandShowsASecret(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"witness.key": "CANARY-witness", "prometheus.key": "CANARY-prometheus", "rest.key": "CANARY-rest",
		"slack.url": "http://127.0.0.1:1/CANARY-hook", "pager.key": "CANARY-pager", "garbled.url": "https://%zzCANARY-garbled",
		"mesh.env": "TURN_SERVERS=turn:127.0.0.1:1\nSTUN_SERVERS=stun:127.0.0.1:1\nTURN_USERNAME=u\nTURN_PASSWORD=CANARY-env-file\nIF_WITNESS_API_KEY=CANARY-env-key\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for key, value := range testEnv(dir) {
		t.Setenv(key, value)
	}
	t.Setenv("ADMIN_API_KEY", "CANARY-admin")
	t.Setenv("MESHCTL_TURN_PASSWORD", "CANARY-turn")
	for _, mode := range []string{"refuses", "agrees", "babbles"} {
		server := httptest.NewServer(reflecting(mode))
		address := strings.TrimPrefix(server.URL, "http://")
		config := filepath.Join(dir, "mesh.yaml")
		text := strings.NewReplacer("DIR", dir, "HTTP", address).Replace(canaryConfig)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("MESHCTL_CONFIG", config)
		for _, line := range secretCommands {
			t.Run(mode+"/"+line, func(t *testing.T) {
				args := strings.Fields(strings.NewReplacer("HTTP", address, "WS", "ws://"+address, "TURN", "127.0.0.1:1").Replace(line))
				var out, errOut bytes.Buffer
				code := run(args, strings.NewReader(""), &out, &errOut)
				if code == exitInternal {
					t.Errorf("exit code 1: %s", errOut.String())
				}
				shown := strings.ReplaceAll(out.String()+errOut.String(), "CANARY-nothing", "")
				if strings.Contains(shown, "CANARY") {
					t.Errorf("exit code %d, a secret is shown:\n%s", code, shown)
				}
			})
		}
		server.Close()
	}
	assertClean(t, filepath.Join(dir, "state"))
}

// assertClean looks into every file that was written.
func assertClean(t *testing.T, dir string) {
	t.Helper()
	read := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		read++
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte("CANARY")) {
			t.Errorf("a secret is in %s", path)
		}
		return err
	})
	if err != nil || read == 0 {
		t.Errorf("%d files in %s: %v", read, dir, err)
	}
}
