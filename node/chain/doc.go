// Package chain holds what a DISEQ chain is made of: messages and the batches they travel in,
// headers and blocks, votes and the certificates they add up to, the validator set, the genesis
// document, receipts and evidence.
//
// Every type has one canonical binary encoding (docs/protocol.md states each byte): integers are
// big-endian and of fixed width, byte strings and lists carry a 32-bit length, an optional part one
// byte 0 or 1, and nothing may follow. Every hashed or signed text starts with a domain string of
// its own, so that no signature means two things. Decoders take foreign bytes. Each checks a length
// before it allocates, and returns an error that wraps [ErrMalformed].
//
// A receipt is verified by this package alone, from the genesis document: [Receipt.Verify] needs no
// node and no network. Documents in JSON are read by internal/document, the only other package of
// this module that is needed: exact names, each once. The types read themselves in this way, so
// that encoding/json cannot read them in another.
//
// The package deliberately knows nothing of time, storage, transport or the rules of voting; those
// are node/consensus and node/store. It keeps no state.
package chain
