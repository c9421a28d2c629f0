// Package consensus decides one block a height: Simplex, for any threshold t above half of the n
// validators. It is the pure state machine of docs/consensus.md: events go in, actions come out. It
// has no clock, does no I/O and starts no goroutine, so that the same events always give the same
// actions and a simulator can run thousands of heights a minute.
//
// # What it promises
//
// With b Byzantine validators, b < 2t-n: correct validators never commit different blocks at a
// height, whatever the network loses, delays, doubles or reorders, and whenever processes crash
// between any two actions. Once messages arrive in time and t correct validators are up, heights go
// on. [Tolerance] gives the figures for n and t.
//
// With the synchrony wait ([chain.ValidatorSet].SynchronyDeltaMS) the same with b < t, while
// messages between correct validators arrive within Delta; validators that are cut off, paused or
// down count to b.
//
// It deliberately does not check signatures (they are checked before Step, in parallel), know what
// is in a block ([CheckBlock], [RequestBlock]), fetch anything, or follow the beacon: who leads
// when is part of [Height].
//
// # Why it is safe
//
// A height is decided in rounds. In a round a validator may notarize a block; t such votes are a
// notarization. It may then finalize that block, t of which are final, or give the round up and
// nullify it. Two certificates of a round have at least 2t-n signers in common, of which one is
// honest when b < 2t-n. Of an honest validator, in one round, there never are
//
//	E1  votes to notarize two blocks,
//	E2  a vote to nullify and a vote to finalize,
//	E3  a vote to finalize one block and a vote to notarize another.
//
// Let B be final in round r. By E2 round r has no nullification, by E1 no notarization of another
// block. Take the first later round w that notarizes anything, C. Its proposal was justified by the
// notarization of a round before w, and nullifications of every round between; it could not pass
// over r, so that round was r, where only B was notarized, or one between r and w, which w being
// the first excludes. So C is B; and so on upward. No other block becomes final.
//
// Should two blocks be final all the same, with b < t, at least 2t-n validators have signed two
// votes that break E1, E2 or E3 together: that pair is the evidence against them. The certificates
// of the rounds below the one that decided are kept with the block for it.
//
// E1 to E3 hold over a crash because what a vote says, and what it rests on, is durable before it
// leaves ([Persist]), and because a validator that lost its records does not vote
// (Config.VoteFrom), nor one that finds out that they are not all ([ErrMissingVote]). Tests search
// every state of a small model that runs this very code, crashes included (docs/promises.md, the
// small model).
//
// # Why the synchrony wait is safe
//
// Now b < t, so that every certificate has an honest signer, but two need have none in common. Let
// honest v vote to finalize B in round r, at time s + 2*Delta, having held its notarization since
// s, and suppose C, another block, becomes final at this height too.
//
// In round r no honest validator votes for C: by s + Delta each holds the notarization of B (R1),
// and votes for no other block of the round after that (R4). One that voted for C before s + Delta
// had relayed its Statement by then (R2), which reached v before s + 2*Delta; v would not have
// voted. So C has no notarization in r.
//
// Take the least later round w with a notarization of a block other than B, and an honest signer u
// of it. The block's justification does not rest on a notarization of r, or between r and w, for
// those are of B; so it passes over r, and u held a nullification of r when it voted. Before s +
// Delta u did not: it would have forwarded it (R1), and v would have known in time. After s + Delta
// u held the notarization of B and votes for nothing that passes over it (R3). So there is no such
// w, and C is not final in a round above r. Nor in one below: with the rounds exchanged, B would
// not have been notarized in r.
//
// The argument takes three things from the node: that a wait ends only when everything received by
// then was handled ([WaitTimer]), that a time without hearing spoils the wait ([Health]), and that
// nobody votes before it has heard what was said while it could not hear: after a start, a time of
// ill health, or heights of which it dropped messages ([RequestResend], [SettleTimer]).
//
// # How it is built
//
// An event changes what is held: votes, certificates, blocks, the pool's state. Then the rules are
// applied to what is held until none of them applies any more ([Core.advance] in rules.go). No rule
// looks at the order in which things came, so a message that is early is no special case: it is
// held, and the rule that needs it finds it.
package consensus
