package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// groupOperations and groupBytes bound what shares one transaction.
	groupOperations = 256
	groupBytes      = 16 << 20
	// lazyDelay is the longest time that a stronger certificate waits for a transaction to join.
	lazyDelay = 200 * time.Millisecond
)

// An operation is one caller's part of a transaction.
type operation struct {
	run   func(*transaction) error
	bytes int
	// done is told the outcome once the transaction is on disk.
	done chan error
}

// A transaction is what operations write with. It is used by the writer's goroutine alone.
type transaction struct {
	stmt statements
	path string
	tip  tip // of the final blocks, this transaction's included
}

func (t *transaction) exec(name string, args ...any) (sql.Result, error) {
	r, err := t.stmt[name].ExecContext(context.Background(), args...)
	return r, explain(t.path, name, err)
}

// A writer owns the one connection that writes to blocks.db.
type writer struct {
	path    string
	conn    *sql.Conn
	stmt    statements
	logger  *slog.Logger
	seconds prometheus.Observer
	points  *checkpointer
	// lazy is run at the end of each transaction, and on its own when it has something left after
	// lazyDelay.
	lazy func(*transaction) error
	// settled is told the tip of each transaction on disk.
	settled func(tip)
	tip     tip

	queue  chan *operation
	poke   chan struct{}
	mu     sync.RWMutex // of closed and of sending to queue
	closed bool
	done   sync.WaitGroup
}

// submit queues an operation and waits until it is on disk, or refused. When ctx ends first the
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

// close lets what is queued be written and ends the goroutine.
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

// gather takes what else is queued. It never waits: while a transaction is synced the next group
// collects by itself.
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

// commit writes a group in one transaction and tells every caller.
func (w *writer) commit(group []*operation) {
	start := time.Now()
	tx := &transaction{stmt: w.stmt, path: w.path, tip: w.tip}
	outcomes := make([]error, len(group))
	err := w.write(tx, group, outcomes)
	if err == nil {
		w.tip = tx.tip
		w.settled(tx.tip)
		w.seconds.Observe(time.Since(start).Seconds())
	}
	bytes := 0
	for i, op := range group {
		op.done <- errors.Join(outcomes[i], err)
		bytes += op.bytes
	}
	if err == nil {
		w.points.wrote(bytes, w.conn)
	}
}

// write runs the operations between BEGIN and COMMIT. Its error is that of all of them; outcomes
// are of those that failed alone.
func (w *writer) write(tx *transaction, group []*operation, outcomes []error) error {
	if err := w.statement("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	for i, op := range group {
		failed, err := w.isolated(tx, op.run)
		if err != nil {
			return errors.Join(err, failed, w.rollback())
		}
		outcomes[i] = failed
	}
	failed, err := w.isolated(tx, w.lazy)
	if err != nil {
		return errors.Join(err, failed, w.rollback())
	}
	if failed != nil {
		w.logger.Warn("certificates not written, kept for the next transaction", "err", failed)
	}
	if err := w.statement("COMMIT"); err != nil {
		return errors.Join(err, w.rollback())
	}
	return nil
}

// isolated runs one operation inside a savepoint. failed is the operation's own error, rolled back
// alone; err means that SQLite has given the whole transaction up, as it does when the disk is
// full.
func (w *writer) isolated(tx *transaction, run func(*transaction) error) (failed, err error) {
	if err := w.statement("SAVEPOINT operation"); err != nil {
		return nil, err
	}
	before := tx.tip
	if failed = run(tx); failed != nil {
		tx.tip = before
		if err := w.statement("ROLLBACK TO operation"); err != nil {
			return failed, err
		}
	}
	return failed, w.statement("RELEASE operation")
}

func (w *writer) statement(name string) error {
	_, err := w.stmt[name].ExecContext(context.Background())
	return explain(w.path, name, err)
}

// rollback ends a transaction that failed. SQLite may have ended it already, and says so with an
// error that tells nothing.
func (w *writer) rollback() error {
	_, err := w.stmt["ROLLBACK"].ExecContext(context.Background())
	if err == nil || noTransaction(err) {
		return nil
	}
	return fmt.Errorf("store: roll back: %w", err)
}
