// Package disk measures the free space of a disk.
package disk

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Free returns the free space, in bytes, that this process may use on the disk of a directory.
func Free(dir string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}
