package verify

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// A peer may have as many signatures checked as rounds and heights need, and one that sends valid
// votes without end waits. Nothing that it sends is lost, and no other peer waits for it.
//
// Promise 50.
func TestSignaturesOfAPeerAreCheckedWithinABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEras(3)
		v := New(chainID, e.height, e.setAt)
		// One vote is signed and the others are copies of it: a signature takes more time to make
		// than to be refused, and a wrong one costs the same check. Only 1,000 checks are left.
		v.budgetOf(sender, 4).left = 1000
		round := uint32(0)
		votes := func(n int) *chain.Bundle {
			b := &chain.Bundle{}
			for range n {
				vote := e.vote(chain.Nullify, 4, 0, 'a')
				vote.Round = round
				vote.Sign(key('a'), chainID)
				b.Votes = append(b.Votes, vote)
				round++
			}
			return b
		}
		send := func(from chain.PublicKey, b *chain.Bundle) time.Duration {
			began := time.Now()
			r, _, err := v.Bundle(t.Context(), from, b)
			if err != nil || len(r.Bundle.Votes) != len(b.Votes) {
				t.Fatalf("%d of %d votes passed on: %v", len(r.Bundle.Votes), len(b.Votes), err)
			}
			if took := time.Since(began); took != r.Waited {
				t.Errorf("the peer waited for %v, the result has %v", took, r.Waited)
			}
			return r.Waited
		}
		first := votes(1000)
		if took := send(sender, first); took != 0 {
			t.Errorf("within its budget the peer waited for %v", took)
		}
		perSecond := checksPerSecond + checksOfEach*4
		if took := send(sender, votes(perSecond)).Round(time.Millisecond); took != time.Second {
			t.Errorf("the checks of a second took %v", took)
		}
		if took := send(chain.PublicKey{8}, votes(10)); took != 0 {
			t.Errorf("another peer waited for %v", took)
		}
		// Repeated votes cost little, and are bounded all the same.
		if took := send(sender, first).Round(10 * time.Millisecond); took != time.Duration(1000*lookupCost/float64(perSecond)*float64(time.Second)).Round(10*time.Millisecond) {
			t.Errorf("1,000 repeated votes took %v", took)
		}
		// The chain went on: a round may bring a few votes of each validator.
		e.tip += 2
		if took := send(sender, first).Round(time.Millisecond); took != 0 {
			t.Errorf("after two heights the peer waited for %v", took)
		}
	})
}

// A peer that is gone waits no longer.
func TestTheWaitOfAPeerEndsWithItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEras(3)
		v := New(chainID, e.height, e.setAt)
		v.budgetOf(sender, 4).left = -1e9
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, _, err := v.Bundle(ctx, sender, &chain.Bundle{Votes: []chain.Vote{e.vote(chain.Nullify, 4, 0, 'a')}})
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, chain.ErrSignature) {
			t.Errorf("%v, want the end of the context, which is no fault of the peer", err)
		}
	})
}
