package simulation

import (
	"fmt"
	"strings"

	"github.com/diseq/diseq/node/chain"
)

// Fault is a fault of a run, or an act of the coalition. They are counted, because a fault that
// never happens tests nothing.
type Fault int

// Faults of machines, of the network, and of Byzantine validators.
const (
	Crash Fault = iota
	TornWrite
	PowerCut
	LostVotes
	Pause
	CutOff
	Partition
	Loss
	Repetition
	Withholding
	Equivocation
	DoubleVote
	NullifyAndFinalize
	Unjustified
	InvalidBlock
	WrongBody
	Release
	Replay
	Garbage
	SetChange
	Away
	Theft
	BadChange
	OldVote
	Forged
	Misled
	kindsOfFault
)

var faultNames = [kindsOfFault]string{
	"crashes", "torn writes", "power cuts", "vote stores lost", "pauses", "cut off", "partitions", "lost", "repeated", "withheld votes",
	"equivocations", "double votes", "nullify+finalize", "unjustified", "invalid blocks", "wrong bodies", "released", "replayed", "garbage",
	"changes of the set", "away", "keys stolen", "bad changes", "votes of leavers", "forged blocks", "nodes misled",
}

// String returns the fault's name in tables.
func (f Fault) String() string { return faultNames[f] }

// Faults counts each fault.
type Faults [kindsOfFault]int

// String lists the faults that happened.
func (f Faults) String() string {
	var out []string
	for kind, times := range f {
		if times > 0 {
			out = append(out, fmt.Sprintf("%d %v", times, Fault(kind)))
		}
	}
	return strings.Join(out, ", ")
}

// countVote counts the rules that a Byzantine validator's new vote breaks together with its earlier
// ones.
func (w *world) countVote(who *identity, v chain.Vote) {
	if !who.owned() || w.signed[v] != nil {
		return
	}
	k := sentKey{who, v.Height, v.Round}
	for _, o := range w.byzantine[k] {
		switch chain.Conflict(o, v) {
		case chain.RulePropose:
			w.faults[Equivocation]++
		case chain.RuleE1, chain.RuleE3:
			w.faults[DoubleVote]++
		case chain.RuleE2:
			w.faults[NullifyAndFinalize]++
		}
	}
	w.byzantine[k] = append(w.byzantine[k], v)
}
