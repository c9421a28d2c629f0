// Package simulation runs the validators of node/consensus, the very code that votes in a node,
// against a network and an adversary of its own, in virtual time. Everything in a run follows from
// its seed. A failing run prints its seed, and running the seed again gives the same transcript,
// byte for byte.
//
// # What is simulated
//
// The network delays, loses, doubles and reorders messages. Links are slow in one direction. Parts
// are cut off, in one direction or both, and come back. Validators crash before any action, between
// a write and a send, in the middle of a broadcast, alone or all at once, and start again from
// their disks. Of a write that a crash tears a part remains, from nothing to all of it. Processes
// stand still, as in a long garbage collection. Timers run at different rates, and clocks are
// wrong, which withholds votes. Then the network calms down, and heights have to go on: the first
// within a minute, each after it within n + 8 rounds. Validators lose their vote stores and rejoin
// ([Options].Wiped). Every fault is counted ([Faults]), and has to happen.
//
// Under the synchrony wait messages take up to Delta by the fastest clock, none is lost, and no
// write is torn, because the wait promises nothing beyond that. It takes longer to fetch the blocks
// that a validator is behind. Validators that count as Byzantine are cut off, paused or killed, and
// need not notice ([Options].Partitioned). Beyond the promise of the wait, any number of further
// validators may be paused, or one killed, once their earlier messages have left ([Options].Paused,
// [Options].Killed). They abstain and do not count as Byzantine.
//
// Byzantine validators are one coalition. It has their keys, sees every message the moment it is
// sent, and delivers its own to any node at any time. It runs each of its validators twice, and
// signs votes that no honest program signs: see adversary.go.
//
// # Eras
//
// The validator set changes while the chain runs ([Options].Eras). It grows, shrinks, has others in
// some places or in all, has another threshold, or is one validator alone. The members take their
// places in another order each time. A validator is an identity for as long as a run lasts; a place
// in a set names it only towards the core. The rules of changes are those of node/chain. People, or
// the operator, start newcomers early or late, declare targets to one node after the other, edit
// them, and stop those that have left (operator.go). Machines are away for long, and members lose
// their vote stores and rejoin across eras. Each set has mostly as many Byzantine members as it
// withstands. The coalition also has the keys of all that were stopped, and of newcomers that no
// set has yet. With them it votes at the places of older sets, orders old changes again, and forges
// final blocks for those that are behind (haunt.go). Every running node has to arrive, each planned
// change has to become final, and those that left have to be stopped.
//
// # What is checked
//
// The oracle (oracle.go) checks in every run that
//
//   - a height has one final block, for ever, even if nobody was shown the other one;
//   - certificates consist of t votes that their signers cast;
//   - honest validators never break a rule;
//   - evidence accuses the guilty only, and a fork leaves, on the disks of nodes, evidence against
//     at least 2t-n of them;
//   - votes are on disk before they leave, with all that they rest on;
//   - a change of the set was endorsed by the threshold of that very set, and brings nobody back;
//   - heights go on in the calm.
//
// A run that breaks one of these ends with a violation ([Result].Violation).
//
// # What is not
//
// Signatures are not computed, unless [Options.Keys] asks for them: a vote that nobody signed does
// not verify. Blocks are headers; their content, and whether it is valid, belongs to the node.
package simulation
