package consensus

import (
	"fmt"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

// Of the next height two blocks are kept of each kind, validator and round, votes up to two turns
// of all leaders, certificates up to eight for each validator: whoever signs more fills no memory.
func TestWhatIsKeptOfTheNextHeightIsBounded(t *testing.T) {
	set := testSet(4, 3)
	h := &height{Height: Height{Number: 1, Set: set}, threshold: 3}
	var e early
	vote := func(validator, round uint32, block byte) {
		e.vote(h, chain.Vote{Kind: chain.Notarize, Height: 2, Round: round, Block: chain.Hash{block}, Validator: validator})
	}
	for _, c := range []struct {
		name             string
		validator, round uint32
		block            byte
		kept             int
	}{
		{"the first", 1, 0, 1, 1}, {"the same again", 1, 0, 1, 1}, {"a second block", 1, 0, 2, 2}, {"a third block", 1, 0, 3, 2},
		{"two turns ahead", 1, 8, 1, 3}, {"further ahead", 1, 9, 1, 3}, {"the last validator", 3, 0, 1, 4}, {"of no validator", 4, 0, 1, 4},
	} {
		if vote(c.validator, c.round, c.block); len(e.bundle.Votes) != c.kept {
			t.Errorf("a vote, %s: %d are kept, want %d", c.name, len(e.bundle.Votes), c.kept)
		}
	}
	for round := range uint32(40) {
		room := e.certificate(h, fakeCertificate(chain.Nullify, 2, round, chain.Hash{}, 0, 1, 2))
		if kept := len(e.bundle.Certificates); kept != min(int(round)+1, 32) || room != (round < 32) {
			t.Fatalf("certificate %d: room %v, %d are kept; want 32 of them", round+1, room, kept)
		}
	}
	if !e.certificate(h, fakeCertificate(chain.Nullify, 2, 50, chain.Hash{}, 0, 1)) {
		t.Error("what is no certificate counts as one that had to be dropped")
	}
	if !e.certificate(h, fakeCertificate(chain.Nullify, 2, 0, chain.Hash{}, 0, 1, 2)) {
		t.Error("a certificate that is kept counts as one that had to be dropped")
	}
}

// A change counts in the bytes that are kept of the next height's proposals.
func TestTheChangeOfAnEarlyProposalCounts(t *testing.T) {
	set := testSet(4, 3)
	h := &height{Height: Height{Number: 1, Set: set}, threshold: 3}
	var next chain.NextSet
	for i := range 100 {
		next.Validators = append(next.Validators, chain.NamedValidator{Name: fmt.Sprint("validator-", i)})
	}
	sizes := map[bool]int{}
	for _, with := range []bool{false, true} {
		var e early
		p := &chain.Proposal{Statement: chain.Vote{Kind: chain.Propose, Height: 2}}
		if with {
			p.Block.Change = &chain.Change{Next: next, Endorsements: make([]chain.Endorsement, 67)}
		}
		e.proposal(h, p)
		sizes[with] = e.size
	}
	if least := 100*(32+32) + 67*64; sizes[true]-sizes[false] < least {
		t.Errorf("a proposal takes %d bytes, with a change %d: want at least %d more", sizes[false], sizes[true], least)
	}
}

// With the synchrony wait a node that had to drop certificates of the next height settles there
// first.
func TestCertificatesBeyondWhatIsKeptAreMissedAtTheNextHeight(t *testing.T) {
	for _, c := range []struct {
		certificates uint32
		missed       uint64
	}{{32, 0}, {33, 2}} {
		core, _ := inWait(t)
		for round := range c.certificates {
			hears(core, chain.Bundle{Certificates: []*chain.Certificate{fakeCertificate(chain.Nullify, 2, round, chain.Hash{}, 0, 1, 3)}})
		}
		if core.dropped.highest != c.missed {
			t.Errorf("after %d certificates messages of height %d were dropped, want %d", c.certificates, core.dropped.highest, c.missed)
		}
	}
}
