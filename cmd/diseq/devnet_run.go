package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/node/chain"
)

// devnet is a network of child processes.
type devnet struct {
	validators int
	threshold  uint32
	dir, http  string
	start      int
	parameters chain.Parameters
	// deltaMS is the synchrony wait's.
	deltaMS uint32
	// changed reports whether a flag was given.
	changed func(flag string) bool
	out     io.Writer

	host       string
	port       int
	executable string
	genesis    *chain.Genesis
	nodes      []*devNode
	// children are all processes that were started.
	children []*child
	ended    chan *child
}

// child is a node's process.
type child struct {
	node *devNode
	cmd  *exec.Cmd
	// leaves is set when the node has left the network and is stopped for that.
	leaves bool
	// result is how it ended, set before it is sent on ended.
	result error
	gone   bool
}

const (
	readyEvery = 50 * time.Millisecond
	// stopAfter is how long nodes have for an orderly stop.
	stopAfter = 20 * time.Second
	// lookEvery is how often the network looks for nodes that were added or have left.
	lookEvery = 250 * time.Millisecond
)

// run starts the nodes and waits for ctx to end. A node that ends by itself is reported; the others
// go on.
func (d *devnet) run(ctx context.Context) (err error) {
	// A child is killed when the thread that started it ends (prctl PR_SET_PDEATHSIG), so this
	// goroutine keeps its own.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	d.ended = make(chan *child)
	defer func() { err = errors.Join(err, d.stop()) }()
	for _, n := range d.nodes[:d.start] {
		if err := d.launch(n); err != nil {
			return err
		}
	}
	if err := d.writeNetwork(); err != nil {
		return err
	}
	d.announce()
	if err := d.awaitReady(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	// "ready" is the last line, which others wait for.
	for _, n := range d.nodes {
		if n.child != nil && !n.child.gone && n.config.Explorer {
			fmt.Fprintf(d.out, "to see the chain, open http://%s/\n", n.config.Listen.Public)
			break
		}
	}
	fmt.Fprintln(d.out, "ready")
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-d.ended:
			d.report(c)
		case <-look.C:
			if err := d.look(); err != nil {
				fmt.Fprintf(d.out, "the nodes in %s are not as expected: %v\n", d.dir, err)
			}
		}
	}
}

// look starts the nodes that were added, and stops those that have left.
func (d *devnet) look() error {
	before := len(d.nodes)
	if err := d.find(); err != nil {
		return err
	}
	changed := false
	added := d.nodes[before:]
	for i, n := range added {
		config, err := node.LoadConfig(d.configPath(n.index))
		if err == nil {
			n.config = config
			err = d.launch(n)
		}
		if err != nil { // the next look tries again
			d.nodes = append(d.nodes[:before+i], added[i+1:]...)
			return err
		}
		changed = true
		fmt.Fprintf(d.out, "%s: http://%s, pid %d; if it is killed: %s\n", n.name, n.config.Listen.Public, n.child.cmd.Process.Pid, d.command(n))
	}
	for i, n := range slices.Backward(d.nodes) {
		if !exists(filepath.Join(d.nodeDir(n.index), goneFile)) {
			continue
		}
		d.nodes = append(d.nodes[:i], d.nodes[i+1:]...)
		if changed = true; n.child != nil && !n.child.gone {
			n.child.leaves = true
			_ = n.child.cmd.Process.Signal(syscall.SIGTERM) // it may have ended just now
		}
	}
	if !changed {
		return nil
	}
	return d.writeNetwork()
}

func (d *devnet) announce() {
	fmt.Fprintf(d.out, "chain %s: %d validators, threshold %d at genesis; %d nodes in %s\n",
		d.genesis.ChainID, len(d.genesis.Validators), d.genesis.Threshold, len(d.nodes), d.dir)
	for _, n := range d.nodes {
		if n.child != nil {
			fmt.Fprintf(d.out, "%s: http://%s, pid %d; if it is killed: %s\n", n.name, n.config.Listen.Public, n.child.cmd.Process.Pid, d.command(n))
		} else {
			fmt.Fprintf(d.out, "%s: http://%s, not started; to start it: %s\n", n.name, n.config.Listen.Public, d.command(n))
		}
	}
}

