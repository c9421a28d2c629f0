package main

import "syscall"

// childAttributes puts a node of a devnet into a group of its own: Ctrl-C is for this process,
// which then stops its children. The kernel ends a child whose parent was killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
