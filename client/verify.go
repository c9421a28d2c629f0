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
// the chain and the validators made it final, the proposer signed it, and messages and commitment
// are those that the header names (docs/protocol.md, blocks in JSON). strength is the least number
// of finalize votes that the reader insists on; 0 means the threshold. The changes lead from
// genesis' validator set to the set of the block. There are none while the set has never changed.
//
// Verify does not compare parent_hash with the block below, and does not verify the proof of the
// commitment.
func (b *Block) Verify(g *chain.Genesis, strength int, changes ...chain.ValidatorSetChange) error {
	if hash := b.Header.Hash(); hash != b.HeaderHash {
		return fmt.Errorf("the header has hash %v, the block says %v", hash, b.HeaderHash)
	}
	if b.Header.Height == 0 {
		return b.verifyGenesis(g)
	}
	if b.Certificate == nil || b.Signature == nil {
		return errors.New("the block has no certificate or no signature of its proposer")
	}
	f := &chain.FinalBlock{
		Block:    chain.Block{Header: b.Header, Signature: *b.Signature, Commitment: b.Commitment},
		Messages: make([]chain.Message, len(b.Messages)),
	}
	for i, m := range b.Messages {
		if id := m.Message.ID(); id != m.ID {
			return fmt.Errorf("message %d has id %v, the block says %v", i, id, m.ID)
		}
		f.Messages[i] = m.Message
	}
	set, err := g.SetAt(b.Header.Height, changes...)
	if err != nil {
		return err
	}
	if err := b.Certificate.VerifyFinal(&b.Header, g.ChainID, set, strength); err != nil {
		return err
	}
	if epoch := b.Header.Height / uint64(g.Parameters.BeaconInterval); b.Commitment != nil && b.Commitment.Epoch != epoch {
		return fmt.Errorf("commitment of epoch %d in a block of epoch %d", b.Commitment.Epoch, epoch)
	}
	return errors.Join(f.VerifySignature(set), f.CheckCommitment(), b.Header.CheckMessages(f.Messages))
}

// verifyGenesis checks block 0, which follows from the genesis document alone.
func (b *Block) verifyGenesis(g *chain.Genesis) error {
	if b.Header != g.Header() {
		return errors.New("block 0 is not that of the genesis document")
	}
	if b.Certificate != nil || b.Signature != nil || b.Commitment != nil || len(b.Messages) > 0 {
		return errors.New("block 0 has neither signature, commitment, certificate nor messages")
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
// be. strength and changes are as for [Block.Verify].
func (p *Proof) Verify(g *chain.Genesis, strength int, changes ...chain.ValidatorSetChange) error {
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
	set, err := g.SetAt(p.Header.Height, changes...)
	if err != nil {
		return err
	}
	return p.Certificate.VerifyFinal(p.Header, g.ChainID, set, strength)
}
