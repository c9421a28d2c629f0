// Package repair replaces final blocks that are damaged on disk by copies from peers, while the
// node runs.
//
// It promises that a reader of a damaged block gets the block once a copy is in its place, that a
// damaged block is logged and counted once, and that the node reports itself as not ready in
// between (Reason). A copy counts only if its certificate verifies and it fits the chain that this
// node has. A copy that does not fit ends the node, unless the era of its height is over: keys of
// validators that left may have been stolen since. Damage that no copy repairs ends the node, or
// keeps it from being ready.
//
// It does not look for damage: a block that nobody reads is found by its next reader.
package repair

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/tasks"
	"github.com/diseq/diseq/node/internal/wait"
	"github.com/diseq/diseq/node/store"
)

// Config is what Blocks is made of.
type Config struct {
	Store *store.Store
	Tasks *tasks.Group
	// Over reports whether the validator set of a height is not in force any more.
	Over func(height uint64) bool
	// Found counts the damage that was found, by what is damaged.
	Found  *prometheus.CounterVec
	Logger *slog.Logger
}

// The kinds of damage, as the metric's label names them.
const (
	WhatBlock    = "block"
	WhatDatabase = "database"
)

// Fetch calls use with copies of the final block of a height, from one peer after the other, until
// it returns nil. Their certificates are verified.
type Fetch func(ctx context.Context, height uint64, use func(*chain.FinalBlock) error) error

// Blocks are the final blocks of a store. A read of a damaged block waits until the block is
// replaced, or for its context. Its methods may be called from any goroutine.
type Blocks struct {
	cfg   Config
	fatal chan error

	mu    sync.Mutex
	fetch Fetch
	// damaged are the heights under repair. Each channel is closed when a copy is stored.
	damaged map[uint64]chan struct{}
	// lasting is damage that no copy repairs.
	lasting error
}

// New returns the blocks of a store. Until Start, a read of a damaged block fails at once: a node
// does not start on a block that it needs and cannot read.
func New(cfg Config) *Blocks {
	return &Blocks{cfg: cfg, fatal: make(chan error, 1), damaged: map[uint64]chan struct{}{}}
}

// Start makes reads repair what they find from now on.
func (b *Blocks) Start(fetch Fetch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fetch = fetch
}

// Run returns an error that must end the node: its database takes no writes any more, or a peer has
// shown another final block. It returns nil when ctx ends.
func (b *Blocks) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-b.fatal:
		return err
	}
}

// Reason returns why damage keeps the node from being ready, nil if there is none.
func (b *Blocks) Reason() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.lasting != nil:
		return fmt.Errorf("a database is damaged, see docs/operations.md: %w", b.lasting)
	case len(b.damaged) > 0:
		return fmt.Errorf("block %d is damaged: fetching a copy from the peers", slices.Min(slices.Collect(maps.Keys(b.damaged))))
	}
	return nil
}

// Block reads a final block.
func (b *Blocks) Block(ctx context.Context, height uint64) (*chain.FinalBlock, error) {
	return read(ctx, b, func() (*chain.FinalBlock, error) { return b.cfg.Store.Block(ctx, height) })
}

// Head reads a final block without its messages.
func (b *Blocks) Head(ctx context.Context, height uint64) (*chain.Block, error) {
	return read(ctx, b, func() (*chain.Block, error) { return b.cfg.Store.Head(ctx, height) })
}

// Certificate reads the strongest finalization of a block.
func (b *Blocks) Certificate(ctx context.Context, height uint64) (*chain.Certificate, error) {
	return read(ctx, b, func() (*chain.Certificate, error) { return b.cfg.Store.Certificate(ctx, height) })
}

func read[T any](ctx context.Context, b *Blocks, read func() (T, error)) (T, error) {
	for {
		v, err := read()
		replaced := b.Note(err)
		if replaced == nil {
			return v, err
		}
		select {
		case <-replaced:
		case <-ctx.Done():
			return v, err
		}
	}
}

// Note looks at the error of a read that does not wait. If the error names a damaged block, the
// repair begins, and the channel that Note returns is closed once a copy is stored. It is nil for
// any other error. Damage to anything but a block stays: the node is not ready any more.
func (b *Blocks) Note(err error) (replaced <-chan struct{}) {
	if !errors.Is(err, store.ErrCorrupt) {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fetch == nil {
		return nil
	}
	damage, ok := errors.AsType[*store.DamagedBlockError](err)
	if !ok {
		if b.lasting == nil {
			b.lasting = err
			b.cfg.Found.WithLabelValues(WhatDatabase).Inc()
			b.cfg.Logger.Error("a database is damaged, and no peer has a copy of what is lost: replace the disk, and let this node rejoin",
				"err", err)
		}
		return nil
	}
	if under, ok := b.damaged[damage.Height]; ok {
		return under
	}
	b.cfg.Found.WithLabelValues(WhatBlock).Inc()
	b.cfg.Logger.Error("a final block is damaged on disk: fetching a copy from the peers", "height", damage.Height, "err", err)
	done := make(chan struct{})
	b.damaged[damage.Height] = done
	fetch := b.fetch
	b.cfg.Tasks.Go(func(ctx context.Context) { b.repair(ctx, damage.Height, fetch, done) })
	return done
}

// firstPause and lastPause are the pauses between two attempts to get a copy.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 30 * time.Second
)

// repair replaces one block. It tries again until it succeeds or the node stops.
func (b *Blocks) repair(ctx context.Context, height uint64, fetch Fetch, done chan<- struct{}) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		end, err := b.replace(ctx, height, fetch)
		switch {
		case ctx.Err() != nil:
			return
		case end != nil:
			select {
			case b.fatal <- end:
			default: // one is enough
			}
			return
		case err == nil:
			b.mu.Lock()
			delete(b.damaged, height)
			b.mu.Unlock()
			b.cfg.Logger.Info("damaged block replaced by a copy from a peer", "height", height)
			close(done)
			return
		}
		b.cfg.Logger.Warn("damaged block not replaced yet", "height", height, "next_attempt", pause, "err", err)
		if wait.For(ctx, pause) != nil {
			return
		}
	}
}

// replace puts a copy in the place of a block. end is an error that must end the node, err one
// after which another attempt may succeed.
func (b *Blocks) replace(ctx context.Context, height uint64, fetch Fetch) (end, err error) {
	err = fetch(ctx, height, func(f *chain.FinalBlock) error {
		err := b.cfg.Store.Replace(ctx, f)
		if errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrContradicts) && !b.cfg.Over(height) {
			end = err
			return nil
		}
		return err
	})
	return end, err
}
