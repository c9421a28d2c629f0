// Package verify checks the signatures of everything that peers send, before any other part of the
// node sees it.
//
// Each message is judged by the validator set of its own height. The sets are known up to the open
// height, the one above the last final block. One height above it, what verifies under the open
// height's set is passed on, for the set may stay the same. The rest is left out, and its height is
// reported: an honest peer that has come further says such things, so that it is not to blame.
//
// A message more than one height above the open one, or below the heights that the core holds, can
// only tell how far its sender is. It is left out by its height, before any signature is checked:
// to check it costs a hundred times as much as to send it again.
//
// The package promises that what it passes on was signed, in every part, by the validators that it
// names. It does not judge whether the messages make sense together: the consensus core does.
package verify

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// Verifier checks signatures. Its methods run on the goroutines that read from the peers, so that
// peers are verified in parallel and each of them in order. It remembers the votes that it checked:
// most votes of a certificate came on their own before.
type Verifier struct {
	chainID string
	height  func() uint64
	setAt   func(uint64) (*chain.ValidatorSet, bool)

	mu       sync.Mutex
	new, old map[checked]struct{}
	newest   judge
	// blocks are the signatures of blocks that verified lately.
	blocks map[signedBlock]struct{}
	// budgets are those of the peers that have sent something.
	budgets map[chain.PublicKey]*budget
}

// checked is a vote that verified. A vote names a place in a set, and another key may have that
// place in the next one: so the set is part of what is remembered.
type checked struct {
	set  chain.Hash
	vote chain.Vote
}

// signedBlock is a block whose first proposer's signature verified. The hash binds the header,
// which names the proposer's place in the set.
type signedBlock struct {
	set       *chain.ValidatorSet
	hash      chain.Hash
	signature chain.Signature
}

// rememberedBlocks is how many blocks are remembered at most. One more, and all are forgotten.
const rememberedBlocks = 256

// remembered is how many votes are remembered at least; at most twice as many are.
const remembered = 8192

// Kept is how many heights below the open one matter. The core holds as many closed heights.
const Kept = 4

// New returns a Verifier for a chain. height returns the last final height, setAt the set that
// decides a height: it knows each up to one above height. All heights of an era have the same
// pointer, and a set is never changed.
func New(chainID string, height func() uint64, setAt func(height uint64) (set *chain.ValidatorSet, ok bool)) *Verifier {
	return &Verifier{
		chainID: chainID, height: height, setAt: setAt,
		new: map[checked]struct{}{}, blocks: map[signedBlock]struct{}{}, budgets: map[chain.PublicKey]*budget{},
	}
}

// Signed remembers those of votes that the validator self signed, on its own node: the certificates
// of the others bring them back.
func (v *Verifier) Signed(self chain.PublicKey, votes []chain.Vote) {
	for _, vote := range votes {
		if set, ok := v.setAt(vote.Height); ok && set.Index(self) == int(vote.Validator) {
			v.at(vote.Height).remember(vote)
		}
	}
}

// judge checks signatures against one set.
type judge struct {
	*Verifier
	set  *chain.ValidatorSet
	hash chain.Hash
}

// at returns the judge of a height, at most the open one. The last one is kept: to hash a set of a
// hundred takes longer than to look up a vote.
func (v *Verifier) at(height uint64) judge {
	set, _ := v.setAt(height)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.newest.set != set {
		v.newest = judge{v, set, set.Hash()}
	}
	return v.newest
}

func (j judge) known(vote chain.Vote) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, ok := j.new[checked{j.hash, vote}]; ok {
		return true
	}
	_, ok := j.old[checked{j.hash, vote}]
	return ok
}

func (j judge) remember(vote chain.Vote) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.new) >= remembered {
		j.old, j.new = j.new, make(map[checked]struct{}, remembered)
	}
	j.new[checked{j.hash, vote}] = struct{}{}
}

