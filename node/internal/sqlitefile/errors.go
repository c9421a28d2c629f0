package sqlitefile

import (
	"errors"
	"fmt"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/diseq/diseq/node/internal/disk"
)

// The reasons for a failed open, read or write that a caller may want to tell apart.
var (
	// ErrLocked is wrapped when another process uses the file or its directory.
	ErrLocked = errors.New("in use by another process")
	// ErrWrongChain is wrapped when a file belongs to another chain.
	ErrWrongChain = errors.New("file belongs to another chain")
	// ErrNewerSchema is wrapped when a file was written by a newer version of this program.
	ErrNewerSchema = errors.New("file was written by a newer version")
	// ErrCorrupt is wrapped when the content of a file cannot be what was written.
	ErrCorrupt = errors.New("file is damaged")
	// ErrMalformed is wrapped when SQLite itself finds that the structure of a file is broken. It
	// wraps ErrCorrupt.
	ErrMalformed = fmt.Errorf("%w: its structure is broken", ErrCorrupt)
	// ErrDiskFull is wrapped when a write did not fit. The file keeps nothing of the write and
	// everything older: the same write works once there is space.
	ErrDiskFull = errors.New("disk is full")
)

// freeLow is the free space, in bytes, below which a failed write counts as a full disk, whatever
// SQLite calls it.
const freeLow = 1 << 20

// Explain adds the file and the operation to an error and, if the error is SQLite's, wraps the
// sentinel for it. It returns nil for nil.
func (f *File) Explain(operation string, err error) error {
	if err == nil {
		return nil
	}
	name := filepath.Base(f.Path)
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		if sentinel := f.sentinel(e.Code()); sentinel != nil {
			return fmt.Errorf("%s: %s: %w: %w", name, operation, sentinel, err)
		}
	}
	return fmt.Errorf("%s: %s: %w", name, operation, err)
}

// sentinel returns the error for a result code (https://sqlite.org/rescode.html), nil for none.
func (f *File) sentinel(code int) error {
	switch code {
	case sqlite3.SQLITE_IOERR_SHORT_READ:
		return ErrMalformed
	case sqlite3.SQLITE_IOERR_READ:
		return ErrCorrupt // the disk does not give back a page that was written
	}
	switch code & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return ErrMalformed
	case sqlite3.SQLITE_FULL:
		return ErrDiskFull
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return ErrLocked
	case sqlite3.SQLITE_IOERR:
		if free, err := disk.Free(filepath.Dir(f.Path)); err == nil && free < freeLow {
			return ErrDiskFull
		}
	}
	return nil
}

// Corrupt returns an error that wraps ErrCorrupt, for damage that SQLite itself does not see.
func (f *File) Corrupt(format string, args ...any) error {
	return fmt.Errorf("%s: %w: %w", filepath.Base(f.Path), ErrCorrupt, fmt.Errorf(format, args...))
}
