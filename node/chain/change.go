package chain

import (
	"crypto/ed25519"
	"fmt"
	"math"

	"github.com/diseq/diseq/internal/document"
)

// NamedValidator is a validator with its name, which is for people.
type NamedValidator struct {
	Name string `json:"name"`
	Validator
}

// NextSet is the validator set that a change brings into force, with the names of its members. The
// set's hash does not cover the names; the change's hash does.
type NextSet struct {
	// Generation is one more than that of the set before.
	Generation       uint32           `json:"generation"`
	Threshold        uint32           `json:"threshold"`
	SynchronyDeltaMS uint32           `json:"synchrony_delta_ms"`
	Validators       []NamedValidator `json:"validators"`
}

// Set returns the set without the names.
func (s *NextSet) Set() *ValidatorSet {
	set := &ValidatorSet{
		Generation: s.Generation, Threshold: s.Threshold, SynchronyDeltaMS: s.SynchronyDeltaMS,
		Validators: make([]Validator, len(s.Validators)),
	}
	for i, v := range s.Validators {
		set.Validators[i] = v.Validator
	}
	return set
}

// NameOf returns the name of a member, or the start of the key of anyone else.
func (s *NextSet) NameOf(key PublicKey) string {
	for _, v := range s.Validators {
		if v.PublicKey == key {
			return v.Name
		}
	}
	return key.String()[:16]
}

// Validate checks what can be checked of a set on its own: that each name has 1 to 63 bytes and is
// there once, and what [ValidatorSet.Validate] checks.
func (s *NextSet) Validate() error {
	names := map[string]bool{}
	for i, v := range s.Validators {
		if v.Name == "" || len(v.Name) > maxNameBytes || names[v.Name] {
			return fmt.Errorf("validator %d is named %q: want 1 to %d bytes, each name once", i, v.Name, maxNameBytes)
		}
		names[v.Name] = true
	}
	return s.Set().Validate()
}

func (s *NextSet) append(b []byte) []byte {
	b = s.Set().append(b)
	for _, v := range s.Validators {
		b = appendBytes(b, v.Name)
	}
	return b
}

// Encode returns the canonical encoding: the set, then the name of each validator.
func (s *NextSet) Encode() []byte { return s.append(nil) }

// Hash returns the hash that endorsements sign.
func (s *NextSet) Hash() Hash { return digest("diseq/next", s.Encode()) }

const validatorSize = 32 + 32

func (d *decoder) nextSet() NextSet {
	s := NextSet{Generation: d.u32("generation"), Threshold: d.u32("threshold"), SynchronyDeltaMS: d.u32("synchrony delta")}
	s.Validators = make([]NamedValidator, d.count("validators", MaxValidators, validatorSize))
	for i := range s.Validators {
		d.fixed("public key", s.Validators[i].PublicKey[:])
		d.fixed("VRF key", s.Validators[i].VRFKey[:])
	}
	for i := range s.Validators {
		s.Validators[i].Name = string(d.bytes("name", maxNameBytes))
	}
	return s
}

// UnmarshalJSON reads a document that has no other members than these, each at most once.
func (s *NextSet) UnmarshalJSON(b []byte) error {
	type plain NextSet
	return document.Unmarshal(b, (*plain)(s))
}

// Endorsement is a member's consent to a change, as the change carries it. Validator is an index in
// the set in force.
type Endorsement struct {
	Validator uint32    `json:"validator"`
	Signature Signature `json:"signature"`
}

// Change replaces the validator set from the next height on. A block carries at most one.
type Change struct {
	Next NextSet `json:"next"`
	// Endorsements are by members of the set in force, at least its threshold; indices rise.
	Endorsements []Endorsement `json:"endorsements"`
}

func (c *Change) append(b []byte) []byte {
	b = c.Next.append(b)
	b = appendU32(b, uint32(len(c.Endorsements)))
	for _, e := range c.Endorsements {
		b = appendU32(b, e.Validator)
		b = append(b, e.Signature[:]...)
	}
	return b
}

// Encode returns the canonical encoding.
func (c *Change) Encode() []byte { return c.append(nil) }

