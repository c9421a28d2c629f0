package gossip

import (
	"context"
	"sync"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/tasks"
	"github.com/diseq/diseq/node/internal/wait"
	"github.com/diseq/diseq/node/mempool"
)

// Pushes brings to each peer the batches that the peer has not acknowledged: all of them when its
// link opens, and later those that it refused or for which there was no room.
type Pushes struct {
	pool    *mempool.Pool
	network Network
	tasks   *tasks.Group

	mu sync.Mutex
	// busy are the peers to which batches are being pushed.
	busy map[chain.PublicKey]bool
}

const (
	// pushBytes bounds the batches that are pushed to a peer at a time.
	pushBytes = 8 << 20
	// pushInterval is how often Run pushes.
	pushInterval = time.Second
)

// NewPushes returns Pushes of a pool's batches.
func NewPushes(pool *mempool.Pool, network Network, tasks *tasks.Group) *Pushes {
	return &Pushes{pool: pool, network: network, tasks: tasks, busy: map[chain.PublicKey]bool{}}
}

// Run pushes again, every second, until ctx ends.
func (p *Pushes) Run(ctx context.Context) {
	for wait.For(ctx, pushInterval) == nil {
		if !p.pool.HasPending() {
			continue
		}
		for _, to := range p.network.Connected() {
			p.start(to, pushInterval)
		}
	}
}

// LinkUp pushes every batch that a peer has not acknowledged.
func (p *Pushes) LinkUp(to chain.PublicKey) { p.start(to, 0) }

// start pushes batches of at least an age to a peer in the background, unless that is under way.
func (p *Pushes) start(to chain.PublicKey, age time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy[to] {
		return
	}
	p.busy[to] = true
	p.tasks.Go(func(ctx context.Context) {
		for _, b := range p.pool.Unacknowledged(to, age, pushBytes) {
			if p.network.Push(ctx, to, b.Hash, b.Data) != nil {
				break // the link is down; LinkUp starts again
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.busy, to)
	})
}
