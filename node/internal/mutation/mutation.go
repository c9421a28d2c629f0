// Package mutation takes rules of a node away, one at a time, so that tests show what each rule
// prevents: a simulator that does not see the fork, the invalid certificate or the stall that
// follows would be blind. The zero value takes nothing away. It is internal: nothing outside node
// can run a node with fewer rules.
package mutation

// Rules says which rules do not hold. E1 to E3, R1 to R4 and 2*Delta are those of
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
	// KeepSilent sends nothing again: no T_retry.
	KeepSilent bool
	// Hoard does not forward certificates.
	Hoard bool
	// SendFirst lets votes leave before they are persisted.
	SendFirst bool
	// VoteForgetful goes on although a vote of this validator turns up that it does not hold.
	VoteForgetful bool

	// Rules of the synchrony wait.

	// NoRelay takes R2 away: statements are not relayed. (R1 is Hoard.)
	NoRelay bool
	// PassOver takes R3 away: a vote for a proposal whose justification passes over a notarization
	// that is held.
	PassOver bool
	// VoteInConflict takes R4 away: a vote for a round of which two statements are known.
	VoteInConflict bool
	// QuarterWait waits Delta/2 instead of 2*Delta.
	QuarterWait bool
	// FinalizeNullified sends a vote to finalize although a nullification of the round is held when
	// the wait is over.
	FinalizeNullified bool
	// FinalizeInConflict sends it although a second block of the round is known.
	FinalizeInConflict bool
	// KeepWaiting sends it although the node was not healthy all the time.
	KeepWaiting bool
	// IgnoreHealth takes a node for healthy, whatever it says.
	IgnoreHealth bool
	// VoteUnsettled lets a validator vote before it has settled.
	VoteUnsettled bool
	// AskNobody does not ask the others what they said while this node could not hear them.
	AskNobody bool
	// ForgetDrops lets a validator vote at once at a height of which it dropped messages.
	ForgetDrops bool
	// TimerFirst handles the end of the wait before the messages of the same instant. It is the
	// caller of a Core that does so.
	TimerFirst bool
}
