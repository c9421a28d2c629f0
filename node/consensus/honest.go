package consensus

import (
	"time"

	"github.com/diseq/diseq/node/chain"
)

// rules are the decisions of docs/consensus.md on which safety and progress rest, one method each.
// A Core asks its rules and does not decide these things elsewhere. A change here, or in rules.go,
// needs a change of docs/consensus.md and a transcript in testdata.
//
// The methods of honest are the rules of every node. Each stands beside the code that uses it. The
// simulator's controls, which show the purpose of each rule, replace them in one file.
type rules interface {
	// threshold returns how many votes of a set make a certificate.
	threshold(set *chain.ValidatorSet) int
	// count returns how many of the votes are for a block. The votes are of one kind and round, one
	// for each validator.
	count(h *height, votes []chain.Vote, block chain.Hash) int
	// accepts reports whether a certificate is well-formed, of this height, and complete.
	accepts(h *height, cert *chain.Certificate) bool
	// keep stores a certificate of a block that the round has no certificate of this kind for.
	keep(rd *round, cert *chain.Certificate)

	// votable reports whether the block of a Statement may ever be voted for in a round.
	votable(rd *round, block chain.Hash) bool
	// candidate returns the block that a notarize vote of a round is for. The round has a
	// Statement.
	candidate(rd *round) chain.Hash
	// justified reports whether the certificates held justify a block in round r, and whether the
	// block is fresh there.
	justified(h *height, r uint32, block chain.Hash) (ok, fresh bool)
	// mayNotarize reports whether this validator may still vote to notarize in a round.
	mayNotarize(h *height, rd *round, settled bool) bool
	// mayNullify reports whether this validator may give a round up.
	mayNullify(rd *round) bool
	// mayFinalize reports whether this validator may vote to finalize a block in a round.
	mayFinalize(h *height, rd *round, block chain.Hash) bool

	// wait returns the length of the synchrony wait.
	wait(h *height) time.Duration
	// refuted reports whether this validator knows something that speaks against finalizing in a
	// round.
	refuted(rd *round) bool
	// unhealthy spoils the waits of a Core whose node reports ill health.
	unhealthy(c *Core, h *height)
	// incomplete reports whether messages of a height were dropped before the height began.
	incomplete(h *height, dropped dropped) bool

	// judged reports whether a message of height h was checked against the set of that height, when
	// it was checked with set as that of the open height. The Core is at height now.
	judged(now, h *height, set chain.Hash) bool
	// enterEra begins a height whose set is not that of the height that this node was at before.
	enterEra(c *Core, from, h *height)
	// ahead handles the report of a message that could not be verified.
	ahead(c *Core, e Ahead)

	// sentBy reports whether a proposal came from the validator that made it.
	sentBy(h *height, from chain.PublicKey, p *chain.Proposal) bool
	// misfit handles a body that does not fit the header of its block.
	misfit(c *Core, h *height, b *block, body *chain.Block)
	// missing reports whether a vote is signed with this validator's key but is not among its
	// records.
	missing(h *height, v chain.Vote) bool
	// conflict returns the rule that two restored votes break together, "" if none.
	conflict(a, b chain.Vote) chain.Rule
	// repeat sends again, at T_retry, whatever may have been lost.
	repeat(c *Core, h *height)
	// leave returns the actions of a call, in their order.
	leave(records []chain.Record, bundle chain.Bundle, others []Action) []Action
}

// honest are the rules of every node.
type honest struct{}
