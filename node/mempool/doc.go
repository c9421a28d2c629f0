// Package mempool keeps the messages that wait for their place in the order. Each message gets
// exactly one place.
//
// A message is its content: its id is derived from its data alone ([chain.Message.ID]). A message
// that is submitted again, to any node and at any later time, is not ordered twice: the answer says
// where it is. That holds over the whole history. An id is looked up in three sets: the messages
// pending here, those of final blocks that the index does not cover yet, and the index itself. A
// filter in memory stands in front of the index, so that a new message costs no read from disk.
//
// A node puts the messages that it accepts into batches, which it signs and numbers. Submissions
// that arrive while one batch is being written gather in the next, so that a busy disk is synced
// once for many of them. A lone submission waits for no other; where many come, a batch begins 4 ms
// after the one before. A batch is pushed to the peers while it is being written. [Pool.Submit]
// returns once the batch is durable here and enough peers have acknowledged it as durable, or after
// a bounded wait for them. After any crash, a number that a peer has seen is never given to another
// batch: every opening begins a new incarnation.
//
// The leader orders the batches of all authors. [Pool.Select] takes the oldest first, those of one
// author in the order of their numbers. It waits for a gap in the numbers, but not for long, so
// that the batches that a dead author lost do not hold up those that it left. [Pool.Resolve] turns
// the references of a block into its messages, equally on every node. The pool keeps a batch until
// every message in it is final.
//
// The pool is bounded in bytes and in messages, and each author may fill an equal share. Above it,
// submissions fail with [FullError] and batches of peers with [ErrShare]; both may be repeated.
// Submissions also fail so while more of them come than blocks take: when a new message would wait
// for more than 2 s. The pool never drops a message that it has accepted.
//
// The authors are the validators, who come and go ([Pool.SetMembers]). Peers that left hold nothing
// any more as far as acknowledgements count. The batches of authors that left stay valid and are
// ordered by those that are there. A node that left keeps its batches until they are final
// ([Stats.Held]). For a minute it still accepts messages of clients that do not know yet, and
// answers once they are final.
//
// The package deliberately has no transport, no database and no rules of voting: its user provides
// [Storage], [Index] and [Replicator]. It promises an order for messages submitted one after the
// other to one node, not for concurrent ones.
package mempool
