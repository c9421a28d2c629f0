// Package peer is how the nodes of a chain reach each other: gRPC over TLS 1.3, both sides
// authenticated by their Ed25519 keys.
//
// Every node dials every other and sends only on the connections it dialled; what it accepts, it
// receives on. A link to a peer is a pair of connections, one for consensus and one for bulk
// (batches and catch-up), so that a vote never waits behind a megabyte. The pair lives and dies as
// one: [Handler.LinkUp] and [Handler.LinkDown] alternate.
//
// What the package promises:
//   - Whoever is at the other end holds the key that the peer is configured with. Certificates are
//     made from the node's key at start and mean nothing but that key; it is checked on every
//     connection, since sessions never resume.
//   - Nothing is exchanged with a node of another protocol version, chain id or genesis, and both
//     sides say why.
//   - Consensus frames to a peer keep their order. When a peer reads too slowly the oldest are
//     dropped and counted: consensus repairs by sending again, and only the newest are of use then.
//   - A batch is acknowledged once the peer's handler says that it is durable, never before.
//   - Queues, messages, connections and log lines are bounded for each peer, and for strangers all
//     together. A peer that sends what does not decode loses its connections and is not let in
//     again for a while, longer each time.
//
// What it does not do: it checks no signature except TLS's and that of [Transport.Status], knows no
// rule of consensus, stores nothing, and repeats nothing by itself. What was queued when a link
// went down is lost; the node sends again when the link is up, since it knows best what still
// matters.
package peer
