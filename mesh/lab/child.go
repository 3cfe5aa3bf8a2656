package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// startChild writes the output of the program to a file. The goroutine keeps
// its thread for as long as the child lives: Linux kills the child when the
// thread that started it ends.
func startChild(output, program string, args ...string) (*child, error) {
	return startChildEndedBy(syscall.SIGKILL, output, program, args...)
}

// startChildEndedBy is for a program that has to end children of its own: it
// gets another signal when this process ends.
func startChildEndedBy(signal syscall.Signal, output, program string, args ...string) (*child, error) {
	log, err := os.OpenFile(output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(program, args...), done: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = diesWithParent(signal)
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
func (c *child) kill() error { return c.end(syscall.SIGKILL) }

// end sends a signal and waits until the process is gone.
func (c *child) end(signal syscall.Signal) error {
	if err := c.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(childEnd)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
		return fmt.Errorf("process %d: not gone %s after %s", c.cmd.Process.Pid, childEnd, signal)
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

// lastWords is the end of a log.
func lastWords(path string) string {
	log, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-300):])
}
