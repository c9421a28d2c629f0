//go:build !linux

package main

import "syscall"

// childAttributes puts a child into a group of its own: Ctrl-C is for this process, which then
// stops its children. Only Linux ends a child whose parent was killed.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// stepAside lets this process run behind others.
func stepAside() error { return syscall.Setpriority(syscall.PRIO_PROCESS, 0, niceness) }
