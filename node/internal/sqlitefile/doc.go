// Package sqlitefile opens the SQLite files of a node: blocks.db and votes.db. It is the only
// package of the node that imports the SQLite driver.
//
// It promises:
//
//   - A file is created whole or not at all: under another name first, then renamed.
//   - [File.Inspect] reads an existing file through read-only connections before anything writes to
//     it, so that a refused file keeps every byte. It refuses a file of another application
//     ([ErrCorrupt]) and of a newer schema ([ErrNewerSchema]).
//   - Pragmas are part of each connection's source name. A pragma that is set once on a pool would
//     hold for the pool's first connection only.
//   - Every error of SQLite that passes through [File.Explain] names the file and the operation,
//     and wraps the sentinel that a caller can act on.
//
// It does not know what the tables mean. Checksums of rows, the chain that a file belongs to, and
// the decision what to do about damage are its callers'.
package sqlitefile
