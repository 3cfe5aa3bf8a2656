package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	scrapeEvery     = time.Second
	prometheusReady = 30 * time.Second // until it answers
)

// prometheus is Debian's prometheus as a child process, which scrapes the
// lab's agents and signaling servers.
type prometheus struct {
	dir     string
	address string // host:port

	child *child // nil while it is killed
}

func (l *Lab) startPrometheus() error {
	if l.options.Metrics != "prometheus" {
		return nil
	}
	dir, err := os.MkdirTemp(l.Dir, "prometheus-")
	if err != nil {
		return err
	}
	l.onClose(func() error { return os.RemoveAll(dir) })
	l.prometheus = &prometheus{dir: dir}
	l.onClose(l.prometheus.close)
	if err := os.WriteFile(l.prometheus.file("prometheus.yml"), []byte(l.scrapes()), 0o600); err != nil {
		return err
	}
	if err := l.prometheus.start(l.ctx); err != nil {
		return fmt.Errorf("prometheus: %w", err)
	}
	l.PrometheusURL = "http://" + l.prometheus.address
	return nil
}

// scrapes is the configuration: what is read, and how often.
func (l *Lab) scrapes() string {
	var b strings.Builder
	fmt.Fprintf(&b, "global: {scrape_interval: %s, scrape_timeout: %s}\nscrape_configs:\n", scrapeEvery, scrapeEvery)
	target := func(job, url string) {
		fmt.Fprintf(&b, "- job_name: %s\n  static_configs: [{targets: [%q]}]\n", job, strings.TrimPrefix(url, "http://"))
	}
	target("agents", l.ControlURL)
	for _, s := range l.Signaling {
		target(s.Name, s.HTTPURL)
	}
	return b.String()
}

func (p *prometheus) file(name string) string { return filepath.Join(p.dir, name) }

func (p *prometheus) start(ctx context.Context) error {
	return onFreePort(ctx, func(address string) error {
		p.address = address
		return p.up(ctx)
	})
}

func (p *prometheus) up(ctx context.Context) error {
	if p.child != nil {
		return nil
	}
	var err error
	p.child, err = startReady(ctx, syscall.SIGKILL, p.file("log"), prometheusReady, func() error { return p.ready(ctx) },
		"prometheus", "--config.file="+p.file("prometheus.yml"), "--storage.tsdb.path="+p.file("data"),
		"--web.listen-address="+p.address, "--log.level=warn")
	return err
}

// ready wants every target scraped once: before, a query has no answer.
func (p *prometheus) ready(ctx context.Context) error {
	reply, err := fetch(ctx, "http://"+p.address+"/api/v1/query?query=up")
	if err != nil {
		return err
	}
	var read struct {
		Data struct{ Result []any }
	}
	if err := json.Unmarshal(reply, &read); err != nil {
		return fmt.Errorf("prometheus: %w", err)
	}
	if n := len(read.Data.Result); n < 1+signalingServers {
		return fmt.Errorf("prometheus: %d of %d targets scraped", n, 1+signalingServers)
	}
	return nil
}

func (p *prometheus) close() error {
	c := p.child
	p.child = nil
	return c.close()
}
