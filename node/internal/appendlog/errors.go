package appendlog

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/diseq/diseq/node/internal/sqlitefile"
)

// ErrClosed is returned by Append after Close.
var ErrClosed = errors.New("log is closed")

// explain adds the file and the operation to an error, and wraps the sentinel that a caller can act
// on, as sqlitefile.File.Explain does.
func explain(path, operation string, err error) error {
	name := filepath.Base(path)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%s: %s: %w: %w", name, operation, sqlitefile.ErrDiskFull, err)
	case errors.Is(err, unix.EIO), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s: %s: %w: %w", name, operation, sqlitefile.ErrCorrupt, err)
	}
	return fmt.Errorf("%s: %s: %w", name, operation, err)
}

func corrupt(path, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %w", filepath.Base(path), sqlitefile.ErrCorrupt, fmt.Errorf(format, args...))
}
