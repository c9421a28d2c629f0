package node

import (
	"fmt"
	"sync"

	"github.com/diseq/diseq/node/chain"
)

// verifier checks the signatures of what peers send before the consensus core sees it. It runs on
// the peers' own reading goroutines, so that the peers are verified in parallel and each in order.
// A signature that was checked once is remembered: certificates are mostly made of votes that came
// on their own before.
type verifier struct {
	chainID string
	set     *chain.ValidatorSet

	mu       sync.Mutex
	new, old map[chain.Vote]struct{}
}

// verifierGeneration is how many votes are remembered at least; at most twice as many are.
const verifierGeneration = 8192

func newVerifier(g *chain.Genesis) *verifier {
	return &verifier{chainID: g.ChainID, set: g.Set(), new: map[chain.Vote]struct{}{}}
}

func (v *verifier) known(vote chain.Vote) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.new[vote]; ok {
		return true
	}
	_, ok := v.old[vote]
	return ok
}

func (v *verifier) remember(vote chain.Vote) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.new) >= verifierGeneration {
		v.old, v.new = v.new, make(map[chain.Vote]struct{}, verifierGeneration)
	}
	v.new[vote] = struct{}{}
}

// vote checks a vote.
func (v *verifier) vote(vote *chain.Vote) error {
	if v.known(*vote) {
		return nil
	}
	if err := vote.Verify(v.chainID, v.set); err != nil {
		return err
	}
	v.remember(*vote)
	return nil
}

// certificate checks a certificate, the votes that are not known yet one by one.
func (v *verifier) certificate(c *chain.Certificate) error {
	if err := c.Check(len(v.set.Validators), int(v.set.Threshold)); err != nil {
		return err
	}
	for i := range c.Votes {
		vote := c.Vote(i)
		if err := v.vote(&vote); err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
	}
	return nil
}

// proposal checks every signature in a proposal: the statement's, the first proposer's and those of
// the justification. Whether they add up to a justification is the core's to say.
func (v *verifier) proposal(p *chain.Proposal) error {
	if err := v.vote(&p.Statement); err != nil {
		return err
	}
	if err := p.Block.VerifySignature(v.set); err != nil {
		return err
	}
	if p.Notarization != nil {
		if err := v.certificate(p.Notarization); err != nil {
			return err
		}
	}
	for i := range p.Nullifications {
		if err := v.certificate(&p.Nullifications[i]); err != nil {
			return err
		}
	}
	return nil
}

// final checks a final block that catching up brought: what its header can be held against, its
// first proposer's signature and its certificate. The references to batches are the sender's word:
// nothing but the order in which the pool expects batches rests on them.
func (v *verifier) final(f *chain.FinalBlock) error {
	if err := f.VerifySignature(v.set); err != nil {
		return err
	}
	return f.Verify(v.chainID, v.set)
}
