package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/trie"
)

// Verify checks that the block is final, without trust in the node that gave it: its header is of
// the chain and the validators made it final, the proposer signed it, and messages, commitment and
// change are those that the header names (docs/protocol.md, blocks in JSON). strength is the least
// number of finalize votes that the reader insists on; 0 means the threshold.
//
// A block has no changes that lead to its set. So if the set has changed, from is [chain.Eras] that
// have followed the changes, as a [Follower] does by itself. The change that the block carries is
// followed too: blocks that are verified in their order need no changes from elsewhere.
//
// Verify does not compare parent_hash with the block below. It does not verify the proof of the
// commitment, nor the endorsements of the change.
func (b *Block) Verify(from chain.Trust, strength int) error {
	if hash := b.Header.Hash(); hash != b.HeaderHash {
		return fmt.Errorf("the header has hash %v, the block says %v", hash, b.HeaderHash)
	}
	if b.Header.Height == 0 {
		return b.verifyGenesis(from)
	}
	if b.Certificate == nil || b.Signature == nil {
		return errors.New("the block has no certificate or no signature of its proposer")
	}
	f := &chain.FinalBlock{
		Block:    chain.Block{Header: b.Header, Signature: *b.Signature, Commitment: b.Commitment, Change: b.Change},
		Messages: make([]chain.Message, len(b.Messages)),
	}
	for i, m := range b.Messages {
		if id := m.Message.ID(); id != m.ID {
			return fmt.Errorf("message %d has id %v, the block says %v", i, id, m.ID)
		}
		f.Messages[i] = m.Message
	}
	eras := from.Eras()
	set, err := eras.SetAt(b.Header.Height)
	if err != nil {
		return err
	}
	if err := b.Certificate.VerifyFinal(&b.Header, eras.ChainID(), set, strength); err != nil {
		return err
	}
	err = errors.Join(f.VerifySignature(set), f.CheckCommitment(), f.CheckChange(), b.Header.CheckMessages(f.Messages))
	if err != nil || b.Change == nil {
		return err
	}
	return eras.Follow(chain.ValidatorSetChange{Header: b.Header, Certificate: *b.Certificate, Next: *b.Change.Next.Set()})
}

// verifyGenesis checks block 0, which follows from the genesis document alone.
func (b *Block) verifyGenesis(from chain.Trust) error {
	if first := from.Eras().First(); first.Height != 0 {
		return fmt.Errorf("block 0 is %w, height %d: verify it with the genesis document", chain.ErrBelowTrust, first.Height)
	} else if b.HeaderHash != first.Hash {
		return errors.New("block 0 is not that of the genesis document")
	}
	if b.Certificate != nil || b.Signature != nil || b.Commitment != nil || b.Change != nil || len(b.Messages) > 0 {
		return errors.New("block 0 has neither signature, commitment, change, certificate nor messages")
	}
	return nil
}

// Proof tells whether a message is in the state after a height: that is, whether a block up to that
// height holds it.
type Proof struct {
	ID     chain.Hash `json:"id"`
	Height uint64     `json:"height"`
	// Root is that of the state after Height; zero if the state is empty.
	Root     chain.Hash  `json:"root"`
	Included bool        `json:"included"`
	Proof    *trie.Proof `json:"proof"`
	// Certified says that Header, which is final by Certificate, names Root as its state root.
	Certified   bool                      `json:"certified"`
	Header      *chain.Header             `json:"header,omitempty"`
	Certificate *chain.ReceiptCertificate `json:"certificate,omitempty"`
}

// Proof returns the proof about a message in the newest state that the node has computed. While the
// chain is idle no header certifies that state: for a certified proof see [Client.ProofAt].
func (c *Client) Proof(ctx context.Context, id chain.Hash) (*Proof, error) {
	return c.proof(ctx, "/v1/proofs/"+id.String())
}

// ProofAt returns the proof about a message in the state after a height. It is certified if the
// height is the state height of a final header.
func (c *Client) ProofAt(ctx context.Context, id chain.Hash, height uint64) (*Proof, error) {
	return c.proof(ctx, "/v1/proofs/"+id.String()+"?height="+strconv.FormatUint(height, 10))
}

func (c *Client) proof(ctx context.Context, path string) (*Proof, error) {
	out := &Proof{}
	if err := c.do(ctx, get(path, out)); err != nil {
		return nil, err
	}
	return out, nil
}

// Verify checks the proof, without trust in the node that gave it: a final header names the root as
// the state after the height, and the way from that root leads to the message, or to where it would
// be. from and strength are as for [Block.Verify].
func (p *Proof) Verify(from chain.Trust, strength int) error {
	if !p.Certified || p.Header == nil || p.Certificate == nil {
		return fmt.Errorf("no header certifies the state after height %d: ask for the state height of a final header", p.Height)
	}
	if p.Header.StateHeight != p.Height || p.Header.StateRoot != p.Root {
		return fmt.Errorf("the header certifies state root %v of height %d, the proof is for %v of height %d",
			p.Header.StateRoot, p.Header.StateHeight, p.Root, p.Height)
	}
	included, err := trie.Verify(p.Root, p.ID, p.Proof)
	if err != nil {
		return err
	}
	if included != p.Included {
		return fmt.Errorf("included is %v, the proof shows %v", p.Included, included)
	}
	eras := from.Eras()
	set, err := eras.SetAt(p.Header.Height)
	if err != nil {
		return err
	}
	return p.Certificate.VerifyFinal(p.Header, eras.ChainID(), set, strength)
}
