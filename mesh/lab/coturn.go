package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/infrafabric/meshctl/mesh/secret"
)

const (
	coturnReady = 10 * time.Second // until it answers
	coturnReply = 2 * time.Second  // of its command line
	relayPorts  = 1000             // for each server
)

// coturnRelay is Debian's turnserver as a child process.
type coturnRelay struct {
	dir       string
	addr      *net.UDPAddr
	admin     string // host:port of its command line
	adminKey  secret.Secret
	login     credentials
	firstPort int // of the relay range

	child *child    // nil while it is killed
	held  net.Conn  // keeps the port of a killed server
	using io.Closer // what a fault has taken from the server; nil = nothing
}

// newCoturnRelay starts a server that relays on the ports from firstPort on,
// and keeps its files in dir.
func newCoturnRelay(ctx context.Context, dir string, c credentials, firstPort int) (*coturnRelay, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	r := &coturnRelay{dir: dir, adminKey: newKey(), login: c, firstPort: firstPort}
	if err := r.choosePorts(); err != nil {
		return nil, err
	}
	if err := r.configure(""); err != nil {
		return nil, err
	}
	return r, r.revive(ctx)
}

// set breaks the server or makes it whole again.
func (r *coturnRelay) set(ctx context.Context, fault string, on bool) error {
	switch fault {
	case faultKilled:
		if on {
			return r.kill()
		}
		return r.revive(ctx)
	case faultSilent:
		return r.silence(ctx, on)
	case faultRefuses:
		return r.refuse(ctx, on)
	case faultDrains:
		return errors.New("coturn drains only from 4.6.3 on, and then ends: use --turn pion")
	case faultExpiry:
		return errors.New("coturn goes on with the allocations of credentials that have expired: use --turn pion")
	case faultRangeClosed:
		return errors.New("coturn needs a firewall for that, which a lab without privileges cannot have: use --turn pion")
	}
	if !on {
		return r.restart(ctx, "")
	}
	if err := r.restart(ctx, fault); err != nil {
		return errors.Join(err, r.restart(ctx, ""))
	}
	return nil
}

// restart gives the server another configuration, which costs it the
// allocations.
func (r *coturnRelay) restart(ctx context.Context, fault string) error {
	if err := r.kill(); err != nil {
		return err
	}
	if r.using != nil {
		_ = r.using.Close()
		r.using = nil
	}
	if err := r.configure(fault); err != nil {
		return err
	}
	if fault == faultPorts { // the whole range is one port, and that is ours
		taken, err := net.ListenUDP("udp4", &net.UDPAddr{IP: r.addr.IP, Port: r.firstPort})
		if err != nil {
			return err
		}
		r.using = taken
	}
	if err := r.revive(ctx); err != nil || fault != faultQuota {
		return err
	}
	var err error
	r.using, err = useUpQuota(ctx, r.address(), r.login)
	return err
}

// choosePorts asks the kernel for free ports; coturn cannot do that itself.
func (r *coturnRelay) choosePorts() error {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	r.addr = conn.LocalAddr().(*net.UDPAddr)
	listener, err := net.Listen("tcp4", loopback)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	r.admin = listener.Addr().String()
	return errors.Join(conn.Close(), listener.Close())
}

func (r *coturnRelay) file(name string) string { return filepath.Join(r.dir, name) }

