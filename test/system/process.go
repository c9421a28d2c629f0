package system

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// process is a process of this machine, a child of ours or of the devnet. It is held by a pidfd,
// which goes on meaning this process when the kernel gives its pid to another.
type process struct {
	pid, fd int
}

func openProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return &process{pid: pid, fd: fd}, nil
}

// signal does nothing to a process that has ended.
func (p *process) signal(s unix.Signal) error {
	if err := unix.PidfdSendSignal(p.fd, s, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	}
	return nil
}

// ended waits at most within for the process to have ended, which includes that its files, locks
// and ports are released.
func (p *process) ended(within time.Duration) bool {
	deadline := time.Now().Add(within)
	for {
		left := max(0, time.Until(deadline))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		return err == nil && n > 0
	}
}

func (p *process) close() { _ = unix.Close(p.fd) } // nothing was written to it

// clockTick is the unit of /proc/<pid>/stat: USER_HZ, 100 on every architecture that Go knows.
const clockTick = 10 * time.Millisecond

// cpu returns the processor time used so far by the process, and by its children that have ended.
func (p *process) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return 0, err
	}
	// The second field is the command's name in parentheses, which may hold spaces; utime, stime,
	// cutime and cstime are fields 14 to 17.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 15 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", p.pid, b)
	}
	var ticks int64
	for _, f := range fields[11:15] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", p.pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// resident returns the bytes of memory that the process has now, and the most it ever had.
func (p *process) resident() (now, peak int64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range bytes.Lines(b) {
		var to *int64
		switch {
		case bytes.HasPrefix(line, []byte("VmRSS:")):
			to = &now
		case bytes.HasPrefix(line, []byte("VmHWM:")):
			to = &peak
		default:
			continue
		}
		if _, err := fmt.Sscanf(string(line[6:]), "%d kB", to); err != nil {
			return 0, 0, fmt.Errorf("/proc/%d/status: %q: %w", p.pid, line, err)
		}
		*to <<= 10
	}
	return now, peak, nil
}

// written returns the bytes that the process has written to disks.
func (p *process) written() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if text, ok := bytes.CutPrefix(line, []byte("write_bytes: ")); ok {
			return strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/%d/io has no write_bytes: %q", p.pid, b)
}