// The kinds of messages that Bundle refuses.
const (
	KindVote        = "vote"
	KindCertificate = "certificate"
	KindProposal    = "proposal"
)

// Result is what Bundle found.
type Result struct {
	// Bundle has the messages that verified, and Set is the hash of the open height's set: messages
	// above that height were checked against it.
	Bundle chain.Bundle
	Set    chain.Hash
	// Height is the height that the sender must be at, or above, to know all of Bundle.
	Height uint64
	// Lowest and Ahead are the lowest and the highest height of the messages that were left out
	// because they are too far above the open height, or because the set of their height is not
	// known here; 0 if there are none.
	Lowest, Ahead uint64
	// Behind is the highest height of the messages that were left out because the core holds their
	// height no longer; 0 if there are none.
	Behind uint64
	// Useless counts the messages that were left out by their height alone.
	Useless int
	// Waited is for how long the sender had to wait because its budget of checks was used up.
	Waited time.Duration
}

// Bundle checks every signature in a bundle. It returns an error about a message that its sender
// cannot have verified, and the kind of that message. Nobody is to blame for a message above the
// open height, nor for one that is too old to be looked at. It waits while the sender's budget of
// checks is used up; ctx ends that.
func (v *Verifier) Bundle(ctx context.Context, from chain.PublicKey, b *chain.Bundle) (r Result, wrong string, err error) {
	s := v.session(ctx, from)
	r.Set = s.open.hash
	for _, c := range b.Certificates {
		ok, err := s.admits(c.Height, func() error { return s.certificate(c) })
		if err != nil {
			return Result{}, KindCertificate, err
		}
		if !ok {
			continue
		}
		r.Bundle.Certificates = append(r.Bundle.Certificates, c)
		r.Height = max(r.Height, c.Height)
		if c.Kind == chain.Finalize {
			r.Height = max(r.Height, c.Height+1)
		}
	}
	for _, p := range b.Proposals {
		ok, err := s.admits(highest(p), func() error { return s.proposal(p) })
		if err != nil {
			return Result{}, KindProposal, err
		}
		if ok {
			r.Bundle.Proposals = append(r.Bundle.Proposals, p)
			r.Height = max(r.Height, p.Statement.Height)
		}
	}
	for i := range b.Votes {
		vote := &b.Votes[i]
		ok, err := s.admits(vote.Height, func() error { return s.vote(s.at(vote.Height), vote) })
		if err != nil {
			return Result{}, KindVote, err
		}
		if ok {
			r.Bundle.Votes = append(r.Bundle.Votes, *vote)
			r.Height = max(r.Height, vote.Height)
		}
	}
	r.Lowest, r.Ahead, r.Behind, r.Useless = s.lowest, s.ahead, s.behind, s.useless
	r.Waited = s.waited
	return r, "", nil
}

// session is the checking of one bundle. The open height is looked up once: all of the bundle is
// checked against the same sets, whatever becomes final meanwhile.
type session struct {
	v      *Verifier
	ctx    context.Context
	budget *budget
	waited time.Duration
	height uint64 // the open height
	open   judge
	// unknown is the lowest height of which a message did not verify, 0 if there is none: its set
	// is another than the open one. So are those above, because no set comes back.
	unknown uint64
	// The heights that were left out, as in Result.
	lowest, ahead, behind uint64
	useless               int
}

// above leaves a message out that is above the open height.
func (s *session) above(height uint64) {
	s.ahead = max(s.ahead, height)
	if s.lowest == 0 || height < s.lowest {
		s.lowest = height
	}
}

func (v *Verifier) session(ctx context.Context, from chain.PublicKey) *session {
	height := v.height() + 1
	return &session{v: v, ctx: ctx, budget: v.budgetOf(from, height), height: height, open: v.at(height)}
}

// pay takes checks from the sender's budget.
func (s *session) pay(checks float64) error {
	waited, err := s.budget.take(s.ctx, checks, s.height, len(s.open.set.Validators))
	s.waited += waited
	return err
}

