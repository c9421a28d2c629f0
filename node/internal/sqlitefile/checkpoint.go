package sqlitefile

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"sync/atomic"
)

const (
	// logSoft is how many bytes the writer writes before the checkpointer moves them from the
	// write-ahead log into the database.
	logSoft = 4 << 20
	// logHard is the size of the log, in bytes, from which on the writer itself runs the checkpoint
	// and waits for it.
	logHard = 16 << 20
)

// A checkpointer moves pages from the write-ahead log into the database on a connection of its own,
// so that no commit waits for it: a passive checkpoint takes no lock that a writer needs. Under
// unbroken writing it never catches the end of the log, which then grows; past logHard it asks the
// writer to stop for one.
type checkpointer struct {
	file    *File
	conn    *sql.Conn
	logger  *slog.Logger
	hard    int64
	wake    chan struct{}
	stop    chan struct{}
	done    sync.WaitGroup
	written int64 // by the writer, since the last wake
	overdue atomic.Bool
}

func (f *File) startCheckpointer(ctx context.Context, db *sql.DB, logger *slog.Logger) (*checkpointer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, f.Explain("open", err)
	}
	c := &checkpointer{
		file: f, conn: conn, logger: logger, hard: logHard, wake: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	c.done.Go(c.run)
	return c, nil
}

func (c *checkpointer) run() {
	for {
		select {
		case <-c.stop:
			return
		case <-c.wake:
		}
		if err := c.file.Checkpoint(c.conn); err != nil {
			c.logger.Warn("checkpoint failed", "err", err)
		}
		if _, log, err := c.file.Sizes(); err == nil && log > c.hard {
			c.overdue.Store(true)
		}
	}
}

// wrote is called by the writer after each commit. It runs the checkpoint itself if the log has
// become too long.
func (c *checkpointer) wrote(bytes int, writer *sql.Conn) {
	c.written += int64(bytes)
	if c.overdue.Swap(false) {
		// With no writer beside it the checkpoint reaches the end, and the next commit starts the
		// log again.
		if err := c.file.Checkpoint(writer); err != nil {
			c.logger.Warn("checkpoint failed", "err", err)
		}
		c.written = 0
		return
	}
	if c.written < logSoft {
		return
	}
	select {
	case c.wake <- struct{}{}:
		c.written = 0
	default: // one is under way
	}
}

func (c *checkpointer) close() error {
	close(c.stop)
	c.done.Wait()
	return c.conn.Close()
}

// Checkpoint moves what it can from the write-ahead log into the database, without waiting for
// readers or writers.
func (f *File) Checkpoint(conn interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}) error {
	var busy, log, moved int
	return f.Explain("checkpoint", conn.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &log, &moved))
}