// Size is the length of the encoding in bytes.
func (c *Change) Size() int {
	size := 16 + 4 + signatureSize*len(c.Endorsements)
	for _, v := range c.Next.Validators {
		size += validatorSize + 4 + len(v.Name)
	}
	return size
}

// Hash returns the hash that headers name the change by.
func (c *Change) Hash() Hash { return digest("diseq/change", c.Encode()) }

func (d *decoder) change() Change {
	c := Change{Next: d.nextSet()}
	c.Endorsements = make([]Endorsement, d.count("endorsements", MaxValidators, signatureSize))
	for i := range c.Endorsements {
		c.Endorsements[i].Validator = d.u32("endorser")
		d.fixed("endorsement", c.Endorsements[i].Signature[:])
	}
	return c
}

// DecodeChange reads a change. Nothing is verified: see Verify.
func DecodeChange(in []byte) (*Change, error) {
	d := decoder{b: in}
	c := d.change()
	if err := d.finish("change"); err != nil {
		return nil, err
	}
	return &c, nil
}

// UnmarshalJSON reads a document that has no other members than these, each at most once.
func (c *Change) UnmarshalJSON(b []byte) error {
	type plain Change
	return document.Unmarshal(b, (*plain)(c))
}

// Verify checks a change against the set in force: the next set is valid on its own and follows the
// set, and at least the threshold of the set's members endorsed it. It does not know which
// identities were used before: see [Identities.Check].
func (c *Change) Verify(chainID string, set *ValidatorSet) error {
	if err := c.Next.Validate(); err != nil {
		return fmt.Errorf("next set: %w", err)
	}
	if err := c.Next.follows(set); err != nil {
		return err
	}
	if len(c.Endorsements) < int(set.Threshold) {
		return fmt.Errorf("change with %d endorsements, the threshold is %d", len(c.Endorsements), set.Threshold)
	}
	next, last := c.Next.Hash(), int64(-1)
	for _, e := range c.Endorsements {
		i := int64(e.Validator)
		if i <= last || i >= int64(len(set.Validators)) {
			return fmt.Errorf("endorsement of validator %d after that of %d: indices rise, and the set has %d", i, last, len(set.Validators))
		}
		last = i
		if !verify(set.Validators[i].PublicKey, endorsementSigning(chainID, next), e.Signature) {
			return fmt.Errorf("endorsement of validator %d: %w", i, ErrSignature)
		}
	}
	return nil
}

// follows reports whether s can be the next set after one.
func (s *NextSet) follows(set *ValidatorSet) error {
	if set.Generation == math.MaxUint32 || s.Generation != set.Generation+1 {
		return fmt.Errorf("next set of generation %d, the set in force has generation %d", s.Generation, set.Generation)
	}
	if s.SynchronyDeltaMS != set.SynchronyDeltaMS {
		return fmt.Errorf("next set with synchrony_delta_ms %d, the chain has %d", s.SynchronyDeltaMS, set.SynchronyDeltaMS)
	}
	return nil
}

func endorsementSigning(chainID string, next Hash) []byte {
	b := appendBytes([]byte("diseq/endorse"), chainID)
	return append(b, next[:]...)
}

// Endorsed is an endorsement as its maker sends it over its own links. The next set holds its
// generation, so that what was endorsed in one era does not count in another.
type Endorsed struct {
	// Generation is that of the next set, Next its hash.
	Generation uint32
	Next       Hash
	Signature  Signature
}

// Endorse signs a next set.
func Endorse(key ed25519.PrivateKey, chainID string, next *NextSet) Endorsed {
	hash := next.Hash()
	return Endorsed{Generation: next.Generation, Next: hash, Signature: sign(key, endorsementSigning(chainID, hash))}
}

// Verify checks the signature.
func (e *Endorsed) Verify(chainID string, key PublicKey) error {
	if !verify(key, endorsementSigning(chainID, e.Next), e.Signature) {
		return fmt.Errorf("endorsement of %v: %w", key, ErrSignature)
	}
	return nil
}

// Encode returns the canonical encoding.
func (e *Endorsed) Encode() []byte {
	b := appendU32(nil, e.Generation)
	b = append(b, e.Next[:]...)
	return append(b, e.Signature[:]...)
}

