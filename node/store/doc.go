// Package store is the memory of a node: everything that it must still know after its power is cut.
//
// A data directory holds a message log, two SQLite databases and a lock. The log, in segments of
// package appendlog, has every batch: the bytes of a message are written there once, and stay.
// blocks.db has what is looked up by a key: the final blocks with their certificates and the places
// of their messages in the log, the validator set changes among them, the beacon epochs and the
// evidence. votes.db has the votes that this validator signed. A vote is on the way to finality and
// must not wait for the transaction of a block, so the two are apart. Both databases are in WAL
// mode with synchronous=FULL on every connection: once a write method returns nil, the write
// survives the loss of power. docs/storage.md has the formats, and the order of the writes.
//
// Writes to blocks.db go through one goroutine that puts everything queued into one transaction, so
// that many callers share one fsync. An operation that fails is rolled back alone. Batches do not
// wait for it: the log has a goroutine and an fsync of its own.
//
// Opening is strict. A directory that another process uses, a file of another chain, of a newer
// schema or of an older protocol version, and a damaged file fail with [ErrLocked],
// [ErrWrongChain], [ErrNewerSchema], [ErrOldProtocol] and [ErrCorrupt]. Read-only connections
// inspect the files first, so that a failed open changes no byte of them. Opening reads the
// structure of small files in full, of large ones only the newest rows, so that it takes the same
// time with gigabytes.
//
// SQLite has no checksum over its pages, so each row carries a CRC-32C, and so does each record of
// the log. A bit that flipped on disk
// is reported when the row is read, and never served. A damaged final block is a
// [*DamagedBlockError]; [Store.Replace] repairs it with a copy. A damaged row of a change is read
// from its block. Damage to the end of a write-ahead log, or to the last group of the message log,
// cannot be told from a power cut.
//
// Only [CreateVotes] creates a vote store, once, together with the identity. A validator without
// one gets [ErrNoVoteStore], and has to rejoin (docs/consensus.md) before [Store.RecreateVotes].
//
// The package does not check signatures or rules, and keeps no index of message ids: package trie
// does.
package store
