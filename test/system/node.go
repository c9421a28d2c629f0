package system

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Node is one process of a network.
type Node struct {
	network *Network
	// Index is the node's place in the genesis document, by which votes name it.
	Index                 int
	Name, URL, Operations string
	// Probes is the listener that pods' probes ask, once OpenProbes has opened it.
	Probes string
	// Dir holds node.yaml, the keys, and the data directory.
	Dir string

	process *process // nil while it does not run
	own     *command // the process, when this test started it and not the devnet
}

// DataDir is what a lost volume takes with it: everything but configuration and keys.
func (n *Node) DataDir() string { return filepath.Join(n.Dir, "data") }

// ConfigPath is what diseq node is started with.
func (n *Node) ConfigPath() string { return filepath.Join(n.Dir, "node.yaml") }

// Configure replaces a part of node.yaml and starts the node again, with SIGKILL. It returns when
// the node is ready.
func (n *Node) Configure(old, with string) {
	n.network.tb.Helper()
	config, err := os.ReadFile(n.ConfigPath())
	n.network.must(err)
	if !bytes.Contains(config, []byte(old)) {
		n.network.tb.Fatalf("%s: node.yaml has no %q:\n%s", n.Name, old, config)
	}
	n.network.must(os.WriteFile(n.ConfigPath(), bytes.Replace(config, []byte(old), []byte(with), 1), 0o600))
	n.Kill()
	n.Start()
	n.AwaitReady(readyWithin)
}

// OpenProbes starts the node again with a listener for probes, as pods have one.
func (n *Node) OpenProbes() {
	n.network.tb.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", FreePorts(n.network.tb, 1))
	n.Configure(`probes: ""`, "probes: "+address)
	n.Probes = url(address)
}

// Start starts a node that does not run, as the devnet says a killed one is to be restarted. It
// does not wait.
func (n *Node) Start() {
	n.network.tb.Helper()
	if n.process != nil {
		n.network.tb.Fatalf("%s runs already", n.Name)
	}
	n.own = run(n.network.tb, filepath.Join(n.Dir, "restarted.log"), "node", "--config", n.ConfigPath())
	n.process = n.own.process
}

// Refuses runs a node that must not start; it returns what it printed. The test fails if it starts,
// or ends with success.
func (n *Node) Refuses() string {
	tb := n.network.tb
	tb.Helper()
	c := run(tb, filepath.Join(tb.TempDir(), "refused.log"), "node", "--config", n.ConfigPath())
	defer c.process.close()
	code, ended := c.exit()
	if !ended {
		c.kill()
		tb.Fatalf("%s started although it must not; it said:\n%s", n.Name, c.tail())
	}
	if code == 0 {
		tb.Fatalf("%s refused to start with exit code 0", n.Name)
	}
	return c.tail()
}

// Ended reports whether a node that this test started has ended by itself, with what it printed and
// its exit code. It can be started again then.
func (n *Node) Ended() (output string, code int, ended bool) {
	if n.process == nil {
		return "", 0, true
	}
	if n.own == nil || !n.process.ended(0) {
		return "", 0, false
	}
	code, _ = n.own.exit()
	output = n.own.tail()
	n.forget()
	return output, code, true
}

// Running reports whether the node runs, as far as this test knows.
func (n *Node) Running() bool { return n.process != nil }

// Kill ends the node with SIGKILL and returns when it is gone.
func (n *Node) Kill() {
	n.network.tb.Helper()
	n.network.Kill(n)
}

// Freeze stops the node's process where it is, with its connections open, until Thaw.
func (n *Node) Freeze() {
	n.network.tb.Helper()
	n.network.must(n.process.signal(unix.SIGSTOP))
}

// Thaw lets a frozen node go on.
func (n *Node) Thaw() {
	n.network.tb.Helper()
	n.network.must(n.process.signal(unix.SIGCONT))
}

// AskToStop sends SIGTERM to a node that this test started itself, and does not wait; see Ended. It
// does nothing to one that has ended.
func (n *Node) AskToStop() {
	n.network.tb.Helper()
	n.network.must(n.process.signal(unix.SIGTERM))
}

// Terminate ends a node that this test started itself as an orderly stop does. It waits until the
// node serves clients: a process that has only just begun ends by the signal, as by a crash.
func (n *Node) Terminate() {
	tb := n.network.tb
	tb.Helper()
	Eventually(tb, readyWithin, n.Name+" listens", n.listens)
	c := n.own
	n.network.must(c.process.signal(unix.SIGTERM))
	code, ended := c.exit()
	if !ended || code != 0 {
		tb.Fatalf("%s after SIGTERM: ended %v, exit code %d:\n%s", n.Name, ended, code, c.tail())
	}
	n.forget()
}

// Log is the file that the node's output goes to.
func (n *Node) Log() string {
	if n.own != nil {
		return n.own.log
	}
	return filepath.Join(n.Dir, "node.log")
}

// listens returns nil if clients can connect to the node, or if it has ended.
func (n *Node) listens() error {
	if n.process.ended(0) {
		return nil
	}
	_, address, _ := strings.Cut(n.URL, "://")
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}

// AwaitReady waits until the node says that it is ready.
func (n *Node) AwaitReady(within time.Duration) {
	n.network.tb.Helper()
	Eventually(n.network.tb, within, n.Name+" is ready", func() error { return n.Get("/readyz", nil) })
}

// CPU returns the processor time that the node has used since it started.
func (n *Node) CPU() time.Duration {
	n.network.tb.Helper()
	d, err := n.process.cpu()
	n.network.must(err)
	return d
}

// Resident returns the node's memory in bytes, and the most it ever had since it started.
func (n *Node) Resident() (now, peak int64) {
	n.network.tb.Helper()
	now, peak, err := n.process.resident()
	n.network.must(err)
	return now, peak
}

// Written returns the bytes that the node has written to the disk since it started, as the kernel
// counts them: whole pages, when they become dirty.
func (n *Node) Written() int64 {
	n.network.tb.Helper()
	written, err := n.process.written()
	n.network.must(err)
	return written
}

func (n *Node) forget() {
	if n.own != nil {
		<-n.own.done
	}
	if n.process != nil {
		n.process.close()
	}
	n.process, n.own = nil, nil
}

// Run runs any diseq command to its end and returns its output and whether it succeeded.
func Run(args ...string) (output string, ok bool) {
	b, err := exec.Command(Binary, args...).CombinedOutput()
	return string(b), err == nil
}
