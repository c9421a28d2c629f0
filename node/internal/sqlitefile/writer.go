package sqlitefile

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
)

// A Statement is one that a Writer prepares once. Statements are package variables, so that a
// mistyped name does not compile.
type Statement struct {
	// Name is what errors call it.
	Name string
	SQL  string
}

var (
	begin     = &Statement{"begin", "BEGIN IMMEDIATE"}
	commit    = &Statement{"commit", "COMMIT"}
	rollback  = &Statement{"roll back", "ROLLBACK"}
	savepoint = &Statement{"begin an operation", "SAVEPOINT operation"}
	release   = &Statement{"end an operation", "RELEASE operation"}
	undo      = &Statement{"undo an operation", "ROLLBACK TO operation"}
)

// A Writer is the one connection that writes to a file, with a checkpointer beside it. One
// goroutine at a time may use it.
type Writer struct {
	file     *File
	db       *sql.DB
	conn     *sql.Conn
	prepared map[*Statement]*sql.Stmt
	points   *checkpointer
}

// OpenWriter opens the writer of a file, and makes durable what is in it. Failed checkpoints go to
// the logger.
func (f *File) OpenWriter(logger *slog.Logger) (*Writer, error) {
	if err := f.settle(); err != nil {
		return nil, err
	}
	db, err := f.OpenWriting(2, nil) // the writer's connection and the checkpointer's
	if err != nil {
		return nil, err
	}
	w := &Writer{file: f, db: db, prepared: map[*Statement]*sql.Stmt{}}
	if w.conn, err = db.Conn(context.Background()); err != nil {
		return nil, errors.Join(f.Explain("open", err), w.Close())
	}
	if w.points, err = f.startCheckpointer(context.Background(), db, logger); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *Writer) prepare(s *Statement) (*sql.Stmt, error) {
	if stmt := w.prepared[s]; stmt != nil {
		return stmt, nil
	}
	stmt, err := w.conn.PrepareContext(context.Background(), s.SQL)
	if err != nil {
		return nil, w.file.Explain("prepare "+s.Name, err)
	}
	w.prepared[s] = stmt
	return stmt, nil
}

// Exec runs a statement.
func (w *Writer) Exec(s *Statement, args ...any) (sql.Result, error) {
	stmt, err := w.prepare(s)
	if err != nil {
		return nil, err
	}
	r, err := stmt.ExecContext(context.Background(), args...)
	return r, w.file.Explain(s.Name, err)
}

// QueryRow runs a statement that returns one row, and scans it into dest. Without a row its error
// wraps sql.ErrNoRows.
func (w *Writer) QueryRow(s *Statement, args []any, dest ...any) error {
	stmt, err := w.prepare(s)
	if err != nil {
		return err
	}
	return w.file.Explain(s.Name, stmt.QueryRowContext(context.Background(), args...).Scan(dest...))
}

func (w *Writer) run(s *Statement) error {
	_, err := w.Exec(s)
	return err
}

// Begin begins a transaction.
func (w *Writer) Begin() error { return w.run(begin) }

// Commit makes the transaction durable. bytes is about how much it wrote: it decides when the log
// is moved into the database. After an error the transaction is still open.
func (w *Writer) Commit(bytes int) error {
	if err := w.run(commit); err != nil {
		return err
	}
	w.points.wrote(bytes, w.conn)
	return nil
}

// Rollback ends a transaction that failed. If SQLite has ended it already, it does nothing.
func (w *Writer) Rollback() error {
	err := w.run(rollback)
	if err != nil && strings.Contains(err.Error(), "no transaction is active") {
		return nil
	}
	return err
}

// Isolate runs one operation of a transaction so that its failure undoes it alone. failed is the
// operation's own error; err means that SQLite has given up the whole transaction, as it does when
// the disk is full.
func (w *Writer) Isolate(operation func() error) (failed, err error) {
	if err := w.run(savepoint); err != nil {
		return nil, err
	}
	if failed = operation(); failed != nil {
		if err := w.run(undo); err != nil {
			return failed, err
		}
	}
	return failed, w.run(release)
}

// Close closes the writer. All that was committed moves into the database if nobody else has the
// file open.
func (w *Writer) Close() error {
	var errs []error
	if w.points != nil {
		errs = append(errs, w.points.close())
	}
	// A statement keeps its file open even after its connection is closed.
	for _, stmt := range w.prepared {
		errs = append(errs, stmt.Close())
	}
	if w.conn != nil {
		errs = append(errs, w.conn.Close())
	}
	return errors.Join(append(errs, w.db.Close())...)
}
