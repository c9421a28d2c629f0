// Package mutation names the rules of a validator that tests and the simulator take away, one at a
// time. A simulator that does not see the fork, the invalid certificate or the stall that follows
// would be blind. The zero value takes nothing away. The package is internal: nothing outside of
// node can run a node with fewer rules. node/consensus/mutation.go says how each rule is replaced.
package mutation

// Rules names the rules that do not hold. E1 to E3, R1 to R4 and 2*Delta are those of
// docs/consensus.md.
type Rules struct {
	// NotarizeTwice takes E1 away: a validator votes for every proposal of a round.
	NotarizeTwice bool
	// NullifyAndFinalize takes E2 away: a validator nullifies a round that it finalizes, and the
	// other way round.
	NullifyAndFinalize bool
	// FinalizeAnother takes E3 away: a validator finalizes a block although it notarized another
	// one in the round.
	FinalizeAnother bool
	// VotesMissing is how many votes fewer than the threshold make a certificate.
	VotesMissing int
	// CountTwice counts each validator's own vote twice.
	CountTwice bool
	// VoteUnjustified votes for proposals that no certificate justifies.
	VoteUnjustified bool
	// ForgetCertificates persists votes without the certificates that they rest on.
	ForgetCertificates bool
	// KeepSilent sends nothing again: T_retry has no effect.
	KeepSilent bool
	// Hoard does not forward certificates.
	Hoard bool
	// SendFirst lets votes leave before they are persisted.
	SendFirst bool
	// VoteForgetful goes on although a vote of this validator turns up that its records lack.
	VoteForgetful bool
	// AnyBody takes the body of a block from whichever peer sends the leader's proposal.
	AnyBody bool
	// AnySet takes messages that were checked against another set than that of their height.
	AnySet bool
	// IgnoreAhead does not catch up when others send messages that cannot be verified yet.
	IgnoreAhead bool
	// ForgetEra neither settles nor asks the others when the set has changed.
	ForgetEra bool
	// NewcomersSettle does so only where this node was not in the set before.
	NewcomersSettle bool
	// Rules about changes of the validator set. The caller of a Core keeps them, not the Core.

	// NewcomerStartsEarly lets a newcomer start its first height before the block below is durable.
	NewcomerStartsEarly bool
	// NoCheckpoint does without the checkpoint of the peers file.
	NoCheckpoint bool
	// CacheWithoutSet remembers a verified vote without the set that it verified with.
	CacheWithoutSet bool
	// NoGeneration has no generation in a set.
	NoGeneration bool
	// EndorsementsMissing is how many endorsements fewer than the threshold make a change.
	EndorsementsMissing int
	// OwnSetCertifies judges the finalization of a block by the set that the block itself brings.
	OwnSetCertifies bool
	// CountLeavers also takes votes of the member that had the place at the height below.
	CountLeavers bool
	// UnboundChange takes a block whose header names another change.
	UnboundChange bool
	// OrderUnlinked orders a change whose set is not there.
	OrderUnlinked bool
	// SleepAfterChange lets the height after a change stay asleep.
	SleepAfterChange bool

	// MisfitInvalid calls a block invalid when a body does not fit its header.
	MisfitInvalid bool

	// Rules of the synchrony wait.

	// NoRelay takes R2 away: statements are not relayed. (R1 is Hoard.)
	NoRelay bool
	// PassOver takes R3 away: a validator votes for a proposal whose justification passes over a
	// notarization that it holds.
	PassOver bool
	// VoteInConflict takes R4 away: a validator votes in a round of which it knows two statements.
	VoteInConflict bool
	// QuarterWait waits Delta/2 instead of 2*Delta.
	QuarterWait bool
	// FinalizeNullified votes to finalize although the validator holds a nullification of the round
	// when the wait is over.
	FinalizeNullified bool
	// FinalizeInConflict votes to finalize although the validator knows a second block of the
	// round.
	FinalizeInConflict bool
	// KeepWaiting votes to finalize although the node was not healthy all the time.
	KeepWaiting bool
	// IgnoreHealth ignores reports of ill health.
	IgnoreHealth bool
	// VoteUnsettled lets a validator vote before it has settled.
	VoteUnsettled bool
	// AskNobody does not ask the others for the messages that this node could not hear.
	AskNobody bool
	// ForgetDrops lets a validator vote at once at a height of which it dropped messages.
	ForgetDrops bool
	// TimerFirst handles the end of the wait before the messages of the same instant. The caller of
	// a Core does that, not the Core.
	TimerFirst bool
}
