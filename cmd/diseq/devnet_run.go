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
	configs    []node.Config
	clients    []*client.Client
	children   []*child
	ended      chan *child
}

// child is a node's process.
type child struct {
	index int
	cmd   *exec.Cmd
	// result is how it ended, set before it is sent on ended.
	result error
	gone   bool
}

const (
	readyEvery = 50 * time.Millisecond
	// stopAfter is how long nodes have for an orderly stop.
	stopAfter = 20 * time.Second
)

// run starts the nodes and waits for ctx to end. A node that ends by itself is reported; the others
// go on.
func (d *devnet) run(ctx context.Context) (err error) {
	// A child is killed when the thread that started it ends (prctl PR_SET_PDEATHSIG), so this
	// goroutine keeps its own.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	d.ended = make(chan *child, d.start)
	defer func() { err = errors.Join(err, d.stop()) }()
	for i := range d.start {
		c, err := client.New("http://" + d.configs[i].Listen.Public)
		if err != nil {
			return err
		}
		c.RetryFor = 0
		d.clients = append(d.clients, c)
		if err := d.launch(i); err != nil {
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
	fmt.Fprintln(d.out, "ready")
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-d.ended:
			d.report(c)
		}
	}
}

func (d *devnet) announce() {
	fmt.Fprintf(d.out, "chain %s: %d validators, threshold %d, in %s\n",
		d.genesis.ChainID, len(d.genesis.Validators), d.genesis.Threshold, d.dir)
	for i, c := range d.configs {
		if i < len(d.children) {
			fmt.Fprintf(d.out, "%s: http://%s, pid %d; if it is killed: %s\n", c.Name, c.Listen.Public, d.children[i].cmd.Process.Pid, d.command(i))
		} else {
			fmt.Fprintf(d.out, "%s: http://%s, not started; to start it: %s\n", c.Name, c.Listen.Public, d.command(i))
		}
	}
}

// command returns the command of a shell that starts a node from any directory.
func (d *devnet) command(i int) string {
	return fmt.Sprintf("%s node --config %s", shellQuote(d.executable), shellQuote(d.configPath(i)))
}

func shellQuote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=+@%,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func (d *devnet) launch(i int) error {
	log, err := os.OpenFile(filepath.Join(d.nodeDir(i), "node.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own
	cmd := exec.Command(d.executable, "node", "--config", d.configPath(i))
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own: Ctrl-C is for this process, which then stops its children.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", d.configs[i].Name, err)
	}
	c := &child{index: i, cmd: cmd}
	d.children = append(d.children, c)
	go func() {
		c.result = cmd.Wait()
		d.ended <- c
	}()
	return nil
}

// awaitReady returns when as many nodes as the threshold are ready and know each other, or ctx
// ends. It fails when so many nodes have ended that this cannot come.
func (d *devnet) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		count := 0
		for i, c := range d.children {
			if !c.gone && d.connected(ctx, i) {
				count++
			}
		}
		if count >= int(d.genesis.Threshold) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case c := <-d.ended:
			d.report(c)
			if d.running() < int(d.genesis.Threshold) {
				return fmt.Errorf("%s ended: %s", d.configs[c.index].Name, lastLine(filepath.Join(d.nodeDir(c.index), "node.log")))
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
	how := "it ended"
	if c.result != nil {
		how = c.result.Error()
	}
	if c.cmd.ProcessState.ExitCode() > 0 { // it said why
		how += ", " + lastLine(filepath.Join(d.nodeDir(c.index), "node.log"))
	}
	fmt.Fprintf(d.out, "%s (pid %d) is gone: %s; start it again with: %s\n",
		d.configs[c.index].Name, c.cmd.Process.Pid, how, d.command(c.index))
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
				errs = append(errs, fmt.Errorf("%s: %w", d.configs[c.index].Name, c.result))
			}
		case <-deadline.C:
			for _, c := range d.children {
				if !c.gone {
					errs = append(errs, fmt.Errorf("%s did not stop within %v and was killed", d.configs[c.index].Name, stopAfter))
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
