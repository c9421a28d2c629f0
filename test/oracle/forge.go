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
	keys    map[chain.PublicKey]ed25519.PrivateKey
	// sets are the sets so far, by the hashes in headers.
	sets map[chain.Hash]*chain.NextSet
}

// forgers is how many identities a Forge has the keys of. The first four are the first set.
const forgers = 8

// forger returns the key of an identity, and its public part.
func forger(i int) (ed25519.PrivateKey, chain.NamedValidator) {
	key := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+i)), ed25519.SeedSize)))
	return key, chain.NamedValidator{
		Name: fmt.Sprint("v", i), Validator: chain.Validator{PublicKey: chain.PublicKeyOf(key), VRFKey: chain.VRFKey{31: byte(i + 1)}},
	}
}

// NewForge makes the network.
func NewForge(tb testing.TB) *Forge {
	tb.Helper()
	f := &Forge{
		Genesis: &chain.Genesis{Version: 1, ChainID: "forged", Threshold: 3, Parameters: chain.DefaultParameters()},
		keys:    map[chain.PublicKey]ed25519.PrivateKey{}, sets: map[chain.Hash]*chain.NextSet{},
	}
	for i := range forgers {
		key, v := forger(i)
		f.keys[v.PublicKey] = key
		if i < 4 {
			f.Genesis.Validators = append(f.Genesis.Validators, v)
		}
	}
	if err := f.Genesis.Validate(); err != nil {
		tb.Fatal(err)
	}
	f.sets[f.Genesis.Set().Hash()] = f.Genesis.First()
	return f
}

// open returns the set that decides the height above a chain.
func (f *Forge) open(below []*chain.FinalBlock) *chain.NextSet {
	if len(below) == 0 {
		return f.Genesis.First()
	}
	return f.sets[below[len(below)-1].Header.NextValidatorsHash]
}

// Change makes a final block that changes the set to the identities of these numbers, endorsed by
// the first members of the set in force.
func (f *Forge) Change(below []*chain.FinalBlock, endorsements int, threshold uint32, members ...int) *chain.FinalBlock {
	set := f.open(below)
	c := &chain.Change{Next: chain.NextSet{Generation: set.Generation + 1, Threshold: threshold}}
	for _, i := range members {
		_, v := forger(i)
		c.Next.Validators = append(c.Next.Validators, v)
	}
	for i, v := range set.Validators[:endorsements] {
		e := chain.Endorse(f.keys[v.PublicKey], f.Genesis.ChainID, &c.Next)
		c.Endorsements = append(c.Endorsements, chain.Endorsement{Validator: uint32(i), Signature: e.Signature})
	}
	b := f.Block(below)
	b.Change, b.Header.ChangeHash, b.Header.NextValidatorsHash = c, c.Hash(), c.Next.Set().Hash()
	f.sets[b.Header.NextValidatorsHash] = &c.Next
	f.seal(b)
	return b
}

// seal signs a block as its proposer, and certifies it.
func (f *Forge) seal(b *chain.FinalBlock) {
	b.Sign(f.keys[f.sets[b.Header.ValidatorsHash].Validators[b.Header.Proposer].PublicKey])
	f.Certify(b, int(f.sets[b.Header.ValidatorsHash].Threshold))
}

// Block makes a final block on top of a chain, with as few finalize votes as there may be.
func (f *Forge) Block(below []*chain.FinalBlock, messages ...chain.Message) *chain.FinalBlock {
	set, parent := f.open(below).Set(), f.Genesis.Header()
	if len(below) > 0 {
		parent = below[len(below)-1].Header
	}
	b := &chain.FinalBlock{Messages: messages}
	b.Header = chain.Header{
		ProtocolVersion: chain.ProtocolVersion, ChainID: f.Genesis.ChainID, Height: parent.Height + 1, ParentHash: parent.Hash(),
		Timestamp: parent.Timestamp + 1, MessagesRoot: chain.MessagesRoot(messages), MessagesCount: uint32(len(messages)),
		ValidatorsHash: set.Hash(), NextValidatorsHash: set.Hash(),
	}
	f.seal(b)
	return b
}

// Certify gives a block a certificate with the finalize votes of the first members of its set.
func (f *Forge) Certify(b *chain.FinalBlock, votes int) {
	f.certifyBy(b, f.sets[b.Header.ValidatorsHash], votes)
}

// certifyBy certifies with the votes of the first members of any set.
func (f *Forge) certifyBy(b *chain.FinalBlock, set *chain.NextSet, votes int) {
	b.Certificate = chain.Certificate{Kind: chain.Finalize, Height: b.Header.Height, Block: b.Hash()}
	for i, member := range set.Validators[:votes] {
		v := chain.Vote{Kind: chain.Finalize, Height: b.Header.Height, Block: b.Hash(), Validator: uint32(i)}
		v.Sign(f.keys[member.PublicKey], f.Genesis.ChainID)
		b.Certificate.Votes = append(b.Certificate.Votes, chain.VoteSignature{Validator: uint32(i), Signature: v.Signature})
	}
}

// Equivocation returns evidence that a validator voted for two blocks.
func (f *Forge) Equivocation(tb testing.TB) chain.Evidence {
	tb.Helper()
	a := chain.Vote{Kind: chain.Finalize, Height: 1, Block: chain.Hash{1}}
	b := chain.Vote{Kind: chain.Finalize, Height: 1, Block: chain.Hash{2}}
	key, _ := forger(0)
	a.Sign(key, f.Genesis.ChainID)
	b.Sign(key, f.Genesis.ChainID)
	e, ok := chain.NewEvidence(f.Genesis.ChainID, f.Genesis.Set(), a, b)
	if !ok {
		tb.Fatal("two votes for two blocks make no evidence")
	}
	return e
}

// Shown returns a block as a node shows it.
func Shown(f *chain.FinalBlock) client.Block {
	b := client.Block{
		Header: f.Header, HeaderHash: f.Hash(), Signature: &f.Signature, Commitment: f.Commitment, Change: f.Change,
		Messages: []chain.ReceiptMessage{},
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
