package chain

import (
	"fmt"

	"github.com/diseq/diseq/internal/document"
)

// Rule is a rule that a pair of votes breaks (consensus.md, why it is safe).
type Rule string

// The rules an honest validator never breaks.
const (
	// RuleE1: it votes for one block only in a round.
	RuleE1 Rule = "E1"
	// RuleE2: it never nullifies and finalizes the same round.
	RuleE2 Rule = "E2"
	// RuleE3: it never finalizes one block and notarizes another in the same round.
	RuleE3 Rule = "E3"
	// RulePropose: a leader proposes one block only in a round.
	RulePropose Rule = "propose"
)

// Conflict returns the rule that two votes of one validator break together, or "" if they break
// none.
func Conflict(a, b Vote) Rule {
	if a.Validator != b.Validator || a.Height != b.Height || a.Round != b.Round {
		return ""
	}
	if a.Kind > b.Kind {
		a, b = b, a
	}
	switch {
	case a.Kind == b.Kind && a.Block == b.Block:
		return ""
	case a.Kind == Propose && b.Kind == Propose:
		return RulePropose
	case a.Kind == b.Kind:
		return RuleE1
	case a.Kind == Nullify && b.Kind == Finalize:
		return RuleE2
	case a.Kind == Notarize && b.Kind == Finalize && a.Block != b.Block:
		return RuleE3
	}
	return ""
}

// Evidence is a pair of votes by one validator that no honest validator signs. Anyone with the
// validator set can check it.
type Evidence struct {
	ChainID   string    `json:"chain_id"`
	Rule      Rule      `json:"rule"`
	PublicKey PublicKey `json:"public_key"`
	First     Vote      `json:"first"`
	Second    Vote      `json:"second"`
}

// NewEvidence pairs two conflicting votes, in an order that does not depend on which came first;
// false if they break no rule.
func NewEvidence(chainID string, set *ValidatorSet, a, b Vote) (Evidence, bool) {
	rule := Conflict(a, b)
	if rule == "" || int64(a.Validator) >= int64(len(set.Validators)) {
		return Evidence{}, false
	}
	if string(a.Encode()) > string(b.Encode()) {
		a, b = b, a
	}
	return Evidence{ChainID: chainID, Rule: rule, PublicKey: set.Validators[a.Validator].PublicKey, First: a, Second: b}, true
}

// Verify checks that the two votes break the rule named and that the validator of set with that key
// signed both.
func (e *Evidence) Verify(chainID string, set *ValidatorSet) error {
	if e.ChainID != chainID {
		return fmt.Errorf("evidence of chain %q, want %q", e.ChainID, chainID)
	}
	if rule := Conflict(e.First, e.Second); rule == "" || rule != e.Rule {
		return fmt.Errorf("the two votes do not break rule %q", e.Rule)
	}
	if i := set.Index(e.PublicKey); i < 0 || int64(i) != int64(e.First.Validator) {
		return fmt.Errorf("validator %d of the set does not have key %v", e.First.Validator, e.PublicKey)
	}
	for _, v := range []Vote{e.First, e.Second} {
		if err := v.Verify(chainID, set); err != nil {
			return fmt.Errorf("evidence: %w", err)
		}
	}
	return nil
}

// Encode returns the canonical encoding.
func (e *Evidence) Encode() []byte {
	b := appendBytes(nil, e.ChainID)
	b = appendBytes(b, e.Rule)
	b = append(b, e.PublicKey[:]...)
	return e.Second.append(e.First.append(b))
}

// DecodeEvidence reads evidence; it is not verified.
func DecodeEvidence(in []byte) (*Evidence, error) {
	d := decoder{b: in}
	e := &Evidence{ChainID: string(d.bytes("chain id", maxChainIDBytes)), Rule: Rule(d.bytes("rule", 16))}
	d.fixed("public key", e.PublicKey[:])
	e.First, e.Second = d.vote(), d.vote()
	if err := d.finish("evidence"); err != nil {
		return nil, err
	}
	return e, nil
}

// UnmarshalJSON reads a document that has no other members than these, each at most once.
func (e *Evidence) UnmarshalJSON(b []byte) error {
	type plain Evidence
	return document.Unmarshal(b, (*plain)(e))
}

// EvidenceDocument is evidence as readers are shown it: with the changes that lead from the set
// that they trust to the set of its height. Evidence of an era that is over convicts a key, which
// may have been stolen since.
type EvidenceDocument struct {
	Evidence
	ValidatorChanges []ValidatorSetChange `json:"validator_changes"`
}

// Document returns the evidence with the changes up to its height.
func (e *Evidence) Document(changes []ValidatorSetChange) *EvidenceDocument {
	if changes == nil {
		changes = []ValidatorSetChange{}
	}
	return &EvidenceDocument{Evidence: *e, ValidatorChanges: changes}
}

// Verify checks the evidence against what the reader trusts, and follows the changes to the set of
// its height.
func (e *EvidenceDocument) Verify(from Trust) error {
	eras := from.Eras()
	set, err := eras.SetAt(e.First.Height, e.ValidatorChanges...)
	if err != nil {
		return err
	}
	return e.Evidence.Verify(eras.chainID, set)
}

// UnmarshalJSON reads a document that has no other members than these, each at most once.
func (e *EvidenceDocument) UnmarshalJSON(b []byte) error {
	type pair Evidence // without its own reader, which knows no changes
	var plain struct {
		pair
		ValidatorChanges []ValidatorSetChange `json:"validator_changes"`
	}
	if err := document.Unmarshal(b, &plain); err != nil {
		return err
	}
	*e = *(*Evidence)(&plain.pair).Document(plain.ValidatorChanges)
	return nil
}
