package consensus

import "github.com/diseq/diseq/node/chain"

// Rejoining is what a validator that lost its vote store has learned since it began to ask
// (docs/consensus.md, Rejoining). It knows nothing of how the answers come.
type Rejoining struct {
	Self chain.PublicKey
	// Height was this validator's final height when it began to ask, and Set decides the height
	// above it.
	Height uint64
	Set    *chain.ValidatorSet
	// Answers are the final heights that peers reported since, at most one of each.
	Answers map[chain.PublicKey]uint64
}

// rejoinSkip is how many heights above the highest known one a validator that lost its vote store
// stays silent: it voted at most at F+1 (F: the highest final height then), and one honest of the t
// others that answer reports at least F-1.
const rejoinSkip = 3

// Shown returns how many answers count when this validator's final height is tip: those of other
// members of Set, about heights that it has the blocks of. A height that nobody can show would
// silence this validator for ever, or, at the end of the numbers, not at all.
func (r *Rejoining) Shown(tip uint64) int {
	shown, _ := r.shown(tip)
	return shown
}

func (r *Rejoining) shown(tip uint64) (shown int, highest uint64) {
	for key, height := range r.Answers {
		if key != r.Self && height <= tip && r.Set.Index(key) >= 0 {
			shown, highest = shown+1, max(highest, height)
		}
	}
	return shown, highest
}

// VotesFrom returns the first height at which this validator may vote, if that height is decided by
// Set; ok is false while too few answers count. Its own height is among the answers: members of an
// era that has just begun may be below it.
func (r *Rejoining) VotesFrom(tip uint64) (first uint64, ok bool) {
	shown, highest := r.shown(tip)
	if shown < int(r.Set.Threshold) {
		return 0, false
	}
	return max(r.Height, highest) + rejoinSkip, true
}

// RejoinStep is what a validator that lost its vote store does next.
type RejoinStep uint8

const (
	// RejoinWaits means that too few answers count, or that the chain has not come to the first
	// height.
	RejoinWaits RejoinStep = iota
	// RejoinVotes means that it may vote from VotesFrom on, which is at most one above its final
	// height.
	RejoinVotes
	// RejoinAsksAgain means that the chain entered another era before it came to that height. The
	// answers say nothing about that era: the validator begins anew, with the members of the open
	// set.
	RejoinAsksAgain
)

// Step judges the answers when this validator's final height is tip. setAt returns the set that
// decides a height up to tip+1.
func (r *Rejoining) Step(tip uint64, setAt func(height uint64) *chain.ValidatorSet) RejoinStep {
	first, ok := r.VotesFrom(tip)
	reached := ok && first <= tip+1
	at := tip + 1
	if reached {
		at = first
	}
	switch {
	case setAt(at).Hash() != r.Set.Hash():
		return RejoinAsksAgain
	case reached:
		return RejoinVotes
	default:
		return RejoinWaits
	}
}
