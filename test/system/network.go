package system

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/diseq/diseq/node/chain"
)

const (
	// readyWithin bounds a start. It is generous on purpose: how long a start takes is measured by
	// test/bench.
	readyWithin = time.Minute
	// stopWithin bounds an orderly stop, deadWithin the end after SIGKILL.
	stopWithin = time.Minute
	deadWithin = 30 * time.Second
)

// Options is how a network is started. The zero value means four validators, three of which must
// sign, all started.
type Options struct {
	// Dir is the network's directory, a temporary one if empty. A network that was there before is
	// continued.
	Dir string
	// Validators, Threshold and Start are the flags of diseq devnet; zero leaves them at 4, 3 and
	// all.
	Validators, Threshold, Start int
	// Flags are further flags.
	Flags []string
	// Profiled has the nodes serve /debug/pprof on their operations listeners.
	Profiled bool
	// Config has further lines for the configuration of every node of a new network.
	Config string
	// Under is a command that the network is started by, such as a tracer and its flags. It must
	// not outlive the network.
	Under []string
}

// Network is a devnet of real processes. Its methods end the test when something fails that is not
// what the test is about.
type Network struct {
	tb      testing.TB
	Dir     string
	Genesis *chain.Genesis
	Nodes   []*Node
	// StartTime is how long the network took from its start to "ready".
	StartTime time.Duration

	parent   *command
	evidence bool
}

// Start starts a network and returns when it said that it is ready. It is killed, every process of
// it, when the test ends.
func Start(tb testing.TB, o Options) *Network {
	tb.Helper()
	if o.Dir == "" {
		o.Dir = tb.TempDir()
	}
	if o.Validators == 0 {
		o.Validators, o.Threshold = 4, 3
	}
	if o.Start == 0 {
		o.Start = o.Validators
	}
	args := []string{
		"devnet", "--validators", fmt.Sprint(o.Validators), "--threshold", fmt.Sprint(o.Threshold), "--dir", o.Dir,
		"--http", fmt.Sprintf("127.0.0.1:%d", FreePorts(tb, o.Validators+8)), // nodes may be added
	}
	if o.Start < o.Validators {
		args = append(args, "--start", fmt.Sprint(o.Start))
	}
	if o.Profiled {
		o.Config += "pprof: true\n"
	}
	if o.Config != "" {
		configure(tb, o)
	}
	began := time.Now()
	command := slices.Concat(o.Under, []string{Binary}, args, o.Flags)
	n := &Network{tb: tb, Dir: o.Dir, parent: runCommand(tb, filepath.Join(tb.TempDir(), "devnet.log"), command)}
	tb.Cleanup(n.cleanup)
	if !n.parent.said("ready", readyWithin) {
		tb.Fatalf("the network was not ready within %v; it said:\n%s", readyWithin, n.parent.tail())
	}
	n.StartTime = time.Since(began)
	n.read(o.Start)
	// It said so when as many nodes as its threshold were ready, and a test may ask another first.
	for _, node := range n.Nodes[:o.Start] {
		Eventually(tb, readyWithin, node.Name+" listens, or has ended", node.listens)
	}
	return n
}

