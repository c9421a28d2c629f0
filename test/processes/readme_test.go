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

// TestQuickStartOfTheReadme runs the commands of README.md as they stand, in a copy of the
// checkout's outline: the network's files are in a temporary directory, and all but make runs
// there.
func TestQuickStartOfTheReadme(t *testing.T) {
	for _, port := range []string{"18080", "18081", "18082", "18083"} {
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			skipped.Test(t, "the ports of README.md are in use: %v", err)
		}
		_ = l.Close() // nothing was accepted
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := quickStart(t, string(readme))
	if len(blocks) < 2 || !strings.HasPrefix(blocks[0], "make devnet") {
		t.Fatalf("README.md does not begin with make devnet: %q", blocks)
	}
	dir := t.TempDir()
	environment := append(os.Environ(), "BIN="+filepath.Join(dir, "bin"), "DEVNET_DIR="+filepath.Join(dir, ".devnet"))
	start, _, _ := strings.Cut(blocks[0], "\n") // behind it is make test, which is running
	network := exec.Command("bash", "-c", start)
	network.Dir, network.Env = root, environment
	network.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	output := filepath.Join(dir, "devnet.out")
	file, err := os.Create(output)
	if err != nil {
		t.Fatal(err)
	}
	network.Stdout, network.Stderr = file, file
	if err := network.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = network.Wait() // after Ctrl-C make says that it was interrupted
		close(ended)
	}()
	t.Cleanup(func() {
		select {
		case <-ended:
		default: // the test failed
			_ = syscall.Kill(-network.Process.Pid, syscall.SIGKILL)
			<-ended
		}
	})
	said := func() string {
		b, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	system.Eventually(t, 3*soon, "make devnet is ready", func() error {
		select {
		case <-ended:
			t.Fatalf("make devnet ended: %v\n%s", network.ProcessState, said())
		default:
		}
		if !strings.Contains(said(), "\nready") {
			return errors.New("it has not said so")
		}
		return nil
	})
	for _, commands := range blocks[1:] {
		var out bytes.Buffer
		terminal := exec.Command("bash", "-c", commands)
		terminal.Dir, terminal.Env, terminal.Stdout, terminal.Stderr = dir, os.Environ(), &out, &out
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
	ids, err := os.ReadFile(filepath.Join(dir, "ids.txt"))
	if err != nil || bytes.Count(ids, []byte("\n")) != 100 {
		t.Errorf("100 messages were submitted, ids.txt has %d lines: %v", bytes.Count(ids, []byte("\n")), err)
	}
	if out, ok := system.Run("verify", filepath.Join(dir, "receipt.json"), "--genesis", filepath.Join(dir, ".devnet", "genesis.json")); !ok {
		t.Errorf("the receipt does not verify: %s", out)
	}
	// Ctrl-C reaches make and the network alike.
	if err := syscall.Kill(-network.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(soon):
		t.Fatalf("make devnet did not end after Ctrl-C:\n%s", said())
	}
}
