// Package trace follows single messages through a network with OpenTelemetry: one trace has the
// request that submitted a message, the batch that it went into, the disks of the other nodes, the
// proposal, the votes, the block and the receipt, on every node that had a part in it.
//
// A trace begins at the node that a client submits to: if the client asks for one by a traceparent
// header with the flag "sampled", or by a draw. It reaches the other nodes beside the batches that
// are pushed to them, in a field that nothing hashes or signs: a peer that lies in it spoils traces
// and nothing else. Spans go to a collector by OTLP over HTTP. If it is slow or away they are
// dropped; nothing waits for it.
//
// Everything is bounded: the traces that begin in a second, the messages that are followed at a
// time, the spans that wait for the collector. A nil Tracer follows nothing, and costs a comparison
// at each hook. No rule of consensus reads what this package knows.
package trace