// DecodeEndorsed reads an endorsement. Its signature is not checked.
func DecodeEndorsed(in []byte) (*Endorsed, error) {
	d := decoder{b: in}
	e := &Endorsed{Generation: d.u32("generation")}
	d.fixed("next set", e.Next[:])
	d.fixed("endorsement", e.Signature[:])
	if err := d.finish("endorsement"); err != nil {
		return nil, err
	}
	return e, nil
}

// Target is the set that a validator's operator wants to come next: the `target` of its peers file.
type Target struct {
	// Follows is the generation of the set that the target replaces. A target that follows another
	// generation than the one in force is ignored: it is an old file put back.
	Follows    uint32           `json:"follows"`
	Threshold  uint32           `json:"threshold"`
	Validators []NamedValidator `json:"validators"`
}

// Next returns the set that a target asks for. deltaMS is the chain's Delta, which no change
// alters.
func (t *Target) Next(deltaMS uint32) *NextSet {
	return &NextSet{Generation: t.Follows + 1, Threshold: t.Threshold, SynchronyDeltaMS: deltaMS, Validators: t.Validators}
}

// Check reports why a target cannot follow the set in force, besides what [NextSet.Validate] and
// [Identities.Check] report.
func (t *Target) Check(set *ValidatorSet) error { return t.Next(set.SynchronyDeltaMS).follows(set) }

// Checkpoint names the header of the last change. It comes from people, not from peers: keys of
// members that have left can be stolen, and a node that is below the checkpoint trusts no chain
// that leads elsewhere.
type Checkpoint struct {
	Height uint64 `json:"height"`
	Hash   Hash   `json:"hash"`
}

// Identities are the members of all sets of a chain so far. An identity is a name, a public key and
// a VRF key. They stay together for ever, and an identity that has left never comes back.
type Identities struct {
	names map[string]bool
	keys  map[[32]byte]bool
}

// NewIdentities returns the identities of the first set.
func NewIdentities(first *NextSet) *Identities {
	i := &Identities{names: map[string]bool{}, keys: map[[32]byte]bool{}}
	i.Add(first)
	return i
}

// Add notes the members of a set that came into force.
func (i *Identities) Add(s *NextSet) {
	for _, v := range s.Validators {
		i.names[v.Name], i.keys[v.PublicKey], i.keys[v.VRFKey] = true, true, true
	}
}

// Clone returns a copy: what is added to one is not in the other.
func (i *Identities) Clone() *Identities {
	c := &Identities{names: make(map[string]bool, len(i.names)), keys: make(map[[32]byte]bool, len(i.keys))}
	for name := range i.names {
		c.names[name] = true
	}
	for key := range i.keys {
		c.keys[key] = true
	}
	return c
}

// Check reports a member of the next set that is neither a member of the current set, with the same
// name and keys, nor new in its name and in both keys.
func (i *Identities) Check(current, next *NextSet) error {
	stays := map[NamedValidator]bool{}
	for _, v := range current.Validators {
		stays[v] = true
	}
	for n, v := range next.Validators {
		switch {
		case stays[v]:
		case i.names[v.Name]:
			return fmt.Errorf("validator %d is named %s: this name belongs to another identity, or to one that has left", n, v.Name)
		case i.keys[v.PublicKey]:
			return fmt.Errorf("validator %d, %s, has the key %v of another identity, or of one that has left", n, v.Name, v.PublicKey)
		case i.keys[v.VRFKey]:
			return fmt.Errorf("validator %d, %s, has the VRF key %v of another identity, or of one that has left", n, v.Name, v.VRFKey)
		}
	}
	return nil
}

// fieldOrder is the order r of the BLS12-381 groups, which VRF keys are below.
var fieldOrder = VRFKey{
	0x73, 0xed, 0xa7, 0x53, 0x29, 0x9d, 0x7d, 0x48, 0x33, 0x39, 0xd8, 0x08, 0x09, 0xa1, 0xd8, 0x05,
	0x53, 0xbd, 0xa4, 0x02, 0xff, 0xfe, 0x5b, 0xfe, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01,
}

func (k VRFKey) wellFormed() bool { return string(k[:]) < string(fieldOrder[:]) }
