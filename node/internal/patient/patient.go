// Package patient makes the writes that a node cannot continue without wait for space: a full disk
// stops a node's votes and blocks for a time, never the node.
package patient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/wait"
	"github.com/diseq/diseq/node/store"
)

// Writer repeats writes for as long as the disk is full.
type Writer struct {
	// Ctx ends when the node stops: then a write that waits fails.
	Ctx context.Context
	// Full counts the writes that failed for lack of space.
	Full   prometheus.Counter
	Logger *slog.Logger

	waiting atomic.Int32 // writes that wait
}

// Waiting returns an error while a write waits for space: the node does not vote then.
func (w *Writer) Waiting() error {
	if w.waiting.Load() > 0 {
		return errors.New("the disk is full: the node waits for space to write votes and blocks")
	}
	return nil
}

// retryInterval is how often a write is repeated while the disk is full.
const retryInterval = time.Second

// Store is a store whose commits wait for space.
type Store struct {
	*store.Store
	Disk *Writer
}

// Commit makes a block durable.
func (s Store) Commit(ctx context.Context, c chain.Commit) error {
	return s.Disk.write("block", func() error { return s.Store.Commit(ctx, c) })
}

// Votes is a vote store whose records wait for space.
type Votes struct {
	*store.Votes
	Disk *Writer
}

// Append makes records durable.
func (v Votes) Append(records ...chain.Record) error {
	return v.Disk.write("vote", func() error { return v.Votes.Append(records...) })
}

// write carries out a write. While it waits nothing leaves this node, and the other validators
// continue without it.
func (w *Writer) write(what string, write func() error) error {
	for waiting := false; ; waiting = true {
		err := write()
		if !errors.Is(err, store.ErrDiskFull) {
			if err != nil {
				return fmt.Errorf("%s not written: %w", what, err)
			}
			if waiting {
				w.Logger.Info("there is space on the disk again: this node continues")
			}
			return nil
		}
		w.Full.Inc()
		if !waiting {
			w.Logger.Error("the disk is full: this node waits for space", "write", what, "err", err)
			w.waiting.Add(1)
			defer w.waiting.Add(-1)
		}
		if wait.For(w.Ctx, retryInterval) != nil {
			return err
		}
	}
}
