package vrf

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

func TestProverDeliversAProofThatVerifies(t *testing.T) {
	sk := newKey(t)
	results := make(chan Result, 1)
	p := NewProver(sk, nil, func(r Result) { results <- r })
	request := Request{Epoch: 3, Input: Input("diseq-test", 3, [32]byte{1})}
	p.Submit(request) // before Run

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	r := <-results
	cancel()
	wg.Wait()

	if r.Err != nil {
		t.Fatal(r.Err)
	}
	if r.Request != request || r.Elapsed <= 0 {
		t.Errorf("result for %v after %v, want %v", r.Request, r.Elapsed, request)
	}
	if err := Verify(sk.Public(), request.Input, r.Output, r.Proof); err != nil {
		t.Error(err)
	}
}

// slowProver has proofs that last until the test ends them.
type slowProver struct {
	*Prover
	started chan [32]byte
	finish  chan error
	results []Result // read after Run has returned or all goroutines wait
}

func newSlowProver() *slowProver {
	s := &slowProver{started: make(chan [32]byte), finish: make(chan error)}
	s.Prover = NewProver(SecretKey{}, func(_ context.Context, _ SecretKey, x [32]byte) (Output, Proof, error) {
		s.started <- x
		return Output(x), nil, <-s.finish
	}, func(r Result) { s.results = append(s.results, r) })
	return s
}

func request(epoch uint64) Request { return Request{Epoch: epoch, Input: [32]byte{byte(epoch)}} }

func TestProverMakesOneProofAtATimeAndTheNewestRequestWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newSlowProver()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { p.Run(ctx) })

		p.Submit(request(1))
		if x := <-p.started; x != request(1).Input {
			t.Fatalf("proves %x first", x)
		}
		for epoch := range uint64(100) { // none blocks, none starts a second proof
			p.Submit(request(epoch + 2))
		}
		synctest.Wait()
		select {
		case x := <-p.started:
			t.Fatalf("a second proof, of %x, beside the first", x)
		default:
		}
		failure := errors.New("out of memory")
		p.finish <- failure
		if x := <-p.started; x != request(101).Input {
			t.Fatalf("proves %x next, want the newest request", x)
		}
		p.finish <- nil
		synctest.Wait()
		if len(p.results) != 2 || !errors.Is(p.results[0].Err, failure) || p.results[1].Request != request(101) {
			t.Errorf("results %v", p.results)
		}
		cancel()
		wg.Wait()
	})
}

func TestProverEndsWithItsContextAndDropsTheProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newSlowProver()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { p.Run(ctx) })
		p.Submit(request(1))
		<-p.started
		p.Submit(request(2))
		cancel()
		p.finish <- nil
		wg.Wait()
		if len(p.results) != 0 {
			t.Errorf("results %v after the end", p.results)
		}
	})
}
