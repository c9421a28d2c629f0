package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/diseq/diseq/node/chain"
)

const votesName = "votes.db"

// votesSchema keeps pages at SQLite's smallest useful size for records of some hundred bytes: what
// a vote waits for is the fsync of the one or two pages that it changes.
var votesSchema = schema{
	application: 0x44495156, // "DIQV"
	pageSize:    4096,
	migrations: []string{`
CREATE TABLE validator (one INTEGER PRIMARY KEY CHECK (one = 1), public_key BLOB NOT NULL, genesis_hash BLOB,
  first_height INTEGER NOT NULL);
CREATE TABLE records (sequence INTEGER PRIMARY KEY, height INTEGER NOT NULL, round INTEGER NOT NULL, kind INTEGER NOT NULL,
  sum INTEGER NOT NULL, record BLOB NOT NULL);`},
}

var votesStatements = map[string]string{
	"BEGIN IMMEDIATE": "BEGIN IMMEDIATE", "COMMIT": "COMMIT", "ROLLBACK": "ROLLBACK",
	"append": "INSERT INTO records (height, round, kind, sum, record) VALUES (?, ?, ?, ?, ?)",
	"prune":  "DELETE FROM records WHERE height <= ?",
}

func recordSum(r *chain.Record) int64 {
	return checksum(r.Height, []byte{byte(r.Round >> 24), byte(r.Round >> 16), byte(r.Round >> 8), byte(r.Round), byte(r.Kind)}, r.Data)
}

// Votes is an open vote store: an append-only list of records, cut at its old end as heights become
// final.
type Votes struct {
	path        string
	firstHeight uint64
	db          *sql.DB
	points      *checkpointer

	mu     sync.Mutex
	conn   *sql.Conn
	stmt   statements
	prune  uint64 // heights up to this one go with the next Append
	pruned uint64
}

// CreateVotes creates the vote store of a new validator in a data directory that no process uses;
// the chain it is for is bound when it is first opened. It is called once in the life of an
// identity: a validator whose vote store is lost must not get an empty one, it rejoins.
func CreateVotes(dir string, key chain.PublicKey) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	lock, err := lockDirectory(dir)
	if err != nil {
		return err
	}
	return errors.Join(createVotes(dir, key, nil, 0), lock.Close())
}

// VotesExist reports whether a data directory has a vote store, whatever its state.
func VotesExist(dir string) (bool, error) {
	_, err := os.Lstat(filepath.Join(dir, votesName))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// RecreateVotes creates the vote store of a validator that lost its own and has rejoined
// (consensus.md): it may vote from firstHeight on, which the store remembers.
func (s *Store) RecreateVotes(key chain.PublicKey, firstHeight uint64) error {
	hash := s.genesis.Hash()
	return createVotes(s.dir, key, hash[:], firstHeight)
}

func createVotes(dir string, key chain.PublicKey, genesis []byte, firstHeight uint64) error {
	exists, err := VotesExist(dir)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if exists {
		return fmt.Errorf("store: %s: %w", filepath.Join(dir, votesName), ErrExists)
	}
	first, err := signed(firstHeight)
	if err != nil {
		return err
	}
	return createDatabase(filepath.Join(dir, votesName), &votesSchema, func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO validator (one, public_key, genesis_hash, first_height) VALUES (1, ?, ?, ?)", key[:], genesis, first)
		return err
	})
}

