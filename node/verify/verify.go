// Package verify checks the signatures of everything that peers send, before any other part of the
// node sees it.
//
// It promises that a bundle without an error was signed, in every part, by the validators that it
// names. It does not judge whether the messages make sense together: the consensus core does.
package verify

import (
	"fmt"
	"sync"

	"github.com/diseq/diseq/node/chain"
)

// Verifier checks signatures. Its methods run on the goroutines that read from the peers, so that
// peers are verified in parallel and each of them in order. It remembers the votes that it checked:
// most votes of a certificate came on their own before.
type Verifier struct {
	chainID string
	set     *chain.ValidatorSet
	setHash chain.Hash

	mu       sync.Mutex
	new, old map[chain.Vote]struct{}
}

// generation is how many votes are remembered at least; at most twice as many are.
const generation = 8192

// New returns a Verifier for the validators of a genesis document.
func New(g *chain.Genesis) *Verifier {
	set := g.Set()
	return &Verifier{chainID: g.ChainID, set: set, setHash: set.Hash(), new: map[chain.Vote]struct{}{}}
}

// SetHash returns the hash of the set that signatures are checked against.
func (v *Verifier) SetHash() chain.Hash { return v.setHash }

func (v *Verifier) known(vote chain.Vote) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.new[vote]; ok {
		return true
	}
	_, ok := v.old[vote]
	return ok
}

func (v *Verifier) remember(vote chain.Vote) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.new) >= generation {
		v.old, v.new = v.new, make(map[chain.Vote]struct{}, generation)
	}
	v.new[vote] = struct{}{}
}

// The kinds of messages that Bundle refuses.
const (
	KindVote        = "vote"
	KindCertificate = "certificate"
	KindProposal    = "proposal"
)

// Bundle checks every signature in a bundle. height is the height that the sender must be at, or
// above, to know all of it. If there is an error, wrong is the kind of the message that it is
// about.
func (v *Verifier) Bundle(b *chain.Bundle) (height uint64, wrong string, err error) {
	for _, c := range b.Certificates {
		if err := v.Certificate(c); err != nil {
			return 0, KindCertificate, err
		}
		height = max(height, c.Height)
		if c.Kind == chain.Finalize {
			height = max(height, c.Height+1)
		}
	}
	for _, p := range b.Proposals {
		if err := v.Proposal(p); err != nil {
			return 0, KindProposal, err
		}
		height = max(height, p.Statement.Height)
	}
	for i := range b.Votes {
		if err := v.Vote(&b.Votes[i]); err != nil {
			return 0, KindVote, err
		}
		height = max(height, b.Votes[i].Height)
	}
	return height, "", nil
}

// Vote checks a vote.
func (v *Verifier) Vote(vote *chain.Vote) error {
	if v.known(*vote) {
		return nil
	}
	if err := vote.Verify(v.chainID, v.set); err != nil {
		return err
	}
	v.remember(*vote)
	return nil
}

// Certificate checks a certificate: its form, and every vote that was not checked before.
func (v *Verifier) Certificate(c *chain.Certificate) error {
	if err := c.Check(len(v.set.Validators), int(v.set.Threshold)); err != nil {
		return err
	}
	for i := range c.Votes {
		vote := c.Vote(i)
		if err := v.Vote(&vote); err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
	}
	return nil
}

// Proposal checks every signature in a proposal: the statement's, the first proposer's and those of
// the justification. The core judges whether the justification is complete.
func (v *Verifier) Proposal(p *chain.Proposal) error {
	if err := v.Vote(&p.Statement); err != nil {
		return err
	}
	if err := p.Block.VerifySignature(v.set); err != nil {
		return err
	}
	if p.Notarization != nil {
		if err := v.Certificate(p.Notarization); err != nil {
			return err
		}
	}
	for i := range p.Nullifications {
		if err := v.Certificate(&p.Nullifications[i]); err != nil {
			return err
		}
	}
	return nil
}

// Final checks a final block from a peer: its header as far as that is possible without the block
// below, its first proposer's signature and its certificate. It cannot check the references to
// batches. Only the order in which the pool expects batches rests on them, and the pool looks at
// none that the messages do not bear out.
func (v *Verifier) Final(f *chain.FinalBlock) error {
	if err := f.VerifySignature(v.set); err != nil {
		return err
	}
	return f.Verify(v.chainID, v.set)
}
