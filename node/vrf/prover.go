package vrf

import (
	"context"
	"sync"
	"time"
)

// Request asks for the proof of one epoch's output.
type Request struct {
	Epoch uint64   // copied into the Result
	Input [32]byte // of Input, for that epoch
}

// Result is the outcome of a Request.
type Result struct {
	Request
	Output  Output
	Proof   Proof
	Err     error         // nil, or the other two are empty
	Elapsed time.Duration // from the start of the proof, waiting for the cores included
}

// Proving makes a proof as [Prove] does, and may return early when ctx ends. Its
// caller verifies the proof.
type Proving func(ctx context.Context, sk SecretKey, x [32]byte) (Output, Proof, error)

// here makes a proof in this process. It cannot be interrupted.
func here(_ context.Context, sk SecretKey, x [32]byte) (Output, Proof, error) { return Prove(sk, x) }

// Prover makes proofs in the background, one at a time, so that none is ever on
// the way of a block. Of the requests that wait, the newest wins: an epoch that is
// overtaken has no more use for its proof. So it holds one running and one waiting
// request, however many arrive.
type Prover struct {
	key     SecretKey
	deliver func(Result)
	waiting chan Request // capacity 1
	submit  sync.Mutex   // held by who fills waiting

	prove Proving
}

// NewProver returns a prover with the validator's key. It makes proofs with prove,
// or in this process if that is nil. It calls deliver with every outcome, from the
// goroutine of Run: no proof is made while deliver has not returned.
func NewProver(key SecretKey, prove Proving, deliver func(Result)) *Prover {
	if prove == nil {
		prove = here
	}
	return &Prover{key: key, deliver: deliver, waiting: make(chan Request, 1), prove: prove}
}

// Submit asks for a proof and returns at once. It replaces a request that is
// still waiting, which is then never answered; one that is being proved is
// finished first. It may be called before Run and from any goroutine.
func (p *Prover) Submit(r Request) {
	p.submit.Lock()
	defer p.submit.Unlock()
	select {
	case <-p.waiting:
	default:
	}
	p.waiting <- r // free: only Submit fills it, under the lock
}

// Run makes proofs until ctx ends. A proof that is being made in this process then
// cannot be interrupted: Run returns when it is finished, a fraction of a second
// later, and drops it.
func (p *Prover) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-p.waiting:
			if ctx.Err() != nil { // both were ready
				return
			}
			result := Result{Request: r}
			start := time.Now()
			result.Output, result.Proof, result.Err = p.prove(ctx, p.key, r.Input)
			result.Elapsed = time.Since(start)
			if ctx.Err() != nil {
				return
			}
			p.deliver(result)
		}
	}
}
