package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
)

// coturn NAME FLAGS... runs Debian's turnserver until the script ends and sets
// NAME to its HOST:PORT.
func cmdCoturn(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) > 0 && !neg, "coturn NAME FLAGS...")
	if _, err := exec.LookPath("turnserver"); err != nil {
		if os.Getenv("CI") != "" {
			ts.Fatalf("coturn is not installed: %v", err)
		}
		of(ts).t.Skip("coturn is not installed")
	}
	for range 3 { // another process can take the free port first
		if address, ok := startCoturn(ts, args[0], args[1:]); ok {
			ts.Setenv(args[0], address)
			return
		}
	}
	ts.Fatalf("coturn does not start")
}

func startCoturn(ts *testscript.TestScript, name string, flags []string) (address string, ok bool) {
	free, err := net.ListenPacket("udp4", "127.0.0.1:0")
	ts.Check(err)
	address = free.LocalAddr().String()
	ts.Check(free.Close())
	target, err := wire.ParseServerURI("turn:" + address)
	ts.Check(err)
	file := func(suffix string) string { return filepath.Join(ts.MkAbs("."), name+"."+suffix) }
	args := append([]string{
		"turnserver", "-n", "--no-cli", "--no-rfc5780", "--no-tls", "--no-dtls", "-L", "127.0.0.1", "-E", "127.0.0.1",
		"-p", strconv.Itoa(target.Port), "-r", "mesh.test", "--userdb", file("db"), "--pidfile", file("pid"),
		"--log-file", file("log"), "--simple-log", "--no-stdout-log", "--allow-loopback-peers",
	}, flags...)
	p, err := startProcess(os.Environ(), ts.MkAbs("."), args...)
	ts.Check(err)
	ts.Defer(func() { _ = p.cmd.Process.Kill(); <-p.done })
	up := poll(func() bool {
		return p.exited() || probes.STUN{Target: target, Timeout: time.Second}.Run(of(ts).t.Context()).Verdict == probes.Pass
	})
	return address, up && !p.exited()
}

// formats CODE COMMAND... runs a command in every output format. Each must
// end with the code and be well-formed.
func cmdFormats(ts *testscript.TestScript, neg bool, args []string) {
	want := wantedCode(ts, args)
	usage(ts, !neg, "formats without !")
	readers := map[string]func(string) error{
		"text": func(text string) error { return nonEmpty(text) }, "json": readLines, "jsonl": readLines, "junit": readXML, "prom": readProm,
	}
	for _, format := range outputs {
		if got := of(ts).run(ts, append(args[1:len(args):len(args)], "--output", format)); got != want {
			ts.Fatalf("--output %s: exit code %d, want %d", format, got, want)
		}
		if err := readers[format](ts.ReadFile("stdout")); err != nil {
			ts.Fatalf("--output %s: %v", format, err)
		}
	}
}

func nonEmpty(text string) error {
	if text == "" {
		return errors.New("nothing")
	}
	return nil
}

func readLines(text string) error {
	for line := range strings.Lines(text) {
		if !json.Valid([]byte(line)) {
			return errors.New("not JSON: " + line)
		}
	}
	return nonEmpty(text)
}

func readXML(text string) error {
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := decoder.Token(); err != nil {
			if errors.Is(err, io.EOF) {
				return nonEmpty(text)
			}
			return err
		}
	}
}

func readProm(text string) error {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err == nil && families["meshctl_exit_code"] == nil {
		err = errors.New("no meshctl_exit_code")
	}
	return err
}

// peer NAME runs `meshctl probe peer` until the script ends and sets NAME to
// its HOST:PORT.
func cmdPeer(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 1 && !neg, "peer NAME")
	p, err := startProcess(of(ts).environ(ts), ts.MkAbs("."), "meshctl", "probe", "peer", "--listen", "127.0.0.1:0", "--output", "json")
	ts.Check(err)
	ts.Defer(func() {
		if code := p.interrupt(); code != 0 {
			of(ts).t.Errorf("probe peer ended with exit code %d: %s", code, p.stderr.String())
		}
	})
	var ready struct{ Address string }
	if !poll(func() bool { return p.exited() || json.Unmarshal([]byte(p.stdout.String()), &ready) == nil }) || p.exited() {
		ts.Fatalf("no peer: %s", p.stderr.String())
	}
	ts.Setenv(args[0], ready.Address)
}

// A certificate that is not trusted expires too: its gauge is there.
func TestProbeTLSGauge(t *testing.T) {
	for key, value := range testEnv(t.TempDir()) {
		t.Setenv(key, value)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	address := server.Listener.Addr().String()
	var out, errOut bytes.Buffer
	if code := run([]string{"probe", "tls", address, "--output", "prom"}, nil, &out, &errOut); code != exitUnhealthy {
		t.Fatalf("exit code %d: %s", code, errOut.String())
	}
	labels := fmt.Sprintf(`{kind="tls",target="tls:%s",address="%s"`, address, address)
	notAfter := strconv.FormatFloat(float64(server.Certificate().NotAfter.Unix()), 'g', -1, 64)
	for _, want := range []string{
		"meshctl_cert_not_after_timestamp_seconds" + labels + "} " + notAfter + "\n",
		"meshctl_probe_success" + labels + "} 0\n", "meshctl_exit_code{command=\"probe tls\"} 3\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	if err := readProm(out.String()); err != nil {
		t.Error(err)
	}
}
