package chain

import (
	"crypto/ed25519"
	"fmt"
)

// Status is a validator's signed word on how far its chain is final. A validator that lost its
// vote store asks t others for it before it may vote again (consensus.md, Rejoining). The nonce is
// the asker's, so that an old answer is of no use.
type Status struct {
	Nonce     Hash
	Height    uint64
	Block     Hash
	Validator PublicKey
	Signature Signature
}

func (s *Status) signing(chainID string) []byte {
	b := appendBytes([]byte("diseq/status"), chainID)
	b = append(b, s.Nonce[:]...)
	b = appendU64(b, s.Height)
	return append(b, s.Block[:]...)
}

// Sign sets Validator and Signature.
func (s *Status) Sign(key ed25519.PrivateKey, chainID string) {
	s.Validator, s.Signature = PublicKeyOf(key), sign(key, s.signing(chainID))
}

// Verify checks that the status answers nonce and is signed by the key it names.
func (s *Status) Verify(chainID string, nonce Hash) error {
	if s.Nonce != nonce {
		return fmt.Errorf("status answers another nonce")
	}
	if !verify(s.Validator, s.signing(chainID), s.Signature) {
		return fmt.Errorf("status of %v: %w", s.Validator, ErrSignature)
	}
	return nil
}

// Encode returns the canonical encoding.
func (s *Status) Encode() []byte {
	b := append([]byte(nil), s.Nonce[:]...)
	b = appendU64(b, s.Height)
	b = append(b, s.Block[:]...)
	b = append(b, s.Validator[:]...)
	return append(b, s.Signature[:]...)
}

// DecodeStatus reads a status; it is not verified.
func DecodeStatus(in []byte) (*Status, error) {
	d := decoder{b: in}
	s := &Status{}
	d.fixed("nonce", s.Nonce[:])
	s.Height = d.number("height")
	d.fixed("block", s.Block[:])
	d.fixed("validator", s.Validator[:])
	d.fixed("signature", s.Signature[:])
	if err := d.finish("status"); err != nil {
		return nil, err
	}
	return s, nil
}