// OpenVotes opens the vote store of a validator. Without one it wraps [ErrNoVoteStore], with
// another validator's [ErrWrongIdentity], with another chain's [ErrWrongChain]; none of these, nor
// damage, changes the file.
func (s *Store) OpenVotes(key chain.PublicKey) (*Votes, error) {
	path := filepath.Join(s.dir, votesName)
	if exists, err := VotesExist(s.dir); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	} else if !exists {
		return nil, fmt.Errorf("store: %s: %w", s.dir, ErrNoVoteStore)
	}
	v := &Votes{path: path}
	bound := false
	version, err := inspect(path, &votesSchema, func(db *sql.DB) error {
		var err error
		if bound, err = v.inspect(db, key, s.genesis.Hash()); err != nil {
			return err
		}
		_, err = loadRecords(db, path)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := upgrade(path, &votesSchema, version); err != nil {
		return nil, err
	}
	if err := v.open(s, bound); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// inspect compares validator and chain. bound is false for a store that has never been opened.
func (v *Votes) inspect(db *sql.DB, key chain.PublicKey, genesis chain.Hash) (bound bool, err error) {
	var held, hash []byte
	var first int64
	err = db.QueryRow("SELECT public_key, genesis_hash, first_height FROM validator").Scan(&held, &hash, &first)
	if errors.Is(err, sql.ErrNoRows) {
		return false, corrupt(v.path, "no validator is named in it")
	}
	if err != nil {
		return false, explain(v.path, "read the validator", err)
	}
	if string(held) != string(key[:]) {
		return false, fmt.Errorf("store: %s: %w: of %x, the node's key is %v", votesName, ErrWrongIdentity, held, key)
	}
	if hash != nil && string(hash) != string(genesis[:]) {
		return false, fmt.Errorf("store: %s: %w: its genesis hash is %x, the genesis document's %v", votesName, ErrWrongChain, hash, genesis)
	}
	v.firstHeight = uint64(first)
	return hash != nil, nil
}

func (v *Votes) open(s *Store, bound bool) error {
	var err error
	if v.db, err = openPool(v.path, readWrite, 3, writing()...); err != nil {
		return err
	}
	ctx := context.Background()
	if v.conn, err = v.db.Conn(ctx); err != nil {
		return explain(v.path, "open", err)
	}
	if !bound {
		hash := s.genesis.Hash()
		if _, err := v.conn.ExecContext(ctx, "UPDATE validator SET genesis_hash = ?", hash[:]); err != nil {
			return explain(v.path, "bind to the chain", err)
		}
	}
	if v.stmt, err = prepare(ctx, v.conn, v.path, votesStatements); err != nil {
		return err
	}
	v.points, err = startCheckpointer(ctx, v.path, v.db, s.logger)
	return err
}

// FirstHeight is the lowest height that this validator may vote at; 0 unless its vote store was
// made again.
func (v *Votes) FirstHeight() uint64 { return v.firstHeight }

// Append keeps records, in their order and all or nothing; they are on disk when it returns nil.
func (v *Votes) Append(records ...chain.Record) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.conn == nil {
		return ErrClosed
	}
	size, upto := 0, v.prune
	err := v.exec("BEGIN IMMEDIATE")
	for i := 0; err == nil && i < len(records); i++ {
		r := &records[i]
		var height int64
		if height, err = signed(r.Height); err != nil {
			break
		}
		// never NULL
		err = v.exec("append", height, int64(r.Round), int64(r.Kind), recordSum(r), append([]byte{}, r.Data...))
		size += len(r.Data) + votesSchema.pageSize
	}
	if err == nil && upto > v.pruned {
		err = v.exec("prune", int64(upto))
	}
	if err == nil {
		err = v.exec("COMMIT")
	}
	if err != nil {
		if back := v.exec("ROLLBACK"); back != nil && !noTransaction(back) {
			return errors.Join(err, back)
		}
		return err
	}
	v.pruned = upto
	v.points.wrote(size, v.conn)
	return nil
}

func (v *Votes) exec(name string, args ...any) error {
	_, err := v.stmt[name].Exec(args...)
	return explain(v.path, name, err)
}

// Prune gives up the records of all heights up to this one. It returns at once: they are deleted
// with the next Append, in its transaction, and until then Load still returns them.
func (v *Votes) Prune(height uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if at, err := signed(height); err == nil {
		v.prune = max(v.prune, uint64(at))
	}
}

// Load returns all records in the order in which they were appended.
func (v *Votes) Load() ([]chain.Record, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.db == nil {
		return nil, ErrClosed
	}
	return loadRecords(v.db, v.path)
}

func loadRecords(db *sql.DB, path string) (out []chain.Record, err error) {
	rows, err := db.Query("SELECT height, round, kind, sum, record FROM records ORDER BY sequence")
	if err != nil {
		return nil, explain(path, "load", err)
	}
	defer func() { err = errors.Join(err, explain(path, "load", rows.Close())) }()
	for rows.Next() {
		var height, round, kind, sum int64
		var r chain.Record
		if err := rows.Scan(&height, &round, &kind, &sum, &r.Data); err != nil {
			return nil, explain(path, "load", err)
		}
		r.Height, r.Round, r.Kind = uint64(height), uint32(round), chain.RecordKind(kind)
		if recordSum(&r) != sum {
			return nil, corrupt(path, "record of height %d round %d does not have its checksum", height, round)
		}
		out = append(out, r)
	}
	return out, explain(path, "load", rows.Err())
}

// Close closes the vote store. It is closed before the Store it was opened from, whose lock covers
// it.
func (v *Votes) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	if v.points != nil {
		errs = append(errs, v.points.close())
		v.points = nil
	}
	if v.conn != nil {
		errs = append(errs, v.stmt.close(), v.conn.Close())
		v.conn = nil
	}
	if v.db != nil {
		errs = append(errs, v.db.Close())
		v.db = nil
	}
	return errors.Join(errs...)
}
