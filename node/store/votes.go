package store

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/diseq/diseq/internal/durable"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/sqlitefile"
)

const votesName = "votes.db"

// votesSchema has pages of SQLite's smallest useful size for records of some hundred bytes: a vote
// waits for the fsync of the one or two pages that it changes.
var votesSchema = sqlitefile.Schema{
	Application: 0x44495156, // "DIQV"
	PageSize:    4096,
	WalkLimit:   walkLimit,
	Migrations: []string{`
CREATE TABLE validator (one INTEGER PRIMARY KEY CHECK (one = 1), public_key BLOB NOT NULL, genesis_hash BLOB,
  first_height INTEGER NOT NULL);
CREATE TABLE records (sequence INTEGER PRIMARY KEY, height INTEGER NOT NULL, round INTEGER NOT NULL, kind INTEGER NOT NULL,
  sum INTEGER NOT NULL, record BLOB NOT NULL);`},
}

var (
	bindVotes = &sqlitefile.Statement{Name: "bind to the chain", SQL: "UPDATE validator SET genesis_hash = ?"}
	addRecord = &sqlitefile.Statement{Name: "append",
		SQL: "INSERT INTO records (height, round, kind, sum, record) VALUES (?, ?, ?, ?, ?)"}
	pruneRecords = &sqlitefile.Statement{Name: "prune", SQL: "DELETE FROM records WHERE height <= ?"}
)

func votesFile(dir string) *sqlitefile.File {
	return &sqlitefile.File{Path: filepath.Join(dir, votesName), Schema: &votesSchema}
}

func recordSum(r *chain.Record) int64 {
	return checksum(r.Height, []byte{byte(r.Round >> 24), byte(r.Round >> 16), byte(r.Round >> 8), byte(r.Round), byte(r.Kind)}, r.Data)
}

// Votes is an open vote store: an append-only list of records, whose oldest go as heights become
// final.
type Votes struct {
	file        *sqlitefile.File
	firstHeight uint64

	mu     sync.Mutex
	out    *sqlitefile.Writer // nil when closed
	prune  uint64             // the next Append deletes heights up to this one
	pruned uint64
}

// CreateVotes creates the vote store of a new validator in a data directory that no process uses.
// The first OpenVotes binds it to a chain. CreateVotes is called once in the life of an identity: a
// validator that has lost its vote store must not get an empty one, but rejoins.
func CreateVotes(dir string, key chain.PublicKey) error {
	if err := durable.MakeDirectory(dir, 0o700); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	lock, err := lockDirectory(dir)
	if err != nil {
		return err
	}
	return errors.Join(createVotes(dir, key, nil, 0), lock.Close())
}

// Untouched reports whether no node has used a data directory, as far as the directory shows it. An
// emptied directory looks the same.
func Untouched(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("data directory: %w", err)
	}
	for _, e := range entries {
		// A new volume may have the first of these. A start that is cut off before the vote store
		// is there leaves the others.
		if name := e.Name(); name != "lost+found" && name != "LOCK" && !strings.HasPrefix(name, votesName+".new") {
			return false, nil
		}
	}
	return true, nil
}

// VotesExist reports whether a data directory has a vote store, whatever its state.
func VotesExist(dir string) (bool, error) {
	return votesFile(dir).Exists()
}

// RecreateVotes creates the vote store of a validator that lost its own and has rejoined
// (docs/consensus.md). The validator may vote from firstHeight on, and the store records that.
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
	return votesFile(dir).Create(func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO validator (one, public_key, genesis_hash, first_height) VALUES (1, ?, ?, ?)", key[:], genesis, first)
		return err
	})
}

