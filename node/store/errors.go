package store

import (
	"errors"

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
	// ErrCorrupt is wrapped, with the name of the file, when what is on disk cannot be what was
	// written.
	ErrCorrupt = sqlitefile.ErrCorrupt
	// ErrNoVoteStore is wrapped when a validator has no vote store: it must rejoin.
	ErrNoVoteStore = errors.New("no vote store")
	// ErrExists is wrapped when a vote store is to be created where there is one.
	ErrExists = errors.New("vote store exists")
	// ErrDiskFull is wrapped when a write did not fit. The store keeps nothing of the write and
	// everything older: the same write works once there is space.
	ErrDiskFull = sqlitefile.ErrDiskFull
	// ErrNotFound is wrapped when there is no such block or certificate.
	ErrNotFound = errors.New("not found")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("store is closed")
)
