package probes_test

import "syscall"

// diesWithParent ends a real server when the tests are killed.
func diesWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
