package main

import (
	"errors"
	"os"
	"strconv"
	"syscall"
)

// childAttributes puts a child into a group of its own: Ctrl-C is for this process, which then
// stops its children. The kernel ends a child whose parent was killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// stepAside lets this process run behind others, and be the first to go when memory is short.
func stepAside() error {
	errs := []error{os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)}
	const normal = 20 // Linux returns 20 - nice, so that it is never negative
	if at, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0); err == nil && normal-at >= niceness {
		return errors.Join(errs...)
	}
	threads, err := os.ReadDir("/proc/self/task")
	errs = append(errs, err)
	for _, t := range threads { // Linux keeps a priority for each thread; new ones take their maker's
		id, err := strconv.Atoi(t.Name())
		if err == nil {
			err = syscall.Setpriority(syscall.PRIO_PROCESS, id, niceness)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
