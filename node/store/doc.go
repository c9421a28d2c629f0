// Package store is the memory of a node: what it must still know after its power is cut.
//
// A data directory holds two SQLite databases and a lock. blocks.db has the final blocks with their
// certificates, the batches that wait to be ordered, the beacon epochs and the evidence; votes.db
// has what this validator signed. They are apart so that a vote, which is on the way to finality,
// never waits for the transaction of a block. Both are in WAL mode with synchronous=FULL on every
// connection: what a write method has returned nil for survives the loss of power.
//
// Writes to blocks.db go through one goroutine that puts everything queued into one transaction, so
// that many callers share one fsync. An operation that fails is rolled back alone. Bodies are
// stored as one blob a block and batches as one row each: a row with a random key for each message
// would cap the node at some 35,000 messages a second and falling.
//
// Opening is strict. A directory that another process uses, a file of another chain or of a newer
// schema, and a damaged file fail with [ErrLocked], [ErrWrongChain], [ErrNewerSchema] and
// [ErrCorrupt]; files are looked at through read-only connections first, so that a failed open
// changes no byte of them. Each row carries a CRC-32C, since SQLite has no checksum over its pages:
// a bit that flipped on disk is reported when the row is read, never served. Starting reads the
// structure of small files in full, of large ones only the newest rows, so that it takes the same
// time with gigabytes. What no reader can tell from a power cut is damage to the end of the
// write-ahead log.
//
// The vote store is never created by the way: [CreateVotes] is called once, together with the
// identity, and a validator without one gets [ErrNoVoteStore] and has to rejoin (consensus.md)
// before [Store.RecreateVotes].
//
// The package does not check signatures or rules and keeps no index of message ids: that is
// node/trie.
package store
