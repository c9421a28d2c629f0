package chain

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Hash is a SHA-256 digest; in JSON and text it is 64 lower-case hex digits.
type Hash [32]byte

// PublicKey is an Ed25519 public key (RFC 8032); in JSON and text it is 64 lower-case hex digits.
type PublicKey [ed25519.PublicKeySize]byte

// VRFKey is a validator's public VRF key: a canonical big-endian field element (docs/protocol.md,
// VRF).
type VRFKey [32]byte

// VRFOutput is what a validator's VRF gives for an epoch: a canonical big-endian field element
// (docs/protocol.md, VRF).
type VRFOutput [32]byte

// Signature is an Ed25519 signature (RFC 8032); in JSON and text it is 128 lower-case hex digits.
type Signature [ed25519.SignatureSize]byte

// IsZero reports whether h is all zero bytes, which stands for "none".
func (h Hash) IsZero() bool { return h == Hash{} }

// String returns h as lower-case hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText returns h as lower-case hex.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads 64 lower-case hex digits.
func (h *Hash) UnmarshalText(b []byte) error { return unhex("hash", h[:], b) }

// ParseHash reads 64 lower-case hex digits.
func ParseHash(s string) (Hash, error) {
	var h Hash
	err := h.UnmarshalText([]byte(s))
	return h, err
}

// String returns k as lower-case hex.
func (k PublicKey) String() string { return hex.EncodeToString(k[:]) }

// MarshalText returns k as lower-case hex.
func (k PublicKey) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, k[:]), nil }

// UnmarshalText reads 64 lower-case hex digits.
func (k *PublicKey) UnmarshalText(b []byte) error { return unhex("public key", k[:], b) }

// String returns k as lower-case hex.
func (k VRFKey) String() string { return hex.EncodeToString(k[:]) }

// MarshalText returns k as lower-case hex.
func (k VRFKey) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, k[:]), nil }

// UnmarshalText reads 64 lower-case hex digits.
func (k *VRFKey) UnmarshalText(b []byte) error { return unhex("VRF key", k[:], b) }

// String returns o as lower-case hex.
func (o VRFOutput) String() string { return hex.EncodeToString(o[:]) }

// MarshalText returns o as lower-case hex.
func (o VRFOutput) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, o[:]), nil }

// UnmarshalText reads 64 lower-case hex digits.
func (o *VRFOutput) UnmarshalText(b []byte) error { return unhex("VRF output", o[:], b) }

// String returns s as lower-case hex.
func (s Signature) String() string { return hex.EncodeToString(s[:]) }

// MarshalText returns s as lower-case hex.
func (s Signature) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, s[:]), nil }

// UnmarshalText reads 128 lower-case hex digits.
func (s *Signature) UnmarshalText(b []byte) error { return unhex("signature", s[:], b) }

func unhex(what string, dst, src []byte) error {
	if len(src) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%w: %s of %d hex digits, want %d", ErrMalformed, what, len(src), hex.EncodedLen(len(dst)))
	}
	for _, c := range src {
		if 'A' <= c && c <= 'F' {
			return fmt.Errorf("%w: %s in upper-case hex", ErrMalformed, what)
		}
	}
	if _, err := hex.Decode(dst, src); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, what, err)
	}
	return nil
}

// PublicKeyOf returns the public half of an Ed25519 private key.
func PublicKeyOf(key ed25519.PrivateKey) PublicKey {
	return PublicKey(key[ed25519.PrivateKeySize-ed25519.PublicKeySize:])
}

func sign(key ed25519.PrivateKey, message []byte) Signature {
	return Signature(ed25519.Sign(key, message))
}

func verify(key PublicKey, message []byte, s Signature) bool {
	return ed25519.Verify(key[:], message, s[:])
}

// inOnePiece is the longest data that sum copies behind its prefix: below it, a copy costs less
// than a second call of the digest.
const inOnePiece = 512

// sum hashes a prefix of at most 64 bytes followed by data.
func sum(prefix, data []byte) Hash {
	if len(data) <= inOnePiece {
		var b [64 + inOnePiece]byte
		n := copy(b[:], prefix)
		return sha256.Sum256(b[:n+copy(b[n:], data)])
	}
	h := sha256.New()
	h.Write(prefix)
	h.Write(data)
	var out Hash
	h.Sum(out[:0])
	return out
}

// digest hashes a domain string followed by an encoding.
func digest(domain string, encoding []byte) Hash {
	h := sha256.New()
	h.Write([]byte(domain))
	h.Write(encoding)
	var out Hash
	h.Sum(out[:0])
	return out
}
