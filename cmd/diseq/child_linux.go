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
	err := os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	// Linux keeps a priority for each thread, and a new one takes that of its maker. Once all of
	// them are found behind, there will be no others.
	for behind := false; !behind; {
		threads, failed := os.ReadDir("/proc/self/task")
		if failed != nil {
			return errors.Join(err, failed)
		}
		behind = true
		for _, t := range threads {
			changed, failed := lower(t.Name())
			if failed != nil {
				return errors.Join(err, failed)
			}
			behind = behind && !changed
		}
	}
	return err
}

// lower gives a thread the low priority, unless it has that or has ended.
func lower(thread string) (changed bool, err error) {
	id, err := strconv.Atoi(thread)
	if err != nil {
		return false, err
	}
	const normal = 20 // Linux returns 20 - nice, so that it is never negative
	at, err := syscall.Getpriority(syscall.PRIO_PROCESS, id)
	if errors.Is(err, syscall.ESRCH) || err == nil && normal-at >= niceness {
		return false, nil
	}
	if err == nil {
		err = syscall.Setpriority(syscall.PRIO_PROCESS, id, niceness)
	}
	if errors.Is(err, syscall.ESRCH) {
		err = nil
	}
	return true, err
}
