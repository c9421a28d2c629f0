package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is the unit of /proc/PID/stat: USER_HZ, 100 on every architecture that Go knows.
const clockTick = 10 * time.Millisecond

// processorTime is what processes have used so far. One that has ended counts nothing.
func processorTime(pids []int) (sum time.Duration) {
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// The name in parentheses may hold spaces; utime and stime are fields 14 and 15.
		fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		for _, f := range fields[11:13] {
			n, _ := strconv.ParseInt(string(f), 10, 64) // the kernel writes numbers
			sum += time.Duration(n) * clockTick
		}
	}
	return sum
}

// ownTime is the processor time of the load generator.
func ownTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// process is a program of a network. It ends with this one.
type process struct {
	*exec.Cmd
	log  string
	done chan struct{}
}

func start(log string, env []string, name string, args ...string) (*process, error) {
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
		return nil, err
	}
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	p := &process{Cmd: exec.Command(name, args...), log: log, done: make(chan struct{})}
	p.Env = append(os.Environ(), env...)
	p.Stdout, p.Stderr = out, out
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = p.Start()
	_ = out.Close() // the child has its own
	if err != nil {
		return nil, err
	}
	go func() {
		_ = p.Wait() // it is killed as a rule
		close(p.done)
	}()
	return p, nil
}

// stop asks the process to end, and kills it if it does not.
func (p *process) stop() {
	_ = p.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.Process.Kill() // it may have ended
		<-p.done
	}
}

// failed is the error of a process that did not become ready, with the end of what it said.
func (p *process) failed(why string) error {
	b, _ := os.ReadFile(p.log) // empty if it said nothing
	return fmt.Errorf("%s %s; it said:\n%s", filepath.Base(p.Path), why, b[max(0, len(b)-3000):])
}

// said waits until the process has printed a line that begins so.
func (p *process) said(line string, within time.Duration) error {
	return eventually(within, func() error {
		f, err := os.Open(p.log)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // only read
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), line) {
				return nil
			}
		}
		select {
		case <-p.done:
			return p.failed("has ended")
		default:
			return p.failed(fmt.Sprintf("has not said %q", line))
		}
	})
}

// eventually tries until it succeeds or the time is over.
func eventually(within time.Duration, try func() error) (err error) {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return nil
		}
	}
	return err
}

// freePorts returns consecutive ports of the loopback device on which nothing listens, below those
// that the kernel hands out.
func freePorts(count int) ([]int, error) {
	const low, high, attempts = 10_000, 32_000, 100
next:
	for range attempts {
		ports := make([]int, count)
		base := low + rand.IntN(high-low-count)
		for i := range ports {
			ports[i] = base + i
			l, err := net.Listen("tcp", loopback(ports[i]))
			if err != nil {
				continue next
			}
			_ = l.Close() // nobody connected
		}
		return ports, nil
	}
	return nil, fmt.Errorf("found no %d consecutive free ports", count)
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
