package oracle

import (
	"crypto/ed25519"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/node/chain"
)

// Forge makes the blocks of a network of four validators, three of which must sign, whose keys it
// holds: what a suite needs to show that its audit sees a broken promise.
type Forge struct {
	Genesis *chain.Genesis
	keys    []ed25519.PrivateKey
}

// NewForge makes the network.
func NewForge(tb testing.TB) *Forge {
	tb.Helper()
	f := &Forge{Genesis: &chain.Genesis{Version: 1, ChainID: "forged", Threshold: 3, Parameters: chain.DefaultParameters()}}
	for i := range 4 {
		key := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+i)), ed25519.SeedSize)))
		f.keys = append(f.keys, key)
		f.Genesis.Validators = append(f.Genesis.Validators, chain.NamedValidator{
			Name: fmt.Sprint("v", i), Validator: chain.Validator{PublicKey: chain.PublicKeyOf(key), VRFKey: chain.VRFKey{31: byte(i + 1)}},
		})
	}
	if err := f.Genesis.Validate(); err != nil {
		tb.Fatal(err)
	}
	return f
}

// Block makes a final block on top of a chain, with the finalize votes of three validators.
func (f *Forge) Block(below []*chain.FinalBlock, messages ...chain.Message) *chain.FinalBlock {
	set, parent := f.Genesis.Set(), f.Genesis.Header()
	if len(below) > 0 {
		parent = below[len(below)-1].Header
	}
	b := &chain.FinalBlock{Messages: messages}
	b.Header = chain.Header{
		ProtocolVersion: chain.ProtocolVersion, ChainID: f.Genesis.ChainID, Height: parent.Height + 1, ParentHash: parent.Hash(),
		Timestamp: parent.Timestamp + 1, MessagesRoot: chain.MessagesRoot(messages), MessagesCount: uint32(len(messages)),
		ValidatorsHash: set.Hash(), NextValidatorsHash: set.Hash(),
	}
	b.Sign(f.keys[0])
	f.Certify(b, 3)
	return b
}

// Certify gives a block a certificate with the finalize votes of the first validators.
func (f *Forge) Certify(b *chain.FinalBlock, votes int) {
	b.Certificate = chain.Certificate{Kind: chain.Finalize, Height: b.Header.Height, Block: b.Hash()}
	for i, key := range f.keys[:votes] {
		v := chain.Vote{Kind: chain.Finalize, Height: b.Header.Height, Block: b.Hash(), Validator: uint32(i)}
		v.Sign(key, f.Genesis.ChainID)
		b.Certificate.Votes = append(b.Certificate.Votes, chain.VoteSignature{Validator: uint32(i), Signature: v.Signature})
	}
}

// Equivocation returns evidence that a validator voted for two blocks.
func (f *Forge) Equivocation(tb testing.TB) chain.Evidence {
	tb.Helper()
	a := chain.Vote{Kind: chain.Finalize, Height: 1, Block: chain.Hash{1}}
	b := chain.Vote{Kind: chain.Finalize, Height: 1, Block: chain.Hash{2}}
	a.Sign(f.keys[0], f.Genesis.ChainID)
	b.Sign(f.keys[0], f.Genesis.ChainID)
	e, ok := chain.NewEvidence(f.Genesis.ChainID, f.Genesis.Set(), a, b)
	if !ok {
		tb.Fatal("two votes for two blocks make no evidence")
	}
	return e
}

// Shown returns a block as a node shows it.
func Shown(f *chain.FinalBlock) client.Block {
	b := client.Block{
		Header: f.Header, HeaderHash: f.Hash(), Signature: &f.Signature, Commitment: f.Commitment, Messages: []chain.ReceiptMessage{},
	}
	b.Certificate = &chain.ReceiptCertificate{Certificate: f.Certificate, Strength: f.Certificate.Strength()}
	for _, m := range f.Messages {
		b.Messages = append(b.Messages, chain.ReceiptMessage{ID: m.ID(), Message: m})
	}
	return b
}

// Recorder is a test whose failures are expected: it keeps them and lets the real test go on.
type Recorder struct {
	testing.TB
	mu   sync.Mutex
	said []string
}

// Error implements testing.TB.
func (r *Recorder) Error(args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, fmt.Sprint(args...))
}

// Errorf implements testing.TB.
func (r *Recorder) Errorf(format string, args ...any) { r.Error(fmt.Sprintf(format, args...)) }

// Fatal implements testing.TB.
func (r *Recorder) Fatal(args ...any) {
	r.Error(args...)
	runtime.Goexit()
}

// Fatalf implements testing.TB.
func (r *Recorder) Fatalf(format string, args ...any) { r.Fatal(fmt.Sprintf(format, args...)) }

// FailNow implements testing.TB.
func (r *Recorder) FailNow() { runtime.Goexit() }

// Failed implements testing.TB.
func (r *Recorder) Failed() bool { return r.Said() != "" }

// Said returns the failures, one a line.
func (r *Recorder) Said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.said, "\n")
}
