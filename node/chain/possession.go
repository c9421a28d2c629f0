package chain

import (
	"crypto/ed25519"
	"fmt"

	"github.com/diseq/diseq/internal/document"
)

// PublicIdentity is public.json: what an owner publishes of an identity, so that others put it into
// a genesis document or a target. Proof shows that the owner holds the signing key, and that name
// and VRF key are the owner's choice: nobody publishes the key of another one with a VRF key of
// their own.
type PublicIdentity struct {
	// ChainID is the chain that the owner joins; empty if the owner leaves that open, so that
	// anyone may name the identity on any chain.
	ChainID   string    `json:"chain_id,omitzero"`
	Name      string    `json:"name"`
	PublicKey PublicKey `json:"public_key"`
	VRFKey    VRFKey    `json:"vrf_key"`
	// Proof is the signature of all of them by the signing key; zero in files that were written
	// before there was one.
	Proof Signature `json:"proof,omitzero"`
}

// ProveIdentity signs a validator's public half with its signing key, for one chain or for any.
func ProveIdentity(key ed25519.PrivateKey, v NamedValidator, chainID string) PublicIdentity {
	p := PublicIdentity{ChainID: chainID, Name: v.Name, PublicKey: v.PublicKey, VRFKey: v.VRFKey}
	p.Proof = sign(key, p.signing())
	return p
}

func (p *PublicIdentity) signing() []byte {
	b := appendBytes([]byte("diseq/identity"), p.ChainID)
	b = appendBytes(b, p.Name)
	b = append(b, p.PublicKey[:]...)
	return append(b, p.VRFKey[:]...)
}

// Validator returns the member of a set that the identity stands for.
func (p *PublicIdentity) Validator() NamedValidator {
	return NamedValidator{Name: p.Name, Validator: Validator{PublicKey: p.PublicKey, VRFKey: p.VRFKey}}
}

// Verify checks the key and the proof, and that the owner has not published it for another chain.
func (p *PublicIdentity) Verify(chainID string) error {
	if err := p.PublicKey.Validate(); err != nil {
		return fmt.Errorf("public key %v: %w", p.PublicKey, err)
	}
	if p.Proof == (Signature{}) {
		return fmt.Errorf("no proof that its owner holds the key %v: the owner makes one with diseq public", p.PublicKey)
	}
	if !verify(p.PublicKey, p.signing(), p.Proof) {
		return fmt.Errorf("the proof of %s for the key %v: %w", p.Name, p.PublicKey, ErrSignature)
	}
	if p.ChainID != "" && p.ChainID != chainID {
		return fmt.Errorf("the owner of %s published it for chain %q, this is chain %q", p.Name, p.ChainID, chainID)
	}
	return nil
}

// UnmarshalJSON reads a document that has no other members than these, each at most once.
func (p *PublicIdentity) UnmarshalJSON(b []byte) error {
	type plain PublicIdentity
	return document.Unmarshal(b, (*plain)(p))
}
