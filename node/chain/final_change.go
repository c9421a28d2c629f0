package chain

import "fmt"

// FinalChange is a change of the validator set with the final header that carries it: an entry of
// GET /v1/changes. The header's change_hash binds the names of the members and the endorsements.
type FinalChange struct {
	Header       Header             `json:"header"`
	Certificate  ReceiptCertificate `json:"certificate"`
	Next         NextSet            `json:"next"`
	Endorsements []Endorsement      `json:"endorsements"`
}

// NewFinalChange returns the change that a final block carries.
func NewFinalChange(b *Block, c *Certificate) (*FinalChange, error) {
	if b.Change == nil {
		return nil, fmt.Errorf("block %d carries no change of the validator set", b.Header.Height)
	}
	return &FinalChange{
		Header: b.Header, Certificate: ReceiptCertificate{Certificate: *c, Strength: c.Strength()},
		Next: b.Change.Next, Endorsements: b.Change.Endorsements,
	}, nil
}

// Entry returns the change as receipts carry it, for [Eras.Follow], after it has checked that names
// and endorsements are those that the header names. Endorsements prove nothing further to a reader:
// the votes for the header stand for them.
func (f *FinalChange) Entry() (ValidatorSetChange, error) {
	change := Change{Next: f.Next, Endorsements: f.Endorsements}
	if hash := change.Hash(); hash != f.Header.ChangeHash {
		return ValidatorSetChange{}, fmt.Errorf("change to generation %d has hash %v, its header at height %d names %v",
			f.Next.Generation, hash, f.Header.Height, f.Header.ChangeHash)
	}
	return ValidatorSetChange{Header: f.Header, Certificate: f.Certificate, Next: *f.Next.Set()}, nil
}

// FollowFinal is Follow for changes as GET /v1/changes shows them.
func (e *Eras) FollowFinal(changes ...FinalChange) error {
	entries := make([]ValidatorSetChange, len(changes))
	for i := range changes {
		var err error
		if entries[i], err = changes[i].Entry(); err != nil {
			return err
		}
	}
	return e.Follow(entries...)
}
