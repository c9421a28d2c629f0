package chain

import (
	"crypto/ed25519"
	"errors"
	"fmt"
)

// ErrSignature is wrapped by errors about signatures that do not verify.
var ErrSignature = errors.New("signature does not verify")

// Kind is the statement that a vote makes.
type Kind uint8

// The kinds of votes (consensus.md, votes and certificates). Propose is the leader's Statement: the
// signature that stands for a proposal without its block.
const (
	Notarize Kind = 1
	Nullify  Kind = 2
	Finalize Kind = 3
	Propose  Kind = 4
)

var kindNames = map[Kind]string{Notarize: "notarize", Nullify: "nullify", Finalize: "finalize", Propose: "propose"}

// String returns the kind's name.
func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// MarshalText returns the kind's name.
func (k Kind) MarshalText() ([]byte, error) {
	if s, ok := kindNames[k]; ok {
		return []byte(s), nil
	}
	return nil, fmt.Errorf("%w: vote kind %d", ErrMalformed, uint8(k))
}

// UnmarshalText reads a kind's name.
func (k *Kind) UnmarshalText(b []byte) error {
	for kind, s := range kindNames {
		if s == string(b) {
			*k = kind
			return nil
		}
	}
	return fmt.Errorf("%w: vote kind %q", ErrMalformed, b)
}

// Vote is one validator's signed statement about a round of a height.
type Vote struct {
	Kind   Kind   `json:"kind"`
	Height uint64 `json:"height"`
	Round  uint32 `json:"round"`
	// Block is the header hash voted for; zero for Nullify.
	Block Hash `json:"block_hash"`
	// Validator is the signer's index in the set of the height.
	Validator uint32    `json:"validator"`
	Signature Signature `json:"signature"`
}

// voteSize is the length of an encoded vote.
const voteSize = 1 + 8 + 4 + 32 + 4 + 64

// signing returns the bytes that are signed: the validator is named by the key that verifies them.
func (v *Vote) signing(chainID string) []byte {
	b := make([]byte, 0, 64+len(chainID))
	b = appendBytes(append(b, "diseq/vote"...), chainID)
	b = append(b, byte(v.Kind))
	b = appendU64(b, v.Height)
	b = appendU32(b, v.Round)
	return append(b, v.Block[:]...)
}

// Sign sets the signature.
func (v *Vote) Sign(key ed25519.PrivateKey, chainID string) {
	v.Signature = sign(key, v.signing(chainID))
}

// Verify checks the vote's form and its signature by the validator of set that it names.
func (v *Vote) Verify(chainID string, set *ValidatorSet) error {
	if err := v.check(); err != nil {
		return err
	}
	if int64(v.Validator) >= int64(len(set.Validators)) {
		return fmt.Errorf("%v of validator %d: the set has %d", v.Kind, v.Validator, len(set.Validators))
	}
	if !verify(set.Validators[v.Validator].PublicKey, v.signing(chainID), v.Signature) {
		return fmt.Errorf("%v of validator %d at height %d round %d: %w", v.Kind, v.Validator, v.Height, v.Round, ErrSignature)
	}
	return nil
}

func (v *Vote) check() error {
	if v.Kind < Notarize || v.Kind > Propose {
		return fmt.Errorf("%w: vote kind %d", ErrMalformed, uint8(v.Kind))
	}
	if v.Height == 0 {
		return fmt.Errorf("%w: vote at height 0, which is genesis", ErrMalformed)
	}
	if v.Height > MaxNumber {
		return fmt.Errorf("%w: vote at height %d, at most %d allowed", ErrMalformed, v.Height, uint64(MaxNumber))
	}
	if (v.Kind == Nullify) != v.Block.IsZero() {
		return fmt.Errorf("%w: %v vote for block %v", ErrMalformed, v.Kind, v.Block)
	}
	return nil
}

func (v *Vote) append(b []byte) []byte {
	b = append(b, byte(v.Kind))
	b = appendU64(b, v.Height)
	b = appendU32(b, v.Round)
	b = append(b, v.Block[:]...)
	b = appendU32(b, v.Validator)
	return append(b, v.Signature[:]...)
}

// Encode returns the canonical encoding.
func (v *Vote) Encode() []byte { return v.append(make([]byte, 0, voteSize)) }

