// Package disk is a file system that knows which of its bytes a power cut would leave. It is kept
// in memory and mounted with FUSE, so that any program can work on it.
//
// It records every change of a file or a directory, and every fsync. A [Cut] is a moment of that
// recording: from it a test gets the files as a machine may find them after the power went off at
// that moment.
//
// The disk promises no more than POSIX does:
//
//   - An fsync of a file makes its content and size durable, and nothing else.
//   - The name of a file, new, renamed or removed, is durable after an fsync of its directory.
//   - Of everything else any part may be left: each sector of a write by itself, in any order, and
//     each change of a directory by itself. A file may have grown without the bytes that it grew
//     by.
//
// It keeps no modes and no times, and has no links. Writes through a mapping of a file are recorded
// when the kernel writes them back. An fsync of a whole file system is not seen.
package disk
