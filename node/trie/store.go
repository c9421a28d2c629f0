package trie

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"modernc.org/sqlite"
)

const (
	applicationID = 0x44535154 // "DSQT" in the file's header
	schemaVersion = 1

	sqliteCorrupt = 11 // result codes of SQLite, https://sqlite.org/rescode.html
	sqliteNotADB  = 26
)

const schema = `
CREATE TABLE meta (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  chain BLOB NOT NULL,
  height INTEGER NOT NULL,
  leaves INTEGER NOT NULL,
  pages INTEGER NOT NULL,
  slots BLOB NOT NULL,
  base_height INTEGER NOT NULL,
  base BLOB NOT NULL
) STRICT;
CREATE TABLE page (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE change (height INTEGER PRIMARY KEY, frontier BLOB NOT NULL) STRICT;
CREATE TABLE milestone (height INTEGER PRIMARY KEY, frontier BLOB NOT NULL) STRICT;
`

// state is the meta row: all that is not in pages. Heights after base_height up
// to height have a row in change if they changed anything.
type state struct {
	chain                             []byte
	height, leaves, pages, baseHeight uint64
	slots, base                       []byte
}

// store is the SQLite file. A page's row is its newest flushed contents.
type store struct {
	lock       *os.File
	read       *sql.DB
	write      *sql.DB // one connection, so that reads never wait for a flush
	readPage   *sql.Stmt
	checkpoint chan error // answered once by the checkpoint under way, nil: none
}

func openStore(ctx context.Context, path string, chain [32]byte) (_ *store, _ *state, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, nil, err
	}
	s := &store{}
	defer func() {
		if err != nil {
			_ = s.close() // the first error says more
		}
	}()
	if s.lock, err = lockFile(path + ".lock"); err != nil {
		return nil, nil, err
	}
	exists, err := checkFile(ctx, path, chain)
	if err != nil {
		return nil, nil, err
	}
	if s.write, err = sql.Open("sqlite", dataSource(path, "rwc",
		// Three or four pages of the trie to one of SQLite's: half the system calls of 4 KiB.
		"page_size(8192)",
		// One commit a flush: its checkpoint must not stall Append, see flush.go.
		"journal_mode(WAL)", "synchronous(NORMAL)", "wal_autocheckpoint(0)", "journal_size_limit(16777216)",
		"busy_timeout(10000)")); err != nil {
		return nil, nil, err
	}
	s.write.SetMaxOpenConns(1)
	if !exists {
		if err = s.create(ctx, chain); err != nil {
			return nil, nil, classify("create", err)
		}
		if err = os.Chmod(path, 0o600); err != nil {
			return nil, nil, fmt.Errorf("trie: %w", err)
		}
	}
	if s.read, err = sql.Open("sqlite", dataSource(path, "rw", "query_only(1)", "busy_timeout(10000)")); err != nil {
		return nil, nil, err
	}
	s.read.SetMaxOpenConns(3)
	s.read.SetMaxIdleConns(3)
	if s.readPage, err = s.read.PrepareContext(ctx, "SELECT body FROM page WHERE id = ?"); err != nil {
		return nil, nil, classify("prepare", err)
	}
	st, err := readState(ctx, s.read)
	return s, st, err
}

func dataSource(path, mode string, pragmas ...string) string {
	q := url.Values{"mode": {mode}, "_pragma": pragmas}
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: q.Encode()}).String()
}

// lockFile holds off other processes, and other tries of this one. The lock
// ends with the process, so that a stale file means nothing.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}

// checkFile tells, without changing it, whether the file can be used; one that
// is not there, or in which no schema was ever committed, does not exist.
func checkFile(ctx context.Context, path string, chain [32]byte) (exists bool, err error) {
	fi, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !fi.Mode().IsRegular() {
		return false, fmt.Errorf("not a regular file: %s", fi.Mode().Type())
	}
	db, err := sql.Open("sqlite", dataSource(path, "ro", "busy_timeout(10000)"))
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var application, version, tables int
	row := db.QueryRowContext(ctx, `SELECT a.application_id, v.user_version, (SELECT count(*) FROM sqlite_schema)
		FROM pragma_application_id() a, pragma_user_version() v`)
	if err := row.Scan(&application, &version, &tables); err != nil {
		return false, classify("read header", err)
	}
	switch {
	case application == 0 && version == 0 && tables == 0:
		return false, nil
	case application != applicationID:
		return false, fmt.Errorf("%w: SQLite application id %#x, want %#x", ErrCorrupt, application, applicationID)
	case version > schemaVersion:
		return false, fmt.Errorf("%w: schema %d, newest known %d", ErrNewerSchema, version, schemaVersion)
	case version != schemaVersion:
		return false, fmt.Errorf("%w: schema %d", ErrCorrupt, version)
	}
	st, err := readState(ctx, db)
	if err != nil {
		return false, err
	}
	if string(st.chain) != string(chain[:]) {
		return false, fmt.Errorf("%w: %x, want %x", ErrWrongChain, st.chain, chain)
	}
	return true, nil
}

func readState(ctx context.Context, db *sql.DB) (*state, error) {
	st := &state{}
	err := db.QueryRowContext(ctx, "SELECT chain, height, leaves, pages, slots, base_height, base FROM meta").
		Scan(&st.chain, &st.height, &st.leaves, &st.pages, &st.slots, &st.baseHeight, &st.base)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("%w: no meta row", ErrCorrupt)
	}
	if err != nil {
		return nil, classify("read meta", err)
	}
	return st, nil
}

