package appendlog

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync makes the bytes of a file durable, and its size.
func datasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
