//go:build !linux

package probes_test

import "syscall"

func diesWithParent() *syscall.SysProcAttr { return nil }