func (s *store) create(ctx context.Context, chain [32]byte) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	header := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;", applicationID, schemaVersion)
	if _, err := tx.ExecContext(ctx, header+schema); err != nil {
		return err
	}
	empty := &Trie{}
	if _, err := tx.ExecContext(ctx, `INSERT INTO meta (id, chain, height, leaves, pages, slots, base_height, base)
		VALUES (1, ?, 0, 0, 0, ?, 0, ?)`,
		chain[:], empty.encodeSlots(), encodeFrontier(&empty.frontier)); err != nil {
		return err
	}
	return tx.Commit()
}

// write changes everything but the chain.
func (st *state) write(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "UPDATE meta SET height = ?, leaves = ?, pages = ?, slots = ?, base_height = ?, base = ?",
		st.height, st.leaves, st.pages, st.slots, st.baseHeight, st.base)
	return err
}

// page reads a page that the cache does not hold.
func (s *store) page(id uint64) (*page, error) {
	var body sql.RawBytes
	rows, err := s.readPage.QueryContext(context.Background(), id)
	if err != nil {
		return nil, classify(fmt.Sprintf("read page %d", id), err)
	}
	defer func() { _ = rows.Close() }() // rows.Err is checked
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return nil, classify(fmt.Sprintf("read page %d", id), err)
		}
		return nil, fmt.Errorf("%w: page %d is missing", ErrCorrupt, id)
	}
	if err := rows.Scan(&body); err != nil {
		return nil, classify(fmt.Sprintf("read page %d", id), err)
	}
	p, err := decodePage(id, body)
	if err != nil {
		return nil, fmt.Errorf("%w: page %d: %w", ErrCorrupt, id, err)
	}
	return p, nil
}

// milestone reads the trie's top at a height divisible by MilestoneHeights.
func (s *store) milestone(height uint64) (*frontier, error) {
	var row []byte
	err := s.read.QueryRowContext(context.Background(), "SELECT frontier FROM milestone WHERE height = ?", height).Scan(&row)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("%w: milestone %d is missing", ErrCorrupt, height)
	}
	if err != nil {
		return nil, classify(fmt.Sprintf("read milestone %d", height), err)
	}
	f := new(frontier)
	if err := decodeFrontier(row, f.set); err != nil {
		return nil, fmt.Errorf("%w: milestone %d: %w", ErrCorrupt, height, err)
	}
	f.rehashAll()
	return f, nil
}

// restore takes over what the file holds.
func (t *Trie) restore(st *state) error {
	slots, err := decodeSlots(st.slots)
	if err != nil {
		return fmt.Errorf("%w: slots: %w", ErrCorrupt, err)
	}
	t.height, t.flushed, t.captured = st.height, st.height, st.height
	t.floor, t.leaves, t.pages = st.baseHeight, st.leaves, st.pages
	note := func(height uint64) func(uint8, [32]byte) {
		return func(slot uint8, hash [32]byte) {
			t.slots[slot].versions = append(t.slots[slot].versions, version{height, hash})
		}
	}
	if err := decodeFrontier(st.base, note(st.baseHeight)); err != nil {
		return fmt.Errorf("%w: base %d: %w", ErrCorrupt, st.baseHeight, err)
	}
	rows, err := t.store.read.Query(`SELECT height, frontier FROM change
		WHERE height > ? AND height <= ? ORDER BY height`, st.baseHeight, st.height)
	if err != nil {
		return classify("read changes", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err is checked
	for rows.Next() {
		var height uint64
		var row []byte
		if err := rows.Scan(&height, &row); err != nil {
			return classify("read changes", err)
		}
		if err := decodeFrontier(row, note(height)); err != nil {
			return fmt.Errorf("%w: change at height %d: %w", ErrCorrupt, height, err)
		}
	}
	if err := rows.Err(); err != nil {
		return classify("read changes", err)
	}
	for i := range slots {
		s := &t.slots[i]
		s.child = slots[i]
		if n := len(s.versions); (n == 0) != (s.id == 0) || n > 0 && s.versions[n-1].hash != s.hash {
			return fmt.Errorf("%w: slot %d is not what its last change says", ErrCorrupt, i)
		}
		t.frontier.set(uint8(i), s.hash)
	}
	t.frontier.rehashAll()
	return nil
}

// startCheckpoint copies the WAL into the file beside the appends that follow;
// awaitCheckpoint, before the next flush or close, ends it.
func (s *store) startCheckpoint() {
	done := make(chan error, 1)
	s.checkpoint = done
	go func() {
		_, err := s.write.Exec("PRAGMA wal_checkpoint(PASSIVE)")
		done <- err
	}()
}

func (s *store) awaitCheckpoint() error {
	if s.checkpoint == nil {
		return nil
	}
	err := <-s.checkpoint
	s.checkpoint = nil
	if err != nil {
		return classify("checkpoint", err)
	}
	return nil
}

func (s *store) close() error {
	errs := []error{s.awaitCheckpoint()}
	if s.readPage != nil {
		errs = append(errs, s.readPage.Close())
	}
	if s.read != nil {
		errs = append(errs, s.read.Close())
	}
	if s.write != nil {
		errs = append(errs, s.write.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// classify tells damage from other errors of SQLite.
func classify(operation string, err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		if code := e.Code() & 0xff; code == sqliteCorrupt || code == sqliteNotADB {
			return fmt.Errorf("%w: %s: %w", ErrCorrupt, operation, err)
		}
	}
	return fmt.Errorf("%s: %w", operation, err)
}
