//go:build !linux

package lab

import "syscall"

// diesWithParent has no means here: a child ends when the lab is closed.
func diesWithParent(syscall.Signal) *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
