package store

import (
	"errors"
	"fmt"

	"github.com/diseq/diseq/node/internal/sqlitefile"
)

// The reasons for a failed open, read or write that a caller may want to tell apart.
var (
	// ErrLocked is wrapped when another process uses the data directory.
	ErrLocked = sqlitefile.ErrLocked
	// ErrWrongChain is wrapped when a file belongs to another chain.
	ErrWrongChain = sqlitefile.ErrWrongChain
	// ErrWrongIdentity is wrapped when a vote store belongs to another validator.
	ErrWrongIdentity = errors.New("vote store belongs to another validator")
	// ErrNewerSchema is wrapped when a file was written by a newer version of this program.
	ErrNewerSchema = sqlitefile.ErrNewerSchema
	// ErrOldProtocol is wrapped when the blocks on disk are of a protocol version that this program
	// does not read.
	ErrOldProtocol = errors.New("the chain in this file has protocol version 1")
	// ErrCorrupt is wrapped, with the name of the file, when what is on disk cannot be what was
	// written.
	ErrCorrupt = sqlitefile.ErrCorrupt
	// ErrMalformed is wrapped when SQLite finds that the structure of a file is broken. It wraps
	// ErrCorrupt. A [*DamagedBlockError] may wrap it and still be repaired; a write that fails with
	// it cannot be, and the caller should stop.
	ErrMalformed = sqlitefile.ErrMalformed
	// ErrNoVoteStore is wrapped when a validator has no vote store: it must rejoin.
	ErrNoVoteStore = errors.New("no vote store")
	// ErrExists is wrapped by the creation of a vote store where there is one.
	ErrExists = errors.New("vote store exists")
	// ErrDiskFull is wrapped when a write did not fit. The store keeps nothing of the write and
	// everything older: the same write works once there is space.
	ErrDiskFull = sqlitefile.ErrDiskFull
	// ErrContradicts is wrapped when a copy of a final block is another block than the chain has.
	ErrContradicts = errors.New("contradiction: another block is final at this height")
	// ErrNotFound is wrapped when there is no such block or certificate.
	ErrNotFound = errors.New("not found")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("store is closed")
)

// DamagedBlockError says that a stored final block cannot be what was written: its rows are missing
// or unreadable, lack their checksum, or contradict each other. It wraps ErrCorrupt.
// [Store.Replace] repairs the block.
type DamagedBlockError struct {
	Height uint64
	Err    error
}

func (e *DamagedBlockError) Error() string { return fmt.Sprintf("block %d: %v", e.Height, e.Err) }

// Unwrap returns the damage as it was found.
func (e *DamagedBlockError) Unwrap() error { return e.Err }
