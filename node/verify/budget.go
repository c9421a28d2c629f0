package verify

import (
	"context"
	"sync"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/wait"
)

// A peer has a budget of signature checks. It grows with time and with the chain, because an honest
// peer brings as many signatures as rounds and heights need. A peer that has used it up waits, and
// so do the messages behind: nothing is lost. A vote that was checked before costs a small part of
// a check, so that repeating messages is bounded, too.
const (
	checksPerSecond = 200 // and ...
	checksOfEach    = 8   // ... for each validator of the open height
	// checksPerHeight is for each validator, too. At most three votes of each validator are new in
	// a round, whoever brings them first.
	checksPerHeight = 4
	// checksAtOnce is what a budget has at most: the certificates of a height that has failed for
	// hours.
	checksAtOnce = 8192
	lookupCost   = 0.02
)

// budget is that of one peer.
type budget struct {
	mu     sync.Mutex
	left   float64
	at     time.Time
	height uint64
}

func newBudget(height uint64) *budget {
	return &budget{left: checksAtOnce, at: time.Now(), height: height}
}

// take takes checks from the budget, after a wait if there are not as many. It returns how long it
// waited.
func (b *budget) take(ctx context.Context, checks float64, height uint64, validators int) (time.Duration, error) {
	b.mu.Lock()
	now := time.Now()
	perSecond := float64(checksPerSecond + checksOfEach*validators)
	b.left += perSecond * now.Sub(b.at).Seconds()
	b.at = now
	if height > b.height {
		b.left += float64(checksPerHeight*validators) * float64(height-b.height)
		b.height = height
	}
	b.left = min(b.left, checksAtOnce) - checks
	debt := -b.left
	b.mu.Unlock()
	if debt <= 0 {
		return 0, nil
	}
	pause := time.Duration(debt / perSecond * float64(time.Second))
	return pause, wait.For(ctx, pause)
}

// budgetOf returns the budget of a peer.
func (v *Verifier) budgetOf(from chain.PublicKey, height uint64) *budget {
	v.mu.Lock()
	defer v.mu.Unlock()
	b := v.budgets[from]
	if b == nil {
		b = newBudget(height)
		v.budgets[from] = b
	}
	return b
}
