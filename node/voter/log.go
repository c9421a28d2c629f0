package voter

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// The voter logs, at level debug, one line for each proposal, vote, certificate, round and final
// block. A line names the height, the round and the validator. A log of one height therefore reads
// as docs/consensus.md describes it.

// talks reports whether anybody reads these lines.
func (v *Voter) talks() bool { return v.log.Enabled(context.Background(), slog.LevelDebug) }

// validator returns the name of a validator of a height for log lines.
func (v *Voter) validator(height uint64, index uint32) string {
	if set, ok := v.cfg.Ledger.Sets().Named(height); ok && int64(index) < int64(len(set.Validators)) {
		return set.Validators[index].Name
	}
	return fmt.Sprint(index)
}

// logEvent logs what peers sent and what timers of the core ran out.
func (v *Voter) logEvent(e consensus.Event) {
	if !v.talks() {
		return
	}
	switch e := e.(type) {
	case consensus.Received:
		for _, c := range e.Bundle.Certificates {
			v.logCertificate(" received", c, "from", v.cfg.Name(e.From))
		}
		for _, p := range e.Bundle.Proposals {
			v.logVote("received", p.Statement, "from", v.cfg.Name(e.From))
		}
		for _, vote := range e.Bundle.Votes {
			v.logVote("received", vote, "from", v.cfg.Name(e.From))
		}
	case consensus.TimerFired:
		if e.Timer.Kind == consensus.RoundTimer {
			v.log.Debug("round timed out", "height", e.Timer.Height, "round", e.Timer.Round)
		}
	}
}

// logSent logs what this node sends to all: its own votes and proposals, and new certificates.
func (v *Voter) logSent(b *chain.Bundle) {
	if !v.talks() {
		return
	}
	for _, c := range b.Certificates {
		v.logCertificate("", c)
	}
	for _, p := range b.Proposals {
		v.logVote("sent", p.Statement)
	}
	for _, vote := range b.Votes {
		v.logVote("sent", vote)
	}
}

func (v *Voter) logVote(verb string, vote chain.Vote, more ...any) {
	what := vote.Kind.String() + " vote "
	if vote.Kind == chain.Propose {
		what = "proposal "
	}
	args := append(v.at(vote.Height, vote.Round, vote.Block), "validator", v.validator(vote.Height, vote.Validator))
	v.log.Debug(what+verb, append(args, more...)...)
}

func (v *Voter) logCertificate(verb string, c *chain.Certificate, more ...any) {
	args := append(v.at(c.Height, c.Round, c.Block), "votes", len(c.Votes))
	v.log.Debug(certificateName(c.Kind)+verb, append(args, more...)...)
}

// logRound logs that a round begins.
func (v *Voter) logRound(round uint32) {
	if v.talks() {
		leader := v.validator(v.height, uint32(v.order[int(round)%len(v.order)]))
		v.log.Debug("round begins", "height", v.height, "round", round, "leader", leader)
	}
}

// logFinal logs a final block.
func (v *Voter) logFinal(f *chain.FinalBlock) {
	if v.talks() {
		v.log.Debug("block final", "height", f.Header.Height, "round", f.Certificate.Round, "block", f.Hash(),
			"validator", v.validator(f.Header.Height, f.Header.Proposer), "messages", len(f.Messages))
	}
}

// at returns the attributes height, round and, unless it is zero, block.
func (v *Voter) at(height uint64, round uint32, block chain.Hash) []any {
	args := []any{"height", height, "round", round}
	if block != (chain.Hash{}) {
		args = append(args, "block", block)
	}
	return args
}

func certificateName(kind chain.Kind) string {
	switch kind {
	case chain.Notarize:
		return "notarization"
	case chain.Nullify:
		return "nullification"
	case chain.Finalize:
		return "finalization"
	}
	return kind.String() + " certificate"
}
