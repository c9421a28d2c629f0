package processes

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/diseq/diseq/hack/skipped"
	"github.com/diseq/diseq/test/system"
)

// quickStart returns the blocks of commands under README.md's heading "Without Kubernetes", in
// their order.
func quickStart(t *testing.T, readme string) []string {
	t.Helper()
	_, section, ok := strings.Cut(readme, "\n## Without Kubernetes\n")
	if !ok {
		t.Fatal(`README.md has no section "Without Kubernetes"`)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var blocks []string
	indented := false
	for line := range strings.Lines(section) {
		command, code := strings.CutPrefix(line, "    ")
		switch {
		case code && indented:
			blocks[len(blocks)-1] += command
		case code:
			blocks = append(blocks, command)
		}
		indented = code
	}
	return blocks
}

// a clone is a copy of the checkout's outline, with the network of make devnet: the network's files
// are in a temporary directory, and all but make runs there.
type clone struct {
	t         *testing.T
	dir, said string
	network   *exec.Cmd
	ended     chan struct{}
}

// startClone runs a command that begins with make devnet, and waits until the network is ready. It
// leaves the test out if the network's ports are in use.
func startClone(t *testing.T, command string) *clone {
	t.Helper()
	for _, port := range []string{"18080", "18081", "18082", "18083"} {
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			skipped.Test(t, "the ports of make devnet are in use: %v", err)
		}
		_ = l.Close() // nothing was accepted
	}
	if !strings.HasPrefix(command, "make devnet") {
		t.Fatalf("the document does not begin with make devnet: %q", command)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	c := &clone{t: t, dir: t.TempDir(), ended: make(chan struct{}), network: exec.Command("bash", "-c", command)}
	c.network.Dir = root
	c.network.Env = append(os.Environ(), "BIN="+filepath.Join(c.dir, "bin"), "DEVNET_DIR="+filepath.Join(c.dir, ".devnet"))
	c.network.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.said = filepath.Join(c.dir, "devnet.out")
	file, err := os.Create(c.said)
	if err != nil {
		t.Fatal(err)
	}
	c.network.Stdout, c.network.Stderr = file, file
	if err := c.network.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = c.network.Wait() // after Ctrl-C make says that it was interrupted
		close(c.ended)
	}()
	t.Cleanup(func() {
		select {
		case <-c.ended:
		default: // the test failed
			_ = syscall.Kill(-c.network.Process.Pid, syscall.SIGKILL)
			<-c.ended
		}
	})
	system.Eventually(t, 3*soon, "make devnet is ready", func() error {
		select {
		case <-c.ended:
			t.Fatalf("make devnet ended: %v\n%s", c.network.ProcessState, c.output())
		default:
		}
		if !strings.Contains(c.output(), "\nready") {
			return errors.New("it has not said so")
		}
		return nil
	})
	return c
}

// output returns what the network has said.
func (c *clone) output() string {
	c.t.Helper()
	b, err := os.ReadFile(c.said)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

// interrupt is Ctrl-C, which reaches make and the network alike.
func (c *clone) interrupt() {
	c.t.Helper()
	if err := syscall.Kill(-c.network.Process.Pid, syscall.SIGINT); err != nil {
		c.t.Fatal(err)
	}
	select {
	case <-c.ended:
	case <-time.After(soon):
		c.t.Fatalf("make devnet did not end after Ctrl-C:\n%s", c.output())
	}
}

// TestQuickStartOfTheReadme runs the commands of README.md as they stand.
func TestQuickStartOfTheReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := quickStart(t, string(readme))
	if len(blocks) < 2 {
		t.Fatalf("README.md has no commands for a second terminal: %q", blocks)
	}
	start, _, _ := strings.Cut(blocks[0], "\n") // behind it is make test, which is running
	c := startClone(t, start)
	for _, commands := range blocks[1:] {
		var out bytes.Buffer
		terminal := exec.Command("bash", "-c", commands)
		terminal.Dir, terminal.Env, terminal.Stdout, terminal.Stderr = c.dir, os.Environ(), &out, &out
		timer := time.AfterFunc(soon, func() { _ = terminal.Process.Kill() })
		err := terminal.Run()
		timer.Stop()
		t.Logf("%s=> %.300s", commands, out.String())
		if err != nil {
			t.Fatalf("%v", err)
		}
		if strings.Contains(commands, "echo refused") && !strings.HasSuffix(strings.TrimSpace(out.String()), "refused") {
			t.Error("the forged receipt was not refused")
		}
	}
	ids, err := os.ReadFile(filepath.Join(c.dir, "ids.txt"))
	if err != nil || bytes.Count(ids, []byte("\n")) != 100 {
		t.Errorf("100 messages were submitted, ids.txt has %d lines: %v", bytes.Count(ids, []byte("\n")), err)
	}
	if out, ok := system.Run("verify", filepath.Join(c.dir, "receipt.json"), "--genesis", filepath.Join(c.dir, ".devnet", "genesis.json")); !ok {
		t.Errorf("the receipt does not verify: %s", out)
	}
	c.interrupt()
}
