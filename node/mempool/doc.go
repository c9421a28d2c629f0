// Package mempool keeps the messages that wait for their place in the order, and sees to it that
// each gets exactly one.
//
// A message is its content: its id is derived from its data alone ([chain.Message.ID]), and whoever
// submits it again, to whichever node and however much later, is told where it stands instead of
// having it ordered twice. That holds over the whole history, by three sets that an id is looked up
// in: the messages pending here, those of final blocks that the index does not cover yet, and the
// index itself. A filter in memory stands in front of the index, so that a new message never costs
// a read from disk.
//
// What a node accepts travels in batches, signed and numbered by it. Submissions that arrive while
// one batch is being written gather in the next, so that a busy disk is synced once for many of
// them; a lone submission waits for no one. [Pool.Submit] returns once the batch is durable here
// and acknowledged as durable by Config.Acknowledgements peers, or after a bounded wait for them. A
// batch is pushed only when it is durable: a number that a peer has seen is never given to another
// batch, whatever crashes.
//
// Whoever leads orders the batches of all: [Pool.Select] takes the oldest first, those of one
// author in the order of their numbers. A gap in the numbers is waited for, but not for long, so
// that what a dead author lost does not hold up what it left. [Pool.Resolve] turns the references
// of a block into its messages, equally on every node. A batch is let go only when every message in
// it is final.
//
// The pool is bounded in bytes and in messages, and each author may fill an equal share:
// submissions over it fail with [FullError], batches of peers with [ErrShare], and both may come
// again. Nothing accepted is ever dropped.
//
// The package deliberately has no transport, no database and no rules of voting; they meet it in
// [Storage], [Index] and [Replicator]. Order is promised for messages submitted one after the other
// to one node, not for concurrent ones.
package mempool
