package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/infrafabric/meshctl/mesh/secret"
)

const (
	coturnReady = 10 * time.Second // until it answers
	coturnEnd   = 5 * time.Second  // until a killed process is gone
	coturnReply = 2 * time.Second  // of its command line
	relayPorts  = 1000             // for each server
)

// coturnRelay is Debian's turnserver as a child process.
type coturnRelay struct {
	dir      string
	addr     *net.UDPAddr
	admin    string // host:port of its command line
	adminKey secret.Secret

	child *child   // nil while it is killed
	held  net.Conn // keeps the port of a killed server
}

// newCoturnRelay starts a server that relays on the ports from firstPort on,
// and keeps its files in dir.
func newCoturnRelay(ctx context.Context, dir string, c credentials, firstPort int) (*coturnRelay, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	r := &coturnRelay{dir: dir, adminKey: newKey()}
	if err := r.choosePorts(); err != nil {
		return nil, err
	}
	if err := os.WriteFile(r.file("turnserver.conf"), []byte(r.config(c, firstPort)), 0o600); err != nil {
		return nil, err
	}
	return r, r.revive(ctx)
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

// config holds the passwords: on the command line everybody could read them.
func (r *coturnRelay) config(c credentials, firstPort int) string {
	_, adminPort, _ := strings.Cut(r.admin, ":")
	lines := []string{
		"listening-ip=127.0.0.1", fmt.Sprintf("listening-port=%d", r.addr.Port), "relay-ip=127.0.0.1",
		fmt.Sprintf("min-port=%d", firstPort), fmt.Sprintf("max-port=%d", firstPort+relayPorts-1),
		"realm=" + realm, "lt-cred-mech", "user=" + c.username + ":" + c.password.Reveal(),
		"allow-loopback-peers", "no-multicast-peers", "no-rfc5780", "no-tcp", "no-tls", "no-dtls",
		"cli-ip=127.0.0.1", "cli-port=" + adminPort, "cli-password=" + r.adminKey.Reveal(),
		"userdb=" + r.file("turndb"), "pidfile=" + r.file("turnserver.pid"), "log-file=stdout",
	}
	return strings.Join(lines, "\n") + "\n"
}

func (r *coturnRelay) address() string { return r.addr.String() }

func (r *coturnRelay) revive(ctx context.Context) error {
	if r.held != nil {
		_ = r.held.Close()
		r.held = nil
	}
	c, err := startChild(r.file("turnserver.log"), "turnserver", "-c", r.file("turnserver.conf"))
	if err != nil {
		return err
	}
	r.child = c
	err = r.answers(ctx)
	if err == nil && c.ended() {
		err = errors.New("turnserver ended")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%w; its last words: %q", err, r.lastWords()), r.close())
	}
	return nil
}

// lastWords is the end of the log.
func (r *coturnRelay) lastWords() string {
	log, err := os.ReadFile(r.file("turnserver.log"))
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-300):])
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
		return r.answers(ctx)
	}
	if err := r.child.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	err := poll(ctx, coturnEnd, func() error {
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

// answers waits until the server answers Binding, or has ended.
func (r *coturnRelay) answers(ctx context.Context) error {
	return poll(ctx, coturnReady, func() error {
		if r.child.ended() {
			return nil // waiting is no use
		}
		return bindingAnswered(r.address(), 200*time.Millisecond)
	})
}

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
	if r.held != nil {
		_ = r.held.Close()
		r.held = nil
	}
	if r.child == nil {
		return nil
	}
	c := r.child
	r.child = nil
	return c.kill()
}

// child is a process that does not outlive this one.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// startChild writes the output of the program to a file. The goroutine keeps
// its thread for as long as the child lives: Linux kills the child when the
// thread that started it ends.
func startChild(output, program string, args ...string) (*child, error) {
	log, err := os.OpenFile(output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(program, args...), done: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = diesWithParent()
	started := make(chan error, 1)
	go func() {
		defer close(c.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		_ = log.Close() // the child has its own
		started <- err
		if err == nil {
			_ = c.cmd.Wait() // how it ended is in its log
		}
	}()
	return c, <-started
}

func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// kill works on a stopped process too.
func (c *child) kill() error {
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(coturnEnd)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		return fmt.Errorf("process %d: not gone %s after SIGKILL", c.cmd.Process.Pid, coturnEnd)
	}
}
