// Package peer connects the nodes of a chain: gRPC over TLS 1.3, both sides authenticated by their
// Ed25519 keys.
//
// Every node dials every other node. It sends on the connections that it dialled and receives on
// those that it accepted. A link to a peer is a pair of connections, one for consensus and one for
// bulk (batches and catch-up), so that a vote never waits behind a megabyte. The pair is up or down
// as one: [Handler.LinkUp] and [Handler.LinkDown] alternate.
//
// The package promises:
//   - The node at the other end holds the key that the peer is configured with. A certificate is
//     made from the node's key at start and stands for that key only. The key is checked on every
//     connection, since sessions never resume.
//   - Nodes of different protocol versions, chain ids or genesis documents exchange nothing, and
//     both sides say why.
//   - Consensus frames to a peer keep their order. If a peer reads too slowly, the oldest frames
//     are dropped and counted: consensus repairs by sending again, and only the newest are of use
//     then.
//   - A batch is acknowledged once the peer's handler says that it is durable, never before.
//   - Queues, messages, connections and log lines are bounded for each peer, and for strangers all
//     together. A peer that sends malformed bytes loses its connections. It is not let in again for
//     a while, longer each time.
//
// The package does not check a signature, except those of TLS and of [Transport.Status]. It knows
// no rule of consensus, stores nothing, and repeats nothing by itself. A frame or batch that was
// queued when a link went down is lost. The node sends again when the link is up, since it knows
// best which messages still matter.
package peer
