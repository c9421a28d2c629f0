// Package simulation runs the validators of node/consensus, the very code that votes in a node,
// against a network and an adversary of its own, in virtual time. Everything that happens in a run
// follows from its seed: a run that fails prints the seed, and running the seed again gives the
// same transcript, byte for byte.
//
// # What is simulated
//
// The network delays, loses, doubles and reorders; links are slow one way; parts are cut off, one
// way or both, and come back. Validators crash before any action, between what they persist and
// what they send, in the middle of a broadcast, alone or all at once, and start again from what
// they persisted; of a write that a crash tears a part remains, from nothing to all of it. They
// stand still, as in a long garbage collection. Their timers run at different rates, and their
// clocks are wrong, which withholds votes. Then the network calms down, and heights have to go on:
// the first within a minute, each after it within n + 8 rounds. Validators lose their vote stores
// and rejoin ([Options].Wiped). Every fault is counted ([Faults]), and has to happen.
//
// Under the synchrony wait messages take up to Delta by the fastest clock, none is lost, and no
// write is torn: of anything else it promises nothing. Blocks that others are ahead take longer to
// be had. Validators that count to the Byzantine ones are cut off, paused or killed, and need not
// know ([Options].Partitioned). Beyond what the wait promises, any number may be paused, or one
// killed, that count to nobody, as long as what they said before has left ([Options].Paused,
// [Options].Killed): they abstain.
//
// Byzantine validators are one coalition: it holds their keys, sees every message the moment it is
// sent, and delivers its own to whom it likes when it likes. It runs each of its validators twice,
// and makes what no program of ours would: see adversary.go.
//
// # What is checked
//
// The oracle (oracle.go) holds every run to: one final block a height, for ever, also if nobody was
// shown the other; certificates of t votes that their signers cast; rules that honest validators
// never break; evidence against the guilty only, and against at least 2t-n of them if there is a
// fork, by what nodes keep; votes on disk before they leave, with all that they rest on; heights
// that go on in the calm. A run that breaks one of them ends with a violation ([Result].Violation).
//
// # What is not
//
// Signatures are not computed, unless [Options.Keys] asks: what nobody signed does not verify.
// Blocks are headers; what is in them, and whether it is valid, is the business of package node.
package simulation
