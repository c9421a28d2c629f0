package trie

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/diseq/diseq/node/internal/sqlitefile"
)

// schema has pages of 8 KiB, each with three or four pages of the trie: half the system calls of
// 4 KiB. Opening does not walk its structure: every page of the trie is checked when it is read.
var schema = sqlitefile.Schema{
	Application: 0x44535154, // "DSQT" in the file's header
	PageSize:    8192,
	Migrations: []string{`
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
`},
}

// state is the meta row: all that is not in pages. Heights after base_height up
// to height have a row in change if they changed anything.
type state struct {
	chain                             []byte
	height, leaves, pages, baseHeight uint64
	slots, base                       []byte
}

// store is the SQLite file. A page's row is its newest flushed contents.
type store struct {
	file       *sqlitefile.File
	lock       *os.File
	read       *sql.DB
	write      *sql.DB // one connection, so that reads never wait for a flush
	readPage   *sql.Stmt
	checkpoint chan error // answered once by the checkpoint under way, nil: none
}

func openStore(ctx context.Context, path string, o Options) (_ *store, _ *state, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, nil, err
	}
	s := &store{file: &sqlitefile.File{Path: path, Schema: &schema}}
	defer func() {
		if err != nil {
			_ = s.close() // the first error says more
		}
	}()
	if s.lock, err = sqlitefile.Lock(path + ".lock"); err != nil {
		return nil, nil, err
	}
	if o.Discard {
		if err = s.file.Remove(); err != nil {
			return nil, nil, err
		}
	}
	if err = s.ready(ctx, o.Chain); err != nil {
		return nil, nil, err
	}
	// A flush is one commit, and its checkpoint must not stall Append (flush.go). A commit lost
	// with the machine's power is computed again.
	if s.write, err = s.file.OpenWriting(1, sqlitefile.Pragmas{"synchronous": "NORMAL"}); err != nil {
		return nil, nil, err
	}
	// Until a connection that writes has opened the file there is no log for readers to share.
	if err = s.write.PingContext(ctx); err != nil {
		return nil, nil, s.file.Explain("open", err)
	}
	if s.read, err = s.file.OpenReading(3); err != nil {
		return nil, nil, err
	}
	if s.readPage, err = s.read.PrepareContext(ctx, "SELECT body FROM page WHERE id = ?"); err != nil {
		return nil, nil, s.file.Explain("prepare", err)
	}
	st, err := s.readState(ctx, s.read)
	return s, st, err
}

// ready creates the file, or inspects it and takes an older schema to the newest.
func (s *store) ready(ctx context.Context, chain [32]byte) error {
	exists, err := s.file.Exists()
	if err != nil {
		return err
	}
	if !exists {
		return s.file.Create(func(tx *sql.Tx) error {
			empty := &Trie{}
			_, err := tx.ExecContext(ctx, `INSERT INTO meta (id, chain, height, leaves, pages, slots, base_height, base)
				VALUES (1, ?, 0, 0, 0, ?, 0, ?)`, chain[:], empty.encodeSlots(), encodeFrontier(&empty.frontier))
			return err
		})
	}
	version, err := s.file.Inspect(func(db *sql.DB) error {
		st, err := s.readState(ctx, db)
		if err == nil && string(st.chain) != string(chain[:]) {
			return fmt.Errorf("%w: its genesis hash is %x, want %x", ErrWrongChain, st.chain, chain)
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.file.Upgrade(version)
}

func (s *store) readState(ctx context.Context, db *sql.DB) (*state, error) {
	st := &state{}
	err := db.QueryRowContext(ctx, "SELECT chain, height, leaves, pages, slots, base_height, base FROM meta").
		Scan(&st.chain, &st.height, &st.leaves, &st.pages, &st.slots, &st.baseHeight, &st.base)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, s.file.Corrupt("no meta row")
	}
	if err != nil {
		return nil, s.file.Explain("read meta", err)
	}
	return st, nil
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
		return nil, s.file.Explain(fmt.Sprintf("read page %d", id), err)
	}
	defer func() { _ = rows.Close() }() // rows.Err is checked
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return nil, s.file.Explain(fmt.Sprintf("read page %d", id), err)
		}
		return nil, s.file.Corrupt("page %d is missing", id)
	}
	if err := rows.Scan(&body); err != nil {
		return nil, s.file.Explain(fmt.Sprintf("read page %d", id), err)
	}
	p, err := decodePage(id, body)
	if err != nil {
		return nil, s.file.Corrupt("page %d: %w", id, err)
	}
	return p, nil
}

// milestone reads the trie's top at a height divisible by MilestoneHeights.
func (s *store) milestone(height uint64) (*frontier, error) {
	var row []byte
	err := s.read.QueryRowContext(context.Background(), "SELECT frontier FROM milestone WHERE height = ?", height).Scan(&row)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, s.file.Corrupt("milestone %d is missing", height)
	}
	if err != nil {
		return nil, s.file.Explain(fmt.Sprintf("read milestone %d", height), err)
	}
	f := new(frontier)
	if err := decodeFrontier(row, f.set); err != nil {
		return nil, s.file.Corrupt("milestone %d: %w", height, err)
	}
	f.rehashAll()
	return f, nil
}

// restore takes over what the file holds.
func (t *Trie) restore(st *state) error {
	slots, err := decodeSlots(st.slots)
	if err != nil {
		return t.store.file.Corrupt("slots: %w", err)
	}
	t.height, t.flushed, t.captured = st.height, st.height, st.height
	t.floor, t.leaves, t.pages = st.baseHeight, st.leaves, st.pages
	note := func(height uint64) func(uint8, [32]byte) {
		return func(slot uint8, hash [32]byte) {
			t.slots[slot].versions = append(t.slots[slot].versions, version{height, hash})
		}
	}
	if err := decodeFrontier(st.base, note(st.baseHeight)); err != nil {
		return t.store.file.Corrupt("base %d: %w", st.baseHeight, err)
	}
	rows, err := t.store.read.Query(`SELECT height, frontier FROM change
		WHERE height > ? AND height <= ? ORDER BY height`, st.baseHeight, st.height)
	if err != nil {
		return t.store.file.Explain("read changes", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err is checked
	for rows.Next() {
		var height uint64
		var row []byte
		if err := rows.Scan(&height, &row); err != nil {
			return t.store.file.Explain("read changes", err)
		}
		if err := decodeFrontier(row, note(height)); err != nil {
			return t.store.file.Corrupt("change at height %d: %w", height, err)
		}
	}
	if err := rows.Err(); err != nil {
		return t.store.file.Explain("read changes", err)
	}
	for i := range slots {
		s := &t.slots[i]
		s.child = slots[i]
		if n := len(s.versions); (n == 0) != (s.id == 0) || n > 0 && s.versions[n-1].hash != s.hash {
			return t.store.file.Corrupt("slot %d is not what its last change says", i)
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
		done <- s.file.Checkpoint(s.write)
	}()
}

func (s *store) awaitCheckpoint() error {
	if s.checkpoint == nil {
		return nil
	}
	err := <-s.checkpoint
	s.checkpoint = nil
	return err
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