// command returns the command of a shell that starts a node from any directory.
func (d *devnet) command(n *devNode) string {
	return fmt.Sprintf("%s node --config %s", shellQuote(d.executable), shellQuote(d.configPath(n.index)))
}

func shellQuote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=+@%,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func (d *devnet) launch(n *devNode) (err error) {
	if n.client, err = client.New("http://" + n.config.Listen.Public); err != nil {
		return err
	}
	n.client.RetryFor = 0
	log, err := os.OpenFile(filepath.Join(d.nodeDir(n.index), "node.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own
	cmd := exec.Command(d.executable, "node", "--config", d.configPath(n.index))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttributes()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	n.child = &child{node: n, cmd: cmd}
	d.children = append(d.children, n.child)
	go func(c *child) {
		c.result = cmd.Wait()
		d.ended <- c
	}(n.child)
	return nil
}

// awaitReady returns when as many nodes as the threshold are ready and know each other, or ctx
// ends. It fails when so many nodes have ended that this cannot come.
func (d *devnet) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	need := 0 // as the nodes say: the set may have changed since genesis
	for {
		count := 0
		for _, c := range d.children {
			if c.gone {
				continue
			}
			ok, threshold := d.connected(ctx, c.node)
			if need = max(need, threshold); ok {
				count++
			}
		}
		if need > 0 && count >= need {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case c := <-d.ended:
			d.report(c)
			if d.running() < max(need, 1) {
				log := filepath.Join(d.nodeDir(c.node.index), "node.log")
				return fmt.Errorf("%s ended: %s: the rest is in %s", c.node.name, lastLine(log), log)
			}
		case <-tick.C:
		}
	}
}

func (d *devnet) running() (n int) {
	for _, c := range d.children {
		if !c.gone {
			n++
		}
	}
	return n
}

func (d *devnet) report(c *child) {
	c.gone = true
	if c.leaves && c.result == nil {
		fmt.Fprintf(d.out, "%s (pid %d) has left the network and is stopped\n", c.node.name, c.cmd.Process.Pid)
		return
	}
	how := "it ended"
	if c.result != nil {
		how = c.result.Error()
	}
	if c.cmd.ProcessState.ExitCode() > 0 { // it said why
		how += ", " + lastLine(filepath.Join(d.nodeDir(c.node.index), "node.log"))
	}
	fmt.Fprintf(d.out, "%s (pid %d) is gone: %s; start it again with: %s\n", c.node.name, c.cmd.Process.Pid, how, d.command(c.node))
}

// stop ends the nodes in order, and those that do not end with SIGKILL.
func (d *devnet) stop() error {
	for _, c := range d.children {
		if !c.gone {
			_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended just now
		}
	}
	deadline := time.NewTimer(stopAfter)
	defer deadline.Stop()
	var errs []error
	for d.running() > 0 {
		select {
		case c := <-d.ended:
			c.gone = true
			if c.result != nil {
				errs = append(errs, fmt.Errorf("%s: %w", c.node.name, c.result))
			}
		case <-deadline.C:
			for _, c := range d.children {
				if !c.gone {
					errs = append(errs, fmt.Errorf("%s did not stop within %v and was killed", c.node.name, stopAfter))
					_ = c.cmd.Process.Kill() // it may have ended just now
				}
			}
		}
	}
	return errors.Join(errs...)
}

// lastLine returns the end of a log, for an error of one line.
func lastLine(path string) string {
	const tail = 4096
	f, err := os.Open(path)
	if err != nil {
		return "it has no log"
	}
	defer func() { _ = f.Close() }() // it was only read
	if fi, err := f.Stat(); err == nil && fi.Size() > tail {
		_, _ = f.Seek(-tail, io.SeekEnd) // then it is read from the start
	}
	content, _ := io.ReadAll(io.LimitReader(f, tail)) // a part is better than nothing
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return last
	}
	return "its log, " + path + ", is empty"
}