// configure writes the configurations that the devnet finds and completes.
func configure(tb testing.TB, o Options) {
	tb.Helper()
	for i := range o.Validators {
		dir := filepath.Join(o.Dir, fmt.Sprintf("node%d", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			tb.Fatal(err)
		}
		path := filepath.Join(dir, "node.yaml")
		if _, err := os.Stat(path); err == nil {
			continue // of a network that was there before
		}
		if err := os.WriteFile(path, fmt.Appendf(nil, "name: v%d\n%s", i, o.Config), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
}

// read learns from the network's own files who the nodes are.
func (n *Network) read(started int) {
	n.tb.Helper()
	f, err := os.Open(filepath.Join(n.Dir, "genesis.json"))
	n.must(err)
	n.Genesis, err = chain.ReadGenesis(f)
	n.must(err)
	n.must(f.Close())
	for i, l := range n.listed() {
		node := n.node(l)
		if i < started {
			node.process, err = openProcess(l.PID)
			n.must(err)
		}
		n.Nodes = append(n.Nodes, node)
	}
}

// listed is a node as network.json shows it.
type listed struct {
	Name, HTTP, Operations, Dir string
	PID                         int
}

func (n *Network) listed() []listed {
	n.tb.Helper()
	var file struct{ Nodes []listed }
	b, err := os.ReadFile(filepath.Join(n.Dir, "network.json"))
	n.must(err)
	n.must(json.Unmarshal(b, &file))
	return file.Nodes
}

func (n *Network) node(l listed) *Node {
	node := &Node{network: n, Index: len(n.Nodes), Name: l.Name, URL: url(l.HTTP), Operations: url(l.Operations), Dir: l.Dir}
	if !filepath.IsAbs(node.Dir) {
		node.Dir = filepath.Join(n.Dir, node.Dir)
	}
	return node
}

// Reshape runs diseq devnet add, remove or replace. The function that it returns reports whether
// the command has ended; the test fails if it failed.
func (n *Network) Reshape(args ...string) (ended func() bool) {
	n.tb.Helper()
	c := run(n.tb, filepath.Join(n.tb.TempDir(), "reshape.log"), append(append([]string{"devnet"}, args...), "--dir", n.Dir)...)
	return func() bool {
		n.tb.Helper()
		select {
		case <-c.done:
		default:
			return false
		}
		if code, _ := c.exit(); code != 0 {
			n.tb.Fatalf("diseq devnet %v ended with exit code %d:\n%s", args, code, c.tail())
		}
		return true
	}
}

// Refresh takes in the nodes that were added since, and returns them. Those that have left are no
// nodes of the network any more; it waits until they are gone.
func (n *Network) Refresh() (added []*Node) {
	n.tb.Helper()
	here := map[string]bool{}
	for _, l := range n.listed() {
		here[l.Name] = true
		if l.PID == 0 || slices.ContainsFunc(n.Nodes, func(node *Node) bool { return node.Name == l.Name }) {
			continue
		}
		node, err := n.node(l), error(nil)
		node.process, err = openProcess(l.PID)
		n.must(err)
		n.Nodes, added = append(n.Nodes, node), append(added, node)
	}
	var stay []*Node // a load may hold the list of before
	for _, node := range n.Nodes {
		if here[node.Name] {
			stay = append(stay, node)
			continue
		}
		if node.own != nil { // the network stops those that it started
			node.Terminate()
		} else if node.process != nil && !node.process.ended(stopWithin) {
			n.tb.Fatalf("%s has left and was not stopped within %v", node.Name, stopWithin)
		}
		node.forget()
	}
	n.Nodes = stay
	return added
}

// url makes an address that may be bare host:port an URL.
func url(address string) string {
	if strings.Contains(address, "://") {
		return strings.TrimSuffix(address, "/")
	}
	return "http://" + address
}

// Stop ends the network as Ctrl-C does, with the nodes that were restarted on their own, and fails
// the test if one does not end cleanly.
func (n *Network) Stop() {
	n.tb.Helper()
	for _, node := range n.Nodes {
		if node.own != nil {
			node.Terminate()
		}
	}
	n.must(n.parent.process.signal(unix.SIGTERM))
	if !n.parent.process.ended(stopWithin) {
		n.tb.Fatalf("the network did not end within %v of SIGTERM:\n%s", stopWithin, n.parent.tail())
	}
	if code, _ := n.parent.exit(); code != 0 {
		n.tb.Fatalf("the network ended with exit code %d after SIGTERM:\n%s", code, n.parent.tail())
	}
	for _, node := range n.Nodes {
		if node.process != nil && !node.process.ended(deadWithin) {
			n.tb.Fatalf("%s outlived its network", node.Name)
		}
		node.forget()
	}
}

// Kill ends nodes with SIGKILL, all as close to the same moment as this machine can, and returns
// when they are gone.
func (n *Network) Kill(nodes ...*Node) {
	n.tb.Helper()
	for _, node := range nodes {
		n.must(node.process.signal(unix.SIGKILL))
	}
	for _, node := range nodes {
		if !node.process.ended(deadWithin) {
			n.tb.Fatalf("%s did not end within %v of SIGKILL", node.Name, deadWithin)
		}
		node.forget()
	}
}

// Newcomer makes the node of a party of its own, with diseq init, which the devnet does not know.
// It does not run yet. Its address is for peers files.
func (n *Network) Newcomer(name string) (node *Node, address string) {
	n.tb.Helper()
	dir := filepath.Join(n.Dir, "of-"+name)
	if out, ok := Run("init", "--dir", dir, "--name", name); !ok {
		n.tb.Fatalf("diseq init: %s", out)
	}
	port := FreePorts(n.tb, 3)
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", port+i) }
	config := fmt.Sprintf("name: %s\ngenesis: ../genesis.json\npeers: ../peers.json\nlisten: {public: %q, peer: %q, operations: %q}\n",
		name, at(0), at(1), at(2))
	n.must(os.WriteFile(filepath.Join(dir, "node.yaml"), []byte(config), 0o600))
	node = &Node{network: n, Index: len(n.Nodes), Name: name, URL: url(at(0)), Operations: url(at(2)), Dir: dir}
	n.Nodes = append(n.Nodes, node)
	return node, at(1)
}

// KillIfRunning is Kill for a node that may be ending by itself; it reports whether the node was
// killed.
func (n *Node) KillIfRunning() bool {
	if n.process == nil || n.process.ended(0) || n.process.signal(unix.SIGKILL) != nil {
		return false
	}
	if !n.process.ended(deadWithin) {
		n.network.tb.Fatalf("%s did not end within %v of SIGKILL", n.Name, deadWithin)
	}
	n.forget()
	return true
}

// AllowEvidence tells audits that this test made a validator equivocate.
func (n *Network) AllowEvidence() { n.evidence = true }

// Running returns the nodes that were not killed or stopped.
func (n *Network) Running() []*Node {
	var out []*Node
	for _, node := range n.Nodes {
		if node.process != nil {
			out = append(out, node)
		}
	}
	return out
}

func (n *Network) must(err error) {
	n.tb.Helper()
	if err != nil {
		n.tb.Fatal(err)
	}
}

// cleanup ends whatever the test left, the parent first: it would report the end of its children.
func (n *Network) cleanup() {
	n.parent.kill()
	for _, node := range n.Nodes {
		if node.process != nil {
			_ = node.process.signal(unix.SIGKILL) // it may have ended with its parent
			node.process.ended(deadWithin)
			node.forget()
		}
	}
	if n.tb.Failed() {
		logs, _ := filepath.Glob(filepath.Join(n.Dir, "*", "*.log"))
		for _, path := range append(logs, n.parent.log) {
			n.tb.Logf("the end of %s:\n%s", path, tail(path))
		}
	}
}

// command is a diseq that this test started itself. Its output goes to a file.
type command struct {
	*exec.Cmd
	process *process
	log     string
	// done is closed when the command has ended, written when all that it printed is in the log.
	done, written chan struct{}

	mu      sync.Mutex
	waiting map[string]chan struct{} // by the start of a line
}

func run(tb testing.TB, log string, args ...string) *command {
	tb.Helper()
	return runCommand(tb, log, append([]string{Binary}, args...))
}

func runCommand(tb testing.TB, log string, args []string) *command {
	tb.Helper()
	c := &command{
		Cmd: exec.Command(args[0], args[1:]...), log: log,
		done: make(chan struct{}), written: make(chan struct{}), waiting: map[string]chan struct{}{},
	}
	file, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	out, in, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	c.Stdout, c.Stderr = in, in
	// It must not outlive a test that is itself killed.
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		tb.Fatal(err)
	}
	_ = in.Close() // the child has its own
	if c.process, err = openProcess(c.Process.Pid); err != nil {
		tb.Fatal(err)
	}
	go c.copy(out, file)
	go func() {
		_ = c.Wait() // the exit code is in ProcessState
		close(c.done)
	}()
	return c
}

// copy keeps the output and tells who waits for a line.
func (c *command) copy(out io.ReadCloser, file io.WriteCloser) {
	defer close(c.written)
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		_, _ = file.Write([]byte(line)) // it is for people
		c.mu.Lock()
		for start, heard := range c.waiting {
			if strings.HasPrefix(line, start) {
				close(heard)
				delete(c.waiting, start)
			}
		}
		c.mu.Unlock()
		if err != nil {
			_, _ = out.Close(), file.Close() // both are at their end
			return
		}
	}
}

// said waits until the command printed a line that starts with start.
func (c *command) said(start string, within time.Duration) bool {
	heard := make(chan struct{})
	c.mu.Lock()
	c.waiting[start] = heard
	c.mu.Unlock()
	if b, err := os.ReadFile(c.log); err == nil && (bytes.HasPrefix(b, []byte(start)) || bytes.Contains(b, []byte("\n"+start))) {
		return true
	}
	select {
	case <-heard:
		return true
	case <-c.done:
	case <-time.After(within):
	}
	return false
}

// exit returns the exit code (-1 after a signal) of a command that has ended, waiting at most
// stopWithin for it.
func (c *command) exit() (code int, ended bool) {
	select {
	case <-c.done:
		<-c.written
		return c.ProcessState.ExitCode(), true
	case <-time.After(stopWithin):
		return 0, false
	}
}

func (c *command) kill() {
	_ = c.process.signal(unix.SIGKILL) // it may have ended
	<-c.done
}

func (c *command) tail() string { return tail(c.log) }

// tail returns the end of a file, for people.
func tail(path string) string {
	const most = 6000
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-most):])
}

// FreePorts returns the first of n consecutive ports on which nothing listens, below those that the
// kernel hands out.
func FreePorts(tb testing.TB, n int) int {
	tb.Helper()
	const low, high, attempts = 10000, 32000, 100
next:
	for range attempts {
		base := low + rand.IntN(high-low)
		for i := range n {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+i))
			if err != nil {
				continue next
			}
			_ = l.Close() // nothing was accepted
		}
		return base
	}
	tb.Fatalf("found no %d consecutive free ports", n)
	return 0
}