func (d *decoder) vote() Vote {
	v := Vote{Kind: Kind(d.u8("vote kind")), Height: d.number("height"), Round: d.u32("round")}
	d.fixed("block", v.Block[:])
	v.Validator = d.u32("validator")
	d.fixed("signature", v.Signature[:])
	if d.err == nil {
		d.err = v.check()
	}
	return v
}

// DecodeVote reads a vote; its signature is not checked.
func DecodeVote(b []byte) (Vote, error) {
	d := decoder{b: b}
	v := d.vote()
	return v, d.finish("vote")
}

// VoteSignature is one signer's part of a certificate.
type VoteSignature struct {
	Validator uint32    `json:"validator"`
	Signature Signature `json:"signature"`
}

// Certificate is a set of votes of one kind, height, round and block by distinct validators, in
// rising order of their index: a notarization, a nullification or a finalization once it holds the
// threshold of the height's set.
type Certificate struct {
	Kind   Kind            `json:"kind"`
	Height uint64          `json:"height"`
	Round  uint32          `json:"round"`
	Block  Hash            `json:"block_hash"`
	Votes  []VoteSignature `json:"votes"`
}

// Strength is the number of votes held.
func (c *Certificate) Strength() int { return len(c.Votes) }

// Vote returns the i-th vote of the certificate.
func (c *Certificate) Vote(i int) Vote {
	s := c.Votes[i]
	return Vote{Kind: c.Kind, Height: c.Height, Round: c.Round, Block: c.Block, Validator: s.Validator, Signature: s.Signature}
}

// Check reports whether the certificate is well-formed and holds at least threshold votes of
// validators below n. It does not check signatures.
func (c *Certificate) Check(n, threshold int) error {
	if c.Kind < Notarize || c.Kind > Finalize {
		return fmt.Errorf("%w: certificate of %v votes", ErrMalformed, c.Kind)
	}
	v := Vote{Kind: c.Kind, Height: c.Height, Block: c.Block}
	if err := v.check(); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	last := int64(-1)
	for _, s := range c.Votes {
		if int64(s.Validator) <= last {
			return fmt.Errorf("%w: certificate names validator %d after %d", ErrMalformed, s.Validator, last)
		}
		last = int64(s.Validator)
	}
	if last >= int64(n) {
		return fmt.Errorf("%w: certificate names validator %d: the set has %d", ErrMalformed, last, n)
	}
	if len(c.Votes) < threshold {
		return fmt.Errorf("certificate for height %d has %d votes, the threshold is %d", c.Height, len(c.Votes), threshold)
	}
	return nil
}

// Verify checks the certificate's form, that it holds at least set.Threshold votes, and every
// signature.
func (c *Certificate) Verify(chainID string, set *ValidatorSet) error {
	if err := c.Check(len(set.Validators), int(set.Threshold)); err != nil {
		return err
	}
	for i := range c.Votes {
		v := c.Vote(i)
		if err := v.Verify(chainID, set); err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
	}
	return nil
}

const signatureSize = 4 + 64

func (c *Certificate) append(b []byte) []byte {
	b = append(b, byte(c.Kind))
	b = appendU64(b, c.Height)
	b = appendU32(b, c.Round)
	b = append(b, c.Block[:]...)
	b = appendU32(b, uint32(len(c.Votes)))
	for _, s := range c.Votes {
		b = appendU32(b, s.Validator)
		b = append(b, s.Signature[:]...)
	}
	return b
}

// Encode returns the canonical encoding.
func (c *Certificate) Encode() []byte {
	return c.append(make([]byte, 0, 49+len(c.Votes)*signatureSize))
}

func (d *decoder) certificate() Certificate {
	c := Certificate{Kind: Kind(d.u8("certificate kind")), Height: d.number("height"), Round: d.u32("round")}
	d.fixed("block", c.Block[:])
	n := d.count("votes", MaxValidators, signatureSize)
	c.Votes = make([]VoteSignature, n)
	for i := range c.Votes {
		c.Votes[i].Validator = d.u32("validator")
		d.fixed("signature", c.Votes[i].Signature[:])
	}
	if d.err == nil {
		d.err = c.Check(MaxValidators, 1)
	}
	return c
}

// DecodeCertificate reads a certificate of at least one vote; neither threshold nor signatures are
// checked.
func DecodeCertificate(b []byte) (*Certificate, error) {
	d := decoder{b: b}
	c := d.certificate()
	if err := d.finish("certificate"); err != nil {
		return nil, err
	}
	return &c, nil
}