// OpenVotes opens the vote store of a validator. Without one it wraps [ErrNoVoteStore], with
// another validator's [ErrWrongIdentity], with another chain's [ErrWrongChain]; none of these, nor
// damage, changes the file.
func (s *Store) OpenVotes(key chain.PublicKey) (*Votes, error) {
	v := &Votes{file: votesFile(s.dir)}
	if exists, err := v.file.Exists(); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	} else if !exists {
		return nil, fmt.Errorf("store: %s: %w", s.dir, ErrNoVoteStore)
	}
	bound := false
	version, err := v.file.Inspect(func(db *sql.DB) error {
		var err error
		if bound, err = v.inspect(db, key, s.genesis.Hash()); err != nil {
			return err
		}
		_, err = v.records(db)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := v.file.Upgrade(version); err != nil {
		return nil, err
	}
	if v.out, err = v.file.OpenWriter(s.logger); err != nil {
		return nil, err
	}
	if !bound {
		hash := s.genesis.Hash()
		if _, err := v.out.Exec(bindVotes, hash[:]); err != nil {
			return nil, errors.Join(err, v.Close())
		}
	}
	return v, nil
}

// inspect compares validator and chain. bound is false for a store that has never been opened.
func (v *Votes) inspect(db *sql.DB, key chain.PublicKey, genesis chain.Hash) (bound bool, err error) {
	var stored, hash []byte
	var first int64
	err = db.QueryRow("SELECT public_key, genesis_hash, first_height FROM validator").Scan(&stored, &hash, &first)
	if errors.Is(err, sql.ErrNoRows) {
		return false, v.file.Corrupt("it does not name its validator")
	}
	if err != nil {
		return false, v.file.Explain("read the validator", err)
	}
	if string(stored) != string(key[:]) {
		return false, fmt.Errorf("%s: %w: its key is %x, the node's key is %v", votesName, ErrWrongIdentity, stored, key)
	}
	if hash != nil && string(hash) != string(genesis[:]) {
		return false, fmt.Errorf("%s: %w: its genesis hash is %x, the genesis document's %v", votesName, ErrWrongChain, hash, genesis)
	}
	v.firstHeight = uint64(first)
	return hash != nil, nil
}

// FirstHeight is the lowest height at which this validator may vote; 0 unless its vote store was
// made again.
func (v *Votes) FirstHeight() uint64 { return v.firstHeight }

// Append stores records, in their order and all or nothing. They are on disk when it returns nil.
func (v *Votes) Append(records ...chain.Record) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.out == nil {
		return ErrClosed
	}
	size, upto := 0, v.prune
	err := v.out.Begin()
	for i := 0; err == nil && i < len(records); i++ {
		r := &records[i]
		var height int64
		if height, err = signed(r.Height); err != nil {
			break
		}
		// never NULL
		_, err = v.out.Exec(addRecord, height, int64(r.Round), int64(r.Kind), recordSum(r), append([]byte{}, r.Data...))
		size += len(r.Data) + votesSchema.PageSize
	}
	if err == nil && upto > v.pruned {
		_, err = v.out.Exec(pruneRecords, int64(upto))
	}
	if err == nil {
		err = v.out.Commit(size)
	}
	if err != nil {
		return errors.Join(err, v.out.Rollback())
	}
	v.pruned = upto
	return nil
}

// Prune drops the records of all heights up to this one. It returns at once: the next Append
// deletes them in its transaction, and until then Load still returns them.
func (v *Votes) Prune(height uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if at, err := signed(height); err == nil {
		v.prune = max(v.prune, uint64(at))
	}
}

// Load returns all records in the order in which they were appended.
func (v *Votes) Load() (out []chain.Record, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.out == nil {
		return nil, ErrClosed
	}
	db, err := v.file.OpenReading(1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return v.records(db)
}

func (v *Votes) records(db *sql.DB) (out []chain.Record, err error) {
	rows, err := db.Query("SELECT height, round, kind, sum, record FROM records ORDER BY sequence")
	if err != nil {
		return nil, v.file.Explain("load", err)
	}
	defer func() { err = errors.Join(err, v.file.Explain("load", rows.Close())) }()
	for rows.Next() {
		var height, round, kind, sum int64
		var r chain.Record
		if err := rows.Scan(&height, &round, &kind, &sum, &r.Data); err != nil {
			return nil, v.file.Explain("load", err)
		}
		r.Height, r.Round, r.Kind = uint64(height), uint32(round), chain.RecordKind(kind)
		if recordSum(&r) != sum {
			return nil, v.file.Corrupt("record of height %d round %d does not have its checksum", height, round)
		}
		out = append(out, r)
	}
	return out, v.file.Explain("load", rows.Err())
}

// Close closes the vote store. It must be closed before its Store, whose lock covers it.
func (v *Votes) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.out == nil {
		return nil
	}
	err := v.out.Close()
	v.out = nil
	return err
}
