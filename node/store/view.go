package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/sqlitefile"
)

// A View reads a data directory and writes nothing to it. A node may use the directory meanwhile:
// the View is of the moment at which it was made.
type View struct {
	// ChainID and Genesis are of the chain, Height is that of the newest final block.
	ChainID string
	Genesis chain.Hash
	Height  uint64
	// Log is the number of bytes of the message log, Scanned of those that were read for the
	// batches that wait.
	Log, Scanned int64

	store *Store
	in    reader
}

// WithView calls use with a view of a data directory. It needs no genesis document.
func WithView(ctx context.Context, dir string, use func(*View) error) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	file := &sqlitefile.File{Path: filepath.Join(dir, blocksName), Schema: &blocksSchema}
	if exists, err := file.Exists(); err != nil || !exists {
		return errors.Join(fmt.Errorf("no node has run in %s: it has no %s", dir, blocksName), err)
	}
	_, err = file.Inspect(func(db *sql.DB) error {
		v, err := newView(ctx, dir, file, db)
		if err != nil {
			return err
		}
		return use(v)
	})
	return err
}

func newView(ctx context.Context, dir string, file *sqlitefile.File, db *sql.DB) (*View, error) {
	var version int
	var hash []byte
	v := &View{store: &Store{dir: dir, file: file, reads: db, logger: slog.New(slog.DiscardHandler), pending: newPending()}}
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return nil, file.Explain("read the version", err)
	}
	if version < firstReadable {
		return nil, fmt.Errorf("%s: %w", blocksName, ErrOldProtocol)
	}
	if err := db.QueryRowContext(ctx, "SELECT chain_id, genesis_hash FROM chain").Scan(&v.ChainID, &hash); err != nil {
		return nil, file.Explain("read the chain", err)
	}
	if len(hash) != len(v.Genesis) {
		return nil, file.Corrupt("a genesis hash of %d bytes", len(hash))
	}
	v.Genesis = chain.Hash(hash)
	v.store.identity = v.Genesis
	var newest int64
	if err := db.QueryRowContext(ctx, "SELECT coalesce(max(height), 0) FROM certificates").Scan(&newest); err != nil {
		return nil, file.Explain("read the newest height", err)
	}
	v.Height = uint64(newest)
	// The end of the log last: what blocks.db refers to is there then.
	if err := v.store.inspectLog(db, version); err != nil {
		return nil, err
	}
	v.Log = v.store.found.Mark().End
	v.Scanned = v.Log - v.store.pending.oldest(v.Log)
	v.in = reader{db: db, file: file, log: v.store.found.Reader(), places: placesColumn(version)}
	return v, nil
}

// placesColumn is the column with the places of messages in a file of a schema.
func placesColumn(version int) string {
	if version < firstWithLog {
		return "NULL"
	}
	return "b.places"
}

// Block returns a final block from height 1 to Height.
func (v *View) Block(ctx context.Context, height uint64) (*chain.FinalBlock, error) {
	if height == 0 || height > v.Height {
		return nil, fmt.Errorf("block %d: %w: the directory has 1 to %d", height, ErrNotFound, v.Height)
	}
	return v.in.block(ctx, height)
}

// Batches calls yield with each batch that waits, in the order of their arrival.
func (v *View) Batches(ctx context.Context, yield func(chain.StoredBatch) error) error {
	// An older program has run here last: its batches are in blocks.db still.
	for above := int64(0); ; {
		page, last, err := v.store.olderBatches(ctx, above)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return v.store.batches(ctx, v.in.log, yield)
		}
		for _, b := range v.store.pending.new(page) { // some may be in the log already
			if err := yield(b); err != nil {
				return err
			}
		}
		above = last
	}
}

// Waiting is the number of batches that wait.
func (v *View) Waiting(ctx context.Context) (n int, err error) {
	err = v.Batches(ctx, func(chain.StoredBatch) error { n++; return nil })
	return n, err
}
