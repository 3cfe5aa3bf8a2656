package report_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The report opens from a file in a real browser, without an error on its
// console and without a request, whatever text is in the journal.
func TestReportInBrowser(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("chromium is not installed")
		}
		t.Skip("chromium is not installed")
	}
	dir := t.TempDir()
	page, netLog, picture := filepath.Join(dir, "report.html"), filepath.Join(dir, "net.json"), filepath.Join(dir, "report.png")
	if err := os.WriteFile(page, []byte(load(t, journal(t)).HTML()), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run", "--no-default-browser-check",
		"--user-data-dir="+filepath.Join(dir, "profile"), "--enable-logging=stderr", "--log-net-log="+netLog,
		"--window-size=1200,1600", "--screenshot="+picture, "file://"+page)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	cmd.WaitDelay = 5 * time.Second
	log, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("chromium: %v\n%s", err, log)
	}
	if strings.Contains(string(log), "CONSOLE") {
		t.Errorf("the console is not empty:\n%s", log)
	}
	if info, err := os.Stat(picture); err != nil || info.Size() < 10_000 {
		t.Errorf("no picture of the page: %v", err)
	}
	requests, err := os.ReadFile(netLog)
	if err != nil || !strings.Contains(string(requests), "constants") {
		t.Fatalf("no log of requests: %v", err)
	}
	for _, m := range regexp.MustCompile(`"url":"([a-z]+:[^"]*)"`).FindAllStringSubmatch(string(requests), -1) {
		if !browsersOwn.MatchString(m[1]) {
			t.Errorf("the page made a request: %s", m[1])
		}
	}
	if keep := os.Getenv("REPORT_PICTURE"); keep != "" {
		data, _ := os.ReadFile(picture)
		if err := os.WriteFile(keep, data, 0o600); err != nil {
			t.Error(err)
		}
	}
}

// browsersOwn are requests that chromium makes by itself, with an empty page too.
var browsersOwn = regexp.MustCompile(`^(file|data|chrome|chrome-extension|chrome-untrusted|devtools):|^https?://([a-z0-9-]+\.)*(google\.com|googleapis\.com|gvt1\.com|gstatic\.com)[/:]`)