// at returns the judge of a height: that of the open one for all heights above.
func (s *session) at(height uint64) judge {
	if height >= s.height {
		return s.open
	}
	return s.v.at(height)
}

// admits checks a message whose highest part is of a height. It returns false for one that is left
// out, and an error only if the sender is at fault.
func (s *session) admits(height uint64, check func() error) (ok bool, err error) {
	switch {
	case height > s.height && height-s.height > 1:
		s.useless++
		s.above(height)
		return false, nil
	case height < s.height && s.height-height > Kept:
		s.useless++
		s.behind = max(s.behind, height)
		return false, nil
	case s.unknown > 0 && height >= s.unknown:
		s.above(height)
		return false, nil
	}
	if err = check(); err == nil {
		return true, nil
	}
	if height <= s.height {
		return false, err
	}
	s.unknown = height
	s.above(height)
	return false, nil
}

// highest returns the highest height of a proposal's parts. Those of an honest one are of one
// height.
func highest(p *chain.Proposal) uint64 {
	height := max(p.Statement.Height, p.Block.Header.Height)
	if p.Notarization != nil {
		height = max(height, p.Notarization.Height)
	}
	for i := range p.Nullifications {
		height = max(height, p.Nullifications[i].Height)
	}
	return height
}

// certificate checks a certificate: its form, and every vote that was not checked before.
func (s *session) certificate(c *chain.Certificate) error {
	j := s.at(c.Height)
	if err := c.Check(len(j.set.Validators), int(j.set.Threshold)); err != nil {
		return err
	}
	for i := range c.Votes {
		vote := c.Vote(i)
		if err := s.vote(j, &vote); err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
	}
	return nil
}

// proposal checks every signature in a proposal: the statement's, the first proposer's and those of
// the justification, each against the set of its height. The core judges whether the justification
// is complete.
func (s *session) proposal(p *chain.Proposal) error {
	if err := s.vote(s.at(p.Statement.Height), &p.Statement); err != nil {
		return err
	}
	if err := s.pay(1); err != nil {
		return err
	}
	if err := s.v.Block(&p.Block, s.at(p.Block.Header.Height).set); err != nil {
		return err
	}
	if p.Notarization != nil {
		if err := s.certificate(p.Notarization); err != nil {
			return err
		}
	}
	for i := range p.Nullifications {
		if err := s.certificate(&p.Nullifications[i]); err != nil {
			return err
		}
	}
	return nil
}

// vote checks a vote that was not checked before.
func (s *session) vote(j judge, vote *chain.Vote) error {
	if j.known(*vote) {
		return s.pay(lookupCost)
	}
	if err := s.pay(1); err != nil {
		return err
	}
	if err := vote.Verify(j.chainID, j.set); err != nil {
		return err
	}
	j.remember(*vote)
	return nil
}

// Block checks the signature of a block's first proposer, a validator of set, unless it was checked
// before: a block is checked when its proposal comes and, wherever it comes from, before a vote.
// The pointer stands for the set, see [New].
func (v *Verifier) Block(b *chain.Block, set *chain.ValidatorSet) error {
	key := signedBlock{set, b.Hash(), b.Signature}
	v.mu.Lock()
	_, known := v.blocks[key]
	v.mu.Unlock()
	if known {
		return nil
	}
	if err := b.VerifySignature(set); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.blocks) >= rememberedBlocks {
		clear(v.blocks)
	}
	v.blocks[key] = struct{}{}
	return nil
}

// Final checks a final block from a peer against the set of its height: its header as far as that
// is possible without the block below, its first proposer's signature and its certificate. It
// cannot check the references to batches. Only the order in which the pool expects batches rests on
// them, and no node keeps those that the messages do not bear out.
func (v *Verifier) Final(f *chain.FinalBlock, set *chain.ValidatorSet) error {
	if err := f.VerifySignature(set); err != nil {
		return err
	}
	return f.Verify(v.chainID, set)
}
