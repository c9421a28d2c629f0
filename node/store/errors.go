package store

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// The reasons for which opening, reading or writing fails that a caller may want to tell apart.
var (
	// ErrLocked is wrapped when another process uses the data directory.
	ErrLocked = errors.New("data directory is in use by another process")
	// ErrWrongChain is wrapped when a file belongs to another chain or another validator.
	ErrWrongChain = errors.New("file belongs to another chain")
	// ErrWrongIdentity is wrapped when a vote store belongs to another validator.
	ErrWrongIdentity = errors.New("vote store belongs to another validator")
	// ErrNewerSchema is wrapped when a file was written by a newer version of this program.
	ErrNewerSchema = errors.New("file was written by a newer version")
	// ErrCorrupt is wrapped, with the name of the file, when what is on disk cannot be what was
	// written.
	ErrCorrupt = errors.New("file is damaged")
	// ErrNoVoteStore is wrapped when a validator has no vote store: it must rejoin.
	ErrNoVoteStore = errors.New("no vote store")
	// ErrExists is wrapped when a vote store is to be created where there is one.
	ErrExists = errors.New("vote store exists")
	// ErrDiskFull is wrapped when a write did not fit. Nothing of it was kept, and nothing older
	// was lost: the same write works once there is space.
	ErrDiskFull = errors.New("disk is full")
	// ErrNotFound is wrapped when there is no such block, batch or epoch.
	ErrNotFound = errors.New("not found")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("store is closed")
)

// freeLow is the free space below which a failed write is taken for a full disk whatever SQLite
// calls it.
const freeLow = 1 << 20

// explain adds the operation and the file to an error of SQLite and wraps the sentinel that it
// amounts to.
func explain(path, operation string, err error) error {
	if err == nil {
		return nil
	}
	name := filepath.Base(path)
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return fmt.Errorf("store: %s: %s: %w", name, operation, err)
	}
	sentinel := error(nil)
	switch se.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		sentinel = ErrCorrupt
	case sqlite3.SQLITE_FULL:
		sentinel = ErrDiskFull
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		sentinel = ErrLocked
	case sqlite3.SQLITE_IOERR:
		switch {
		case se.Code() == sqlite3.SQLITE_IOERR_SHORT_READ:
			sentinel = ErrCorrupt
		case freeBytes(filepath.Dir(path)) < freeLow:
			sentinel = ErrDiskFull
		}
	}
	if sentinel == nil {
		return fmt.Errorf("store: %s: %s: %w", name, operation, err)
	}
	return fmt.Errorf("store: %s: %s: %w: %w", name, operation, sentinel, err)
}

// corrupt reports damage that SQLite itself does not see.
func corrupt(path, format string, args ...any) error {
	return fmt.Errorf("store: %s: %w: %w", filepath.Base(path), ErrCorrupt, fmt.Errorf(format, args...))
}

func freeBytes(dir string) uint64 {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 1 << 62 // unknown: the error of SQLite stands as it is
	}
	return fs.Bavail * uint64(fs.Bsize)
}
