// Package consensus decides one block a height: Simplex, for any threshold t above half of the n
// validators. It implements docs/consensus.md as a pure state machine: events go in, actions come
// out. It has no clock, does no I/O and starts no goroutine. The same events therefore always give
// the same actions, and a simulator can run thousands of heights a minute.
//
// # What it promises
//
// With b Byzantine validators, b < 2t-n: correct validators never commit different blocks at a
// height. This holds whatever the network loses, delays, doubles or reorders, and whenever
// processes crash between any two actions. Once messages arrive in time and t correct validators
// are up, heights go on. [Tolerance] gives the figures for n and t.
//
// With the synchrony wait ([chain.ValidatorSet].SynchronyDeltaMS) the same holds for b < t, while
// messages between correct validators arrive within Delta. Validators that are cut off, paused or
// down then count as Byzantine.
//
// It deliberately does not check signatures: the caller checks them before Step, in parallel. It
// does not know the content of a block ([CheckBlock], [RequestBlock]), fetches nothing, and does
// not follow the beacon: the order of leaders is part of [Height].
//
// # How to drive it
//
//	core, err := consensus.New(config, records) // records: all that Persist wrote, if not removed
//	actions, err := core.StartHeight(height)    // the height above the last stored block
//	for {
//		for _, a := range actions {
//			// Carry a out before the next one. After Commit: StartHeight for the next height.
//		}
//		actions = core.Step(<-events)
//	}
//
// The caller has five duties. It carries actions out in their order, and a Persist is on disk
// before the next action begins. It passes on only messages whose signatures it has verified, each
// against the set of its own height ([Received], [Ahead]). It fires [WaitTimer] and [SettleTimer]
// only after the time asked for, and behind every message received by then; other timers cost or
// save time. It keeps the records of a height until the final block of that height is stored. And
// it stores the block of a Commit before StartHeight. Only a member of the set that decided the
// block may do so later: its records cover that time, and a newcomer has none.
//
// # Why it is safe
//
// A height is decided in rounds. In a round a validator may notarize a block; t such votes are a
// notarization. It may then finalize that block, and t such votes make the block final. Or it gives
// the round up and nullifies it. Two certificates of a round have at least 2t-n signers in common,
// of which one is honest when b < 2t-n. An honest validator never signs, in one round,
//
//	E1  votes to notarize two blocks,
//	E2  a vote to nullify and a vote to finalize,
//	E3  a vote to finalize one block and a vote to notarize another.
//
// Let B be final in round r. By E2 round r has no nullification, by E1 no notarization of another
// block. Take the first later round w that notarizes anything, C. Its proposal was justified by the
// notarization of a round q before w, and nullifications of every round between q and w. A
// justification cannot pass over r, so q is not below r. Nor is q above r, because w is the first
// round above r with a notarization. So q is r, where only B was notarized, and C is B. By
// induction every later notarization is of B as well. No other block becomes final.
//
// If two blocks are final nevertheless, with b < t, at least 2t-n validators have signed two votes
// that break E1, E2 or E3 together: that pair is the evidence against them. For this, the
// certificates of the rounds below the deciding one are stored with the block.
//
// All of this is about one height and the set that decides it. Heights touch only through final
// blocks: the set of h+1 follows from the final block h. So the argument holds whatever the set of
// another height is, and b counts the members of this one.
//
// E1 to E3 hold over a crash, because a vote and everything that it rests on is durable before the
// vote leaves ([Persist]). A validator that lost its records does not vote (Config.VoteFrom). Nor
// does one that finds a vote of its own that its records lack ([ErrMissingVote]). Tests search
// every state of a small model that runs this very code, crashes included (docs/promises.md,
// the small model).
//
// # Why the synchrony wait is safe
//
// Now b < t: every certificate has an honest signer, but two certificates need not share one. Let
// honest v vote to finalize B in round r, at time s + 2*Delta, having held its notarization since
// s. Suppose another block C becomes final at this height too.
//
// In round r no honest validator votes for C. By s + Delta each holds the notarization of B (R1),
// and votes for no other block of the round after that (R4). One that voted for C before s + Delta
// had relayed its Statement by then (R2). The Statement reached v before s + 2*Delta, so v would
// not have voted. So C has no notarization in r.
//
// Take the least later round w with a notarization of a block other than B, and an honest signer u
// of it. The block's justification does not rest on a notarization of r, or between r and w, for
// those are of B. So it passes over r, and u held a nullification of r when it voted. Before s +
// Delta u did not: it would have forwarded it (R1), and v would have received it in time. After s +
// Delta u held the notarization of B and votes for nothing that passes over it (R3). So such a
// round w does not exist, and C is not final in a round above r. Nor is C final in a round below:
// with the rounds exchanged, B would not have been notarized in r.
//
// The argument takes three things from the node. A wait ends only when every message received by
// then was handled ([WaitTimer]). A time without hearing spoils the wait ([Health]). After a start,
// a time of ill health, a change of the set, or heights of which it dropped messages, a validator
// votes only once its peers have repeated their messages ([RequestResend], [SettleTimer]).
//
// # How it is built
//
// An event changes the state: votes, certificates, blocks, what the pool reported. Then the rules
// are applied to that state until none of them applies any more ([Core.advance] in rules.go). No
// rule depends on the order in which messages came. An early message therefore needs no special
// treatment: the Core keeps it, and the rule that needs it finds it. "Held", in this package, means
// just that: kept in the state of this Core.
//
// The decisions on which safety rests are the methods of one value, the rules of an honest
// validator (honest.go).
package consensus
