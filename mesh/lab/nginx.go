package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	nginxReady    = 10 * time.Second // until it answers
	nginxUpstream = "signaling"
	// nginxCut is how long a reload leaves the sockets of old workers alone.
	nginxCut    = time.Second
	nginxReload = nginxCut + 20*time.Second // until the old workers are gone
)

// nginx is Debian's nginx as a child process, in front of the signaling
// servers: the first is the primary, the others are its backups.
type nginx struct {
	program string
	dir     string
	address string // host:port

	child *child
}

// NginxPath finds nginx, which Debian keeps where only root looks.
func NginxPath() (string, error) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		if path, other := exec.LookPath("/usr/sbin/nginx"); other == nil {
			return path, nil
		}
	}
	return path, err
}

// Balancer is where the lab's nginx is and how it is changed.
type Balancer struct {
	URL, HTTPURL   string // "" without
	File, Upstream string // what has the list of signaling servers
	Test, Reload   []string
}

func (l *Lab) startNginx() error {
	if l.options.LB != nameNginx {
		return nil
	}
	program, err := NginxPath()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(l.Dir, "nginx-")
	if err != nil {
		return err
	}
	l.onClose(func() error { return os.RemoveAll(dir) })
	l.nginx = &nginx{program: program, dir: dir}
	l.onClose(l.nginx.close)
	if err := onFreePort(l.ctx, func(address string) error { return l.nginx.start(l.ctx, address, l.Signaling) }); err != nil {
		return fmt.Errorf("nginx: %w", err)
	}
	l.Balancer = Balancer{
		URL: "ws://" + l.nginx.address, HTTPURL: "http://" + l.nginx.address, File: l.nginx.file("nginx.conf"), Upstream: nginxUpstream,
		Test: l.nginx.command("-t"), Reload: l.nginx.command("-s", "reload"),
	}
	l.fleet.options.SignalingURLs = []string{l.Balancer.URL}
	l.SignalingURL, l.SignalingHTTPURL = l.Balancer.URL, l.Balancer.HTTPURL
	return nil
}

func (n *nginx) file(name string) string { return filepath.Join(n.dir, name) }

func (n *nginx) command(args ...string) []string {
	return append([]string{n.program, "-p", n.dir, "-c", n.file("nginx.conf"), "-e", n.file("error.log")}, args...)
}

// start runs it on an address. Its workers outlive a master that is killed,
// so that gets the signal by which it ends them.
func (n *nginx) start(ctx context.Context, address string, servers []SignalingServer) error {
	n.address = address
	if err := os.WriteFile(n.file("nginx.conf"), []byte(n.configuration(servers)), 0o600); err != nil {
		return err
	}
	ready := func() error { _, err := fetch(ctx, "http://"+n.address+"/health"); return err }
	var err error
	n.child, err = startReady(ctx, syscall.SIGTERM, n.file("error.log"), nginxReady, ready, n.command()...)
	return err
}

// configuration has the log that says when workers begin and end. /health is
// answered by nginx itself, as in the field: it says nothing of the servers.
func (n *nginx) configuration(servers []SignalingServer) string {
	var upstream strings.Builder
	for i, s := range servers {
		backup := map[bool]string{true: " backup"}[i > 0]
		fmt.Fprintf(&upstream, "    server %s%s max_fails=1 fail_timeout=2s;\n", strings.TrimPrefix(s.HTTPURL, "http://"), backup)
	}
	user := ""
	if os.Geteuid() == 0 { // its workers would be nobody, who may not read the directory
		user = "user root root;\n"
	}
	return fmt.Sprintf(`%sdaemon off;
pid %s;
error_log %s notice;
worker_processes 1;
worker_shutdown_timeout %d;
events { worker_connections 2048; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream %s {
%s  }
  server {
    listen %s backlog=1024;
    location = /health { default_type application/json; return 200 '{"status":"ok"}'; }
    location / {
      proxy_pass http://%s;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_set_header Host $http_host;
      proxy_connect_timeout 2s;
      proxy_read_timeout 60s;
    }
  }
}
`, user, n.file("nginx.pid"), n.file("error.log"), int(nginxCut.Seconds()), nginxUpstream, upstream.String(), n.address, nginxUpstream)
}

// reload gives the master HUP and waits until the workers from before are
// gone, and with them all WebSockets.
func (n *nginx) reload(ctx context.Context) error {
	before, err := n.ended()
	if err != nil {
		return err
	}
	if err := n.child.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("nginx: %w", err)
	}
	return n.child.await(ctx, nginxReload, func() error {
		now, err := n.ended()
		if err == nil && now == before {
			err = errors.New("nginx: the old worker has not ended")
		}
		return err
	})
}

// ended counts the workers that have ended, by the log.
func (n *nginx) ended() (int, error) {
	log, err := os.ReadFile(n.file("error.log"))
	return strings.Count(string(log), " exited with code ") + strings.Count(string(log), " exited on signal "), err
}

// close lets the master end its workers.
func (n *nginx) close() error { return n.child.close() }

func nginxReloads() faultKind {
	summary := "nginx has reloaded its configuration and cut all WebSockets, " + strconv.Itoa(int(nginxCut.Seconds())) +
		" s later; strikes once (only with --lb nginx)"
	return faultKind{
		FaultInfo{"nginx-reload", summary, nameNginx},
		func(ctx context.Context, l *Lab, _ string) error { return l.nginx.reload(ctx) },
		func(context.Context, *Lab, string) error { return nil },
	}
}
