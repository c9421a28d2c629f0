package mempool

// batchOverhead is the size of an encoded batch without messages (docs/protocol.md, batch): author, incarnation, number,
// count, signature.
const batchOverhead = 32 + 8 + 8 + 4 + 64
