package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

const childEnd = 5 * time.Second // until a killed process is gone

// child is a process that does not outlive this one.
type child struct {
	cmd   *exec.Cmd
	endBy syscall.Signal
	done  chan struct{} // closed when it has ended
}

// startReady starts a program and waits until it is ready. The error of one
// that does not get so has the end of its output.
func startReady(ctx context.Context, endBy syscall.Signal, output string, limit time.Duration, ready func() error, command ...string) (*child, error) {
	c, err := startChild(endBy, output, command...)
	if err != nil {
		return nil, err
	}
	if err := c.await(ctx, limit, ready); err != nil {
		return nil, errors.Join(fmt.Errorf("%w; its last words: %q", err, lastWords(output)), c.close())
	}
	return c, nil
}

// startChild writes the output of the program to a file. endBy ends it, also
// when this process ends: SIGKILL, unless it has to end children of its own.
// The goroutine keeps its thread for as long as the child lives: Linux ends the
// child when the thread that started it ends.
func startChild(endBy syscall.Signal, output string, command ...string) (*child, error) {
	log, err := os.OpenFile(output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(command[0], command[1:]...), endBy: endBy, done: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = diesWithParent(endBy)
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

// close ends the process and waits until it is gone. One that was not started
// is gone.
func (c *child) close() error {
	if c == nil {
		return nil
	}
	if err := c.cmd.Process.Signal(c.endBy); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(childEnd)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		return fmt.Errorf("process %d: not gone %s after %s", c.cmd.Process.Pid, childEnd, c.endBy)
	}
}

// await polls until the child is ready; one that has ended never will be.
func (c *child) await(ctx context.Context, limit time.Duration, ready func() error) error {
	err := poll(ctx, limit, func() error {
		if c.ended() {
			return nil
		}
		return ready()
	})
	if err == nil && c.ended() {
		err = fmt.Errorf("%s ended", filepath.Base(c.cmd.Path))
	}
	return err
}

// onFreePort starts a child on a port that is free, which another process can
// take before the child does.
func onFreePort(ctx context.Context, start func(address string) error) error {
	var err error
	for range 3 {
		var free net.Listener
		if free, err = net.Listen("tcp4", loopback); err != nil {
			return err
		}
		if err = errors.Join(free.Close(), start(free.Addr().String())); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// fetch asks a child once, for a second at most, and leaves no connection open.
func fetch(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Close = true
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = reply.Body.Close() }()
	if reply.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: HTTP %s", url, reply.Status)
	}
	return io.ReadAll(io.LimitReader(reply.Body, maxBody))
}

// lastWords is the end of a log.
func lastWords(path string) string {
	log, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-300):])
}
