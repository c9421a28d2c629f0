//go:build !linux

package appendlog

import "os"

// datasync makes the bytes of a file durable, and its size.
func datasync(f *os.File) error { return f.Sync() }
