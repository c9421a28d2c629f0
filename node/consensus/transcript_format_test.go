package consensus

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/diseq/diseq/node/chain"
)

func (tr *transcript) name(h chain.Hash) string {
	if h.IsZero() {
		return ""
	}
	if n := tr.names[h]; n != "" {
		return " " + n
	}
	return " ?"
}

// blockName is the name of a block, with a ' for each batch of its body.
func (tr *transcript) blockName(b *chain.Block) string {
	return tr.name(b.Hash()) + strings.Repeat("'", len(b.Body))
}

// at writes a height where it is not the current one.
func (tr *transcript) at(h uint64) string {
	if h == tr.height {
		return ""
	}
	return fmt.Sprintf("h%d ", h)
}

func (tr *transcript) vote(v chain.Vote) string {
	return fmt.Sprintf("%s(%s%d%s)", v.Kind, tr.at(v.Height), v.Round, tr.name(v.Block))
}

func (tr *transcript) votesOf(votes []chain.Vote) []string {
	var out []string
	for _, v := range votes {
		s := tr.vote(v)
		if v.Kind == chain.Propose || int(v.Validator) != tr.set.Index(tr.cfg.PublicKey) {
			s += fmt.Sprintf("/%d", v.Validator)
		}
		out = append(out, s)
	}
	return out
}

func (tr *transcript) formatCertificate(c *chain.Certificate) string {
	var signers []string
	for _, s := range c.Votes {
		signers = append(signers, strconv.Itoa(int(s.Validator)))
	}
	name := map[chain.Kind]string{chain.Notarize: "notarization", chain.Nullify: "nullification", chain.Finalize: "finalization"}[c.Kind]
	return fmt.Sprintf("%s(%s%d%s by %s)", name, tr.at(c.Height), c.Round, tr.name(c.Block), strings.Join(signers, ","))
}

func (tr *transcript) formatProposal(p *chain.Proposal) string {
	just := ""
	if p.Notarization != nil {
		just += " " + tr.formatCertificate(p.Notarization)
	}
	for i := range p.Nullifications {
		just += " " + tr.formatCertificate(&p.Nullifications[i])
	}
	if just == "" {
		just = " nothing"
	}
	return fmt.Sprintf("proposal(%s%d%s on%s)", tr.at(p.Statement.Height), p.Statement.Round, tr.blockName(&p.Block), just)
}

func (tr *transcript) formatBundle(b *chain.Bundle) string {
	var parts []string
	for _, c := range b.Certificates {
		parts = append(parts, tr.formatCertificate(c))
	}
	for _, p := range b.Proposals {
		parts = append(parts, tr.formatProposal(p))
	}
	parts = append(parts, tr.votesOf(b.Votes)...)
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

func (tr *transcript) peers(keys []chain.PublicKey) string {
	var out []string
	for _, k := range keys {
		out = append(out, tr.peer(k))
	}
	return strings.Join(out, ",")
}

func (tr *transcript) peer(k chain.PublicKey) string {
	if i := tr.set.Index(k); i >= 0 {
		return strconv.Itoa(i)
	}
	return fmt.Sprintf("observer %d", k[1])
}

func (tr *transcript) record(r chain.Record) string {
	var s string
	var err error
	switch r.Kind {
	case chain.RecordVote:
		var v chain.Vote
		v, err = chain.DecodeVote(r.Data)
		s = tr.vote(v)
	case chain.RecordMissingVote:
		var v chain.Vote
		v, err = chain.DecodeVote(r.Data)
		s = "forgotten(" + tr.vote(v) + ")"
	case chain.RecordCertificate:
		var c *chain.Certificate
		if c, err = chain.DecodeCertificate(r.Data); err == nil {
			s = tr.formatCertificate(c)
		}
	case chain.RecordBlock:
		var b *chain.Block
		if b, err = chain.DecodeBlock(r.Data); err == nil {
			s = "block(" + strings.TrimSpace(tr.blockName(b)) + ")"
		}
	case chain.RecordProposal:
		var p *chain.Proposal
		if p, err = chain.DecodeProposal(r.Data); err == nil {
			s = tr.formatProposal(p)
		}
	}
	if err != nil {
		tr.t.Fatal(err)
	}
	return s
}

func (tr *transcript) format(actions []Action) []string {
	var out []string
	for _, a := range actions {
		out = append(out, tr.formatAction(a))
	}
	return out
}

func (tr *transcript) leaves(to *chain.PublicKey, b chain.Bundle) {
	if tr.send != nil {
		tr.send(to, b)
	}
}

// timerNames are by kind.
var timerNames = []string{
	RoundTimer: "round", RetryTimer: "retry", IntervalTimer: "interval", WaitTimer: "wait", ProposeTimer: "propose", SettleTimer: "settle",
}

func (tr *transcript) formatAction(a Action) string {
	switch a := a.(type) {
	case Persist:
		tr.disk = append(tr.disk, a.Records...)
		var parts []string
		for _, r := range a.Records {
			parts = append(parts, tr.record(r))
		}
		return "persist " + strings.Join(parts, ", ")
	case Broadcast:
		tr.leaves(nil, a.Bundle)
		return "broadcast " + tr.formatBundle(&a.Bundle)
	case Send:
		tr.leaves(&a.To, a.Bundle)
		return "send to " + tr.peer(a.To) + " " + tr.formatBundle(&a.Bundle)
	case SetTimer:
		name := timerNames[a.Timer.Kind]
		if a.Timer.Kind != RetryTimer && a.Timer.Kind != IntervalTimer {
			name += fmt.Sprintf(" %d", a.Timer.Round)
		}
		return fmt.Sprintf("timer %s in %v", name, a.After)
	case CheckBlock:
		fresh := ""
		if a.Fresh {
			fresh = " fresh"
		}
		return fmt.Sprintf("check%s round %d%s, held by %s", tr.blockName(a.Block), a.Round, fresh, tr.peers(a.Holders))
	case FetchBlock:
		return fmt.Sprintf("fetch%s, held by %s", tr.name(a.Block), tr.peers(a.Holders))
	case RequestBlock:
		return fmt.Sprintf("request block for round %d", a.Round)
	case Commit:
		tr.finals[tr.height] = a.Finalization
		s := fmt.Sprintf("commit%s %s", tr.blockName(a.Block), tr.formatCertificate(a.Finalization))
		for _, c := range a.Justification {
			s += ", justified by " + tr.formatCertificate(c)
		}
		return s
	case RequestResend:
		if tr.ask != nil {
			tr.ask()
		}
		return "ask the others again"
	case Strengthen:
		return "strengthen " + tr.formatCertificate(a.Finalization)
	case AnswerFinalization:
		return fmt.Sprintf("answer %s with the finalization of height %d", tr.peer(a.To), a.Height)
	case CatchUp:
		return fmt.Sprintf("catch up to height %d from %s", a.Height, tr.peer(a.From))
	case EvidenceFound:
		e := a.Evidence
		return fmt.Sprintf("evidence %s against %d: %s, %s", e.Rule, e.First.Validator, tr.vote(e.First), tr.vote(e.Second))
	case Contradiction:
		return "contradiction: " + strings.NewReplacer(tr.replacements()...).Replace(a.Reason)
	}
	tr.t.Fatalf("unknown action %T", a)
	return ""
}

// replacements puts names in place of hashes.
func (tr *transcript) replacements() []string {
	var out []string
	for h, n := range tr.names {
		out = append(out, h.String(), n)
	}
	return out
}
