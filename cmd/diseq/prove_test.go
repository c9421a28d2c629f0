package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/diseq/diseq/node/vrf"
)

// threadsName starts this test binary as a process that steps aside and then has several threads.
const threadsName = "diseq-threads"

func TestMain(m *testing.M) {
	switch os.Args[0] {
	case proverName:
		os.Exit(serveProof(os.Stdin, os.Stdout, os.Stderr))
	case threadsName:
		os.Exit(showThreads())
	}
	os.Exit(m.Run())
}

// testProver is a prover that starts this test binary.
func testProver(t *testing.T, log io.Writer) *prover {
	t.Helper()
	p, err := newProver(slog.New(slog.NewTextHandler(log, nil)))
	must(t, err)
	return p
}

func newVRFKey(t *testing.T) vrf.SecretKey {
	t.Helper()
	key, err := vrf.NewSecretKey(rand.Reader)
	must(t, err)
	return key
}

func TestANodeMakesAProofInAProcessOfItsOwn(t *testing.T) {
	key, x := newVRFKey(t), vrf.Input("diseq-test", 1, [32]byte{1})
	var log bytes.Buffer
	y, proof, err := testProver(t, &log).Prove(t.Context(), key, x)
	must(t, err)
	must(t, vrf.Verify(key.Public(), x, y, proof))
	if log.Len() > 0 {
		t.Errorf("it was made in this process: %s", &log)
	}
}

func TestANodeMakesAProofItselfIfNoProcessDoes(t *testing.T) {
	key, x := newVRFKey(t), vrf.Input("diseq-test", 2, [32]byte{2})
	for name, program := range map[string]string{
		"no program":      filepath.Join(t.TempDir(), "missing"),
		"another program": "/bin/true", // it fails on no argument, and says nothing
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			p := testProver(t, &log)
			p.program = program
			if _, _, err := p.apart(t.Context(), key, x); err == nil {
				t.Fatal("that program made a proof")
			}
			y, proof, err := p.Prove(t.Context(), key, x)
			must(t, err)
			must(t, vrf.Verify(key.Public(), x, y, proof))
			if !strings.Contains(log.String(), "no process for a VRF proof") {
				t.Errorf("the log says %q", &log)
			}
		})
	}
}

func TestNoProofIsMadeForANodeThatStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var log bytes.Buffer
	if _, _, err := testProver(t, &log).Prove(ctx, newVRFKey(t), [32]byte{3}); err == nil || log.Len() > 0 {
		t.Errorf("error %v, log %q", err, &log)
	}
}

func TestAProofRequestThatCannotBeServedIsRefused(t *testing.T) {
	whole := make([]byte, proofRequest)
	for name, tt := range map[string]struct {
		request []byte
		want    string
	}{
		"nothing":     {nil, "read the request"},
		"cut short":   {whole[:proofRequest-1], "read the request"},
		"no key":      {whole, "secret key is zero"},
		"wrong input": {append(bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{0xff}, 32)...), "input"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := prove(bytes.NewReader(tt.request), &out); err == nil || !strings.Contains(err.Error(), tt.want) || out.Len() > 0 {
				t.Errorf("error %v, %d bytes, want an error with %q", err, out.Len(), tt.want)
			}
		})
	}
}

// showThreads steps aside, makes some threads and prints the priority of each.
func showThreads() int {
	if err := stepAside(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	const threads = 4
	var made, shown sync.WaitGroup
	shown.Add(1)
	made.Add(threads)
	for range threads {
		go func() {
			runtime.LockOSThread()
			made.Done()
			shown.Wait()
		}()
	}
	made.Wait()
	stats, err := filepath.Glob("/proc/self/task/*/stat")
	if err != nil {
		return 1
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		// nice is field 19; the second field ends with a parenthesis.
		fmt.Println(strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[16])
	}
	shown.Done()
	return 0
}

// A thread that kept its priority would hold up the node: Linux has one for each.
func TestAProofRunsBehindTheNode(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a priority for each thread")
	}
	child := exec.Command("/proc/self/exe")
	child.Args = []string{threadsName}
	child.Stderr = os.Stderr
	out, err := child.Output()
	must(t, err)
	priorities := strings.Fields(string(out))
	if len(priorities) < 5 {
		t.Fatalf("%d threads, want more", len(priorities))
	}
	for _, nice := range priorities {
		var n int
		if _, err := fmt.Sscan(nice, &n); err != nil || n < niceness {
			t.Errorf("a thread has priority %q, want at least %d", nice, niceness)
		}
	}
}
