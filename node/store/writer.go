package store

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/internal/sqlitefile"
)

const (
	// groupOperations and groupBytes bound the operations that share one transaction.
	groupOperations = 256
	groupBytes      = 16 << 20
	// lazyDelay is the longest time that a stronger certificate waits for a transaction to join.
	lazyDelay = 200 * time.Millisecond
)

// An operation is one caller's part of a transaction.
type operation struct {
	run   func(*transaction) error
	bytes int
	// done receives the outcome once the transaction is on disk.
	done chan error
}

// A transaction is what operations write with. It is used by the writer's goroutine alone.
type transaction struct {
	out  *sqlitefile.Writer
	file *sqlitefile.File
	tip  tip // of the final blocks, this transaction's included
	// left are the batches that it takes. With marks set it records the end of the log.
	left  []*waiting
	marks bool
}

func (t *transaction) exec(s *sqlitefile.Statement, args ...any) error {
	_, err := t.out.Exec(s, args...)
	return err
}

// A writer owns the one connection that writes to blocks.db.
type writer struct {
	file    *sqlitefile.File
	out     *sqlitefile.Writer
	logger  *slog.Logger
	seconds prometheus.Observer
	// lazy runs at the end of each transaction, and in one of its own lazyDelay after a poke.
	lazy func(*transaction) error
	// mark runs behind the operations of a transaction that marks, and its failure undoes all.
	mark func(*transaction) error
	// stay is called with the batches that a failed operation or transaction would have taken.
	stay func([]*waiting)
	// durable is called with each transaction on disk.
	durable func(*transaction)
	tip     tip

	queue  chan *operation
	poke   chan struct{}
	mu     sync.RWMutex // of closed and of sending to queue
	closed bool
	done   sync.WaitGroup
}

// submit queues an operation and waits until it is on disk, or refused. If ctx ends first, the
// outcome is unknown.
func (w *writer) submit(ctx context.Context, bytes int, run func(*transaction) error) error {
	op := &operation{run: run, bytes: bytes, done: make(chan error, 1)}
	if err := w.enqueue(ctx, op); err != nil {
		return err
	}
	select {
	case err := <-op.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *writer) enqueue(ctx context.Context, op *operation) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return ErrClosed
	}
	select {
	case w.queue <- op:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close ends the goroutine once everything queued is written.
func (w *writer) close() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.queue)
	}
	w.mu.Unlock()
	w.done.Wait()
}

func (w *writer) loop() {
	var due <-chan time.Time
	for {
		select {
		case op, ok := <-w.queue:
			if !ok {
				w.commit(nil)
				return
			}
			w.commit(w.gather(op))
		case <-w.poke:
			if due == nil {
				due = time.After(lazyDelay)
			}
		case <-due:
			due = nil
			w.commit(nil)
		}
	}
}

// gather takes the other operations in the queue. It never waits: the next group collects by itself
// while a transaction is synced.
func (w *writer) gather(first *operation) []*operation {
	group, bytes := []*operation{first}, first.bytes
	for len(group) < groupOperations && bytes < groupBytes {
		select {
		case op, ok := <-w.queue:
			if !ok {
				return group
			}
			group = append(group, op)
			bytes += op.bytes
		default:
			return group
		}
	}
	return group
}

// commit writes a group in one transaction and answers every caller.
func (w *writer) commit(group []*operation) {
	start := time.Now()
	tx := &transaction{out: w.out, file: w.file, tip: w.tip}
	outcomes := make([]error, len(group))
	err := w.write(tx, group, outcomes)
	if err == nil {
		w.tip = tx.tip
		w.durable(tx)
		w.seconds.Observe(time.Since(start).Seconds())
	} else {
		w.stay(tx.left)
	}
	for i, op := range group {
		op.done <- errors.Join(outcomes[i], err)
	}
}

// write runs the operations in one transaction. Its error is that of all of them; outcomes are of
// those that failed alone.
func (w *writer) write(tx *transaction, group []*operation, outcomes []error) error {
	if err := w.out.Begin(); err != nil {
		return err
	}
	bytes := 0
	for i, op := range group {
		failed, err := w.isolated(tx, op.run)
		if err != nil {
			return errors.Join(err, failed, w.out.Rollback())
		}
		outcomes[i] = failed
		bytes += op.bytes
	}
	if tx.marks {
		if err := w.mark(tx); err != nil {
			return errors.Join(err, w.out.Rollback())
		}
	}
	failed, err := w.isolated(tx, w.lazy)
	if err != nil {
		return errors.Join(err, failed, w.out.Rollback())
	}
	if failed != nil {
		w.logger.Warn("stronger certificates not written: kept for the next transaction", "err", failed)
	}
	if err := w.out.Commit(bytes); err != nil {
		return errors.Join(err, w.out.Rollback())
	}
	return nil
}

// isolated runs one operation so that its failure undoes it alone, as sqlitefile.Writer.Isolate
// does.
func (w *writer) isolated(tx *transaction, run func(*transaction) error) (failed, err error) {
	before, left := tx.tip, len(tx.left)
	failed, err = tx.out.Isolate(func() error { return run(tx) })
	if failed != nil {
		tx.tip = before
		w.stay(tx.left[left:])
		tx.left = tx.left[:left]
	}
	return failed, err
}