// configure writes the configuration of a server that works, or has a fault.
// It holds the passwords: on the command line everybody could read them.
func (r *coturnRelay) configure(fault string) error {
	_, adminPort, _ := strings.Cut(r.admin, ":")
	password, lastPort := r.login.password, r.firstPort+relayPorts-1
	switch fault {
	case faultSecret:
		password = newKey()
	case faultPorts:
		lastPort = r.firstPort
	}
	lines := []string{
		"listening-ip=127.0.0.1", fmt.Sprintf("listening-port=%d", r.addr.Port), "relay-ip=127.0.0.1",
		fmt.Sprintf("min-port=%d", r.firstPort), fmt.Sprintf("max-port=%d", lastPort),
		"realm=" + realm, "lt-cred-mech", "user=" + r.login.username + ":" + password.Reveal(),
		"allow-loopback-peers", "no-multicast-peers", "no-rfc5780", "no-tcp", "no-tls", "no-dtls",
		"cli-ip=127.0.0.1", "cli-port=" + adminPort, "cli-password=" + r.adminKey.Reveal(),
		"userdb=" + r.file("turndb"), "pidfile=" + r.file("turnserver.pid"), "log-file=stdout",
	}
	switch fault {
	case faultQuota:
		lines = append(lines, "user-quota=1")
	case faultExternal:
		lines = append(lines, "external-ip="+wrongAddress+"/127.0.0.1")
	}
	return os.WriteFile(r.file("turnserver.conf"), []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

func (r *coturnRelay) address() string { return r.addr.String() }

func (r *coturnRelay) revive(ctx context.Context) error {
	if r.held != nil {
		_ = r.held.Close()
		r.held = nil
	}
	var err error
	r.child, err = startReady(ctx, syscall.SIGKILL, r.file("turnserver.log"), coturnReady, r.answers, "turnserver", "-c", r.file("turnserver.conf"))
	return err
}

func (r *coturnRelay) kill() error {
	if err := r.close(); err != nil {
		return err
	}
	var err error
	r.held, err = holdPort(r.addr)
	return err
}

// silence stops the process. A signal takes effect some time after it was
// sent, so the silence is waited for.
func (r *coturnRelay) silence(ctx context.Context, on bool) error {
	if !on {
		if err := r.child.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			return err
		}
		return r.child.await(ctx, coturnReady, r.answers)
	}
	if err := r.child.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	err := poll(ctx, childEnd, func() error {
		if bindingAnswered(r.address(), 100*time.Millisecond) == nil {
			return errors.New("turnserver answers, although it was stopped")
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, r.child.cmd.Process.Signal(syscall.SIGCONT))
	}
	return nil
}

// answers tells whether the server answers Binding.
func (r *coturnRelay) answers() error { return bindingAnswered(r.address(), 200*time.Millisecond) }

// refuse switches off relaying for new allocations in the running server,
// which then answers Allocate with 442. Its quotas would answer 486, but let
// the first allocation of a user pass.
func (r *coturnRelay) refuse(ctx context.Context, on bool) error {
	want := map[bool]string{true: "no-udp-relay: ON", false: "no-udp-relay: OFF"}[on]
	if err := r.command(ctx, "tc no-udp-relay", want); err != nil {
		return fmt.Errorf("turnserver command line: %w", err)
	}
	return nil
}

// command gives one command to coturn's command line and reads until the
// wanted text has come: not every reply ends with a prompt.
func (r *coturnRelay) command(ctx context.Context, command, want string) error {
	dialer := net.Dialer{Timeout: coturnReply}
	conn, err := dialer.DialContext(ctx, "tcp4", r.admin)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(coturnReply)); err != nil {
		return err
	}
	replies := bufio.NewReader(io.LimitReader(conn, 64<<10))
	if _, err := fmt.Fprintf(conn, "%s\r\n", r.adminKey.Reveal()); err != nil {
		return err
	}
	if _, err := replies.ReadString('>'); err != nil {
		return fmt.Errorf("no prompt: %w", err)
	}
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		return err
	}
	for {
		line, err := replies.ReadString('\n')
		if err != nil {
			return fmt.Errorf("%s: no %q: %w", command, want, err)
		}
		if strings.Contains(line, want) {
			return nil
		}
	}
}

func (r *coturnRelay) close() error {
	if r.using != nil {
		_ = r.using.Close()
		r.using = nil
	}
	if r.held != nil {
		_ = r.held.Close()
		r.held = nil
	}
	c := r.child
	r.child = nil
	return c.close()
}
