package chain

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"testing"
)

// network is a genesis document with the keys to sign for it, made from fixed seeds.
type network struct {
	*Genesis
	keys []ed25519.PrivateKey
	set  *ValidatorSet
}

func newNetwork(t testing.TB, n int, threshold uint32) *network {
	t.Helper()
	g := &Genesis{Version: 1, ChainID: "test-chain", TimeMS: 1_700_000_000_000, Threshold: threshold, Parameters: DefaultParameters()}
	var keys []ed25519.PrivateKey
	for i := range n {
		seed := sha256.Sum256(fmt.Appendf(nil, "validator %d", i))
		key := ed25519.NewKeyFromSeed(seed[:])
		keys = append(keys, key)
		vrfKey := VRFKey(sha256.Sum256(fmt.Appendf(nil, "vrf %d", i)))
		vrfKey[0] &= 0x3f // below the order of the field
		g.Validators = append(g.Validators, NamedValidator{
			Name: fmt.Sprintf("v%d", i), Validator: Validator{PublicKey: PublicKeyOf(key), VRFKey: vrfKey},
		})
	}
	if err := g.Validate(); err != nil {
		t.Fatal(err)
	}
	return &network{Genesis: g, keys: keys, set: g.Set()}
}

func (n *network) vote(kind Kind, height uint64, round uint32, block Hash, validator int) Vote {
	v := Vote{Kind: kind, Height: height, Round: round, Block: block, Validator: uint32(validator)}
	v.Sign(n.keys[validator], n.ChainID)
	return v
}

func (n *network) certificate(kind Kind, height uint64, round uint32, block Hash, validators ...int) Certificate {
	c := Certificate{Kind: kind, Height: height, Round: round, Block: block}
	for _, i := range validators {
		c.Votes = append(c.Votes, VoteSignature{Validator: uint32(i), Signature: n.vote(kind, height, round, block, i).Signature})
	}
	return c
}

func testMessages(n int) []Message {
	var messages []Message
	for i := range n {
		messages = append(messages, Message{Data: fmt.Appendf(nil, "message %d", i), Timestamp: uint32(i)})
	}
	return messages
}

// finalBlock returns a block at height 1 with count messages in one batch, final by validators 0, 1
// and 2.
func (n *network) finalBlock(count int) *FinalBlock {
	genesis := n.Header()
	batch := &Batch{Incarnation: 7, Number: 1, Messages: testMessages(count)}
	batch.Sign(n.keys[2], n.ChainID)
	b := Block{
		Header: Header{
			ProtocolVersion: ProtocolVersion, ChainID: n.ChainID, Height: 1, ParentHash: genesis.Hash(), Timestamp: n.TimeMS + 20, Proposer: 1,
			MessagesRoot: MessagesRoot(batch.Messages), MessagesCount: uint32(count), Beacon: n.Hash(),
			ValidatorsHash: n.set.Hash(), NextValidatorsHash: n.set.Hash(),
		},
		Commitment: &Commitment{Epoch: 0, Validator: 0, Output: [32]byte{1}, Proof: []byte("proof")},
		Body:       []BatchRef{{Author: batch.Author, Hash: batch.Hash(n.ChainID)}},
	}
	b.Header.CommitmentHash = b.Commitment.Hash()
	b.Sign(n.keys[1])
	return &FinalBlock{Block: b, Messages: batch.Messages, Certificate: n.certificate(Finalize, 1, 0, b.Hash(), 0, 1, 2)}
}

func (n *network) receipt(t testing.TB, f *FinalBlock, index int, changes ...ValidatorSetChange) *Receipt {
	t.Helper()
	receipts, err := NewReceipts(f, changes, index)
	if err != nil {
		t.Fatal(err)
	}
	return receipts[0]
}

// after returns the network of the set that comes after n's, on the chain of n.
func (n *network) after(t testing.TB, members int, threshold uint32) *network {
	t.Helper()
	next := newNetwork(t, members, threshold)
	next.set.Generation = n.set.Generation + 1
	next.Genesis.ChainID = n.ChainID
	return next
}

// named returns the set with names.
func (n *network) named() *NextSet {
	s := n.First()
	s.Generation = n.set.Generation
	return s
}

// blockAt makes a block at a height of the network's set, changed by alter before it is signed by
// as many validators as the threshold.
func (n *network) blockAt(height uint64, alter func(*FinalBlock)) *FinalBlock {
	f := n.finalBlock(2)
	f.Header.Height = height
	if alter != nil {
		alter(f)
	}
	f.Sign(n.keys[1])
	signers := make([]int, n.Threshold)
	for i := range signers {
		signers[i] = i
	}
	f.Certificate = n.certificate(Finalize, f.Header.Height, 0, f.Hash(), signers...)
	return f
}

// changeTo makes the block that changes the network's set to the next one.
func (n *network) changeTo(next *network, height uint64) *FinalBlock {
	return n.blockAt(height, func(f *FinalBlock) {
		endorsers := make([]int, n.Threshold)
		for i := range endorsers {
			endorsers[i] = i
		}
		f.Change = n.change(next.named(), endorsers...)
		f.Header.ChangeHash, f.Header.NextValidatorsHash = f.Change.Hash(), next.set.Hash()
	})
}

// final returns the change that a block carries.
func (f *FinalBlock) final(t testing.TB) *FinalChange {
	t.Helper()
	c, err := NewFinalChange(&f.Block, &f.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// entry returns the change that a block carries as receipts show it.
func (f *FinalBlock) entry(t testing.TB) ValidatorSetChange {
	t.Helper()
	entry, err := f.final(t).Entry()
	if err != nil {
		t.Fatal(err)
	}
	return entry
}
