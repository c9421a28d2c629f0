package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"

	"github.com/diseq/diseq/node/vrf"
)

// A proof takes every goroutine's turn for a tenth of a second: the library spreads it over more
// goroutines than there are processors, and Go's scheduler has no priorities. So a node makes its
// proofs in a process of their own, on one processor and behind everything else (docs/decisions/
// 0112). proverName is the name by which this program is started to make one proof.
const proverName = "diseq-prove"

// niceness is the priority of that process: a tenth of the processor time of a node that competes
// with it.
const niceness = 10

// proofRequest is the length of what the process reads: the secret key and the input.
const proofRequest = 64

// serveProof is that process: it reads one request, and writes the output and the proof.
func serveProof(stdin io.Reader, stdout, stderr io.Writer) (code int) {
	// A process that cannot step aside proves all the same.
	if err := stepAside(); err != nil {
		fmt.Fprintf(stderr, "priority not lowered: %v\n", err)
	}
	if err := prove(stdin, stdout); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func prove(stdin io.Reader, stdout io.Writer) error {
	var request [proofRequest]byte
	if _, err := io.ReadFull(stdin, request[:]); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	key, err := vrf.ParseSecretKey(request[:32])
	if err != nil {
		return err
	}
	y, proof, err := vrf.Prove(key, [32]byte(request[32:]))
	if err != nil {
		return err
	}
	_, err = stdout.Write(append(y[:], proof...))
	return err
}

// A prover makes each proof in a process of its own, and in this process if that fails.
type prover struct {
	program string
	log     *slog.Logger
}

func newProver(log *slog.Logger) (*prover, error) {
	program, err := ownProgram()
	return &prover{program: program, log: log}, err
}

// ownProgram is the path of the program that runs, also after an update has replaced its file.
func ownProgram() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

// Prove is a vrf.Proving. It returns early when ctx ends.
func (p *prover) Prove(ctx context.Context, key vrf.SecretKey, x [32]byte) (vrf.Output, vrf.Proof, error) {
	y, proof, err := p.apart(ctx, key, x)
	if err == nil || ctx.Err() != nil {
		return y, proof, err
	}
	p.log.Warn("no process for a VRF proof: this node makes it itself, and answers late meanwhile", "err", err)
	return vrf.Prove(key, x)
}

// apart makes a proof in a process of its own. Only that process's word is known of it: the caller
// verifies a proof before it gives it to anybody.
func (p *prover) apart(ctx context.Context, key vrf.SecretKey, x [32]byte) (y vrf.Output, proof vrf.Proof, err error) {
	k := key.Bytes()
	var answer, said bytes.Buffer
	child := exec.CommandContext(ctx, p.program)
	child.Args = []string{proverName}
	child.Env = append(os.Environ(), "GOMAXPROCS=1")
	child.Stdin, child.Stdout, child.Stderr = bytes.NewReader(append(k[:], x[:]...)), &answer, &said
	child.SysProcAttr = childAttributes()
	if err := child.Run(); err != nil {
		return y, nil, fmt.Errorf("%s: %w: %s", proverName, err, bytes.TrimSpace(said.Bytes()))
	}
	if answer.Len() != len(y)+vrf.MaxProofSize {
		return y, nil, errors.New(proverName + ": the answer is not a proof")
	}
	copy(y[:], answer.Next(len(y)))
	return y, answer.Bytes(), nil
}
