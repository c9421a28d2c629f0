// Package consensus decides one block a height: Simplex, for any threshold t above half of the n validators. It is the
// pure state machine of docs/consensus.md: events go in, actions come out. It has no clock, does no I/O and starts no goroutine,
// so that the same events always give the same actions and a simulator can run thousands of heights a minute.
//
// # What it promises
//
// With b Byzantine validators, b < 2t-n: correct validators never commit different blocks at a height, whatever the network
// loses, delays, doubles or reorders, and whenever processes crash between any two actions. Once messages arrive in time and
// t correct validators are up, heights go on. [Tolerance] gives the figures for n and t.
//
// It deliberately does not check signatures (they are checked before Step, in parallel), know what is in a block
// ([CheckBlock], [RequestBlock]), fetch anything, or follow the beacon: who leads when is part of [Height].
//
// # Why it is safe
//
// A height is decided in rounds. In a round a validator may notarize a block; t such votes are a notarization. It may then
// finalize that block, t of which are final, or give the round up and nullify it. Two certificates of a round have at least
// 2t-n signers in common, of which one is honest when b < 2t-n. Of an honest validator, in one round, there never are
//
//	E1  votes to notarize two blocks,
//	E2  a vote to nullify and a vote to finalize,
//	E3  a vote to finalize one block and a vote to notarize another.
//
// Let B be final in round r. By E2 round r has no nullification, by E1 no notarization of another block. Take the first
// later round w that notarizes anything, C. Its proposal was justified by the notarization of a round before w, and
// nullifications of every round between; it could not pass over r, so that round was r, where only B was notarized, or one
// between r and w, which w being the first excludes. So C is B; and so on upward. No other block becomes final.
//
// E1 to E3 hold over a crash because what a vote says, and what it rests on, is durable before it leaves ([Persist]), and
// because a validator that lost its records does not vote (Config.VoteFrom).
//
// # How it is built
//
// An event changes what is held: votes, certificates, blocks, the pool's state. Then the rules are applied to what
// is held until none of them applies any more ([Core.advance] in rules.go). No rule looks at the order in which things came, so
// a message that is early is no special case: it is held, and the rule that needs it finds it.
package consensus
