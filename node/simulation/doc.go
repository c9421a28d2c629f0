// Package simulation runs the validators of node/consensus, the very code that votes in a node, against a network and an
// adversary of its own, in virtual time. Everything that happens in a run follows from its seed: a run that fails prints the seed, and
// running the seed again gives the same transcript, byte for byte.
//
// # What is simulated
//
// The network delays, loses, doubles and reorders; links are slow one way; parts are cut off and come back. Validators crash
// before any action, between what they persist and what they send, in the middle of a broadcast, and start again from what they
// persisted; of a write that a crash tears nothing remains, as of a transaction. Their clocks run at different rates. Then the network
// calms down, and heights have to go on.
//
// Byzantine validators are one coalition: it holds their keys, sees every message the moment it is sent, and delivers its own to
// whom it likes when it likes. It runs each of its validators twice, and makes what no program of ours would: see adversary.go.
//
// # What is checked
//
// The oracle (oracle.go) holds every run to: one final block a height, for ever; certificates of t votes that their signers
// cast; rules that honest validators never break; evidence against the guilty only, and against at least 2t-n of them if there is a
// fork; votes on disk before they leave; heights that go on in the calm. A run that breaks one of them ends with a [Violation].
//
// # What is not
//
// Signatures are not computed, unless [Options.Keys] asks: what nobody signed does not verify. Blocks are headers; what is in
// them, and whether it is valid, is the business of package node.
package simulation
