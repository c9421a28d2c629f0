package vrf

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"

	"github.com/diseq/diseq/node/vrf/internal/circuit"
)

// errNoKey is the caller's program at fault, not its bytes.
var errNoKey = errors.New("vrf: the zero SecretKey is not a key")

// redacted stands for a secret key wherever it is printed.
const redacted = "vrf.SecretKey(redacted)"

// SecretKey is k: a uniformly random element of the scalar field of BLS12-381.
// Printing it in any way, logging it included, shows a fixed text. The zero
// value is not a key.
type SecretKey struct {
	k fr.Element
}

// NewSecretKey draws a key from random, which should be crypto/rand.Reader:
// uniform below the modulus, by rejection, so that the number of bytes read
// varies (32 bytes with probability 0.91).
func NewSecretKey(random io.Reader) (SecretKey, error) {
	// A source that repeats one unusable block must not hold us for ever; an
	// honest one fails 128 times in a row with probability below 2^-400.
	for range 128 {
		var raw [fr.Bytes]byte
		if _, err := io.ReadFull(random, raw[:]); err != nil {
			return SecretKey{}, fmt.Errorf("vrf: draw a secret key: %w", err)
		}
		raw[0] &= 0x7f // the modulus has 255 bits
		if k, err := fr.BigEndian.Element(&raw); err == nil && !k.IsZero() {
			return SecretKey{k: k}, nil
		}
	}
	return SecretKey{}, errors.New("vrf: draw a secret key: the random source is broken")
}

// ParseSecretKey is the inverse of SecretKey.Bytes: 32 bytes, big-endian, below
// the modulus of the field, not zero. Its errors do not show the bytes.
func ParseSecretKey(raw []byte) (SecretKey, error) {
	if len(raw) != fr.Bytes {
		return SecretKey{}, fmt.Errorf("%w: secret key of %d bytes, want %d", ErrInvalid, len(raw), fr.Bytes)
	}
	k, err := fr.BigEndian.Element((*[fr.Bytes]byte)(raw))
	if err != nil {
		return SecretKey{}, fmt.Errorf("%w: secret key is not below the modulus of the field", ErrInvalid)
	}
	if k.IsZero() {
		return SecretKey{}, fmt.Errorf("%w: secret key is zero", ErrInvalid)
	}
	return SecretKey{k: k}, nil
}

// Bytes returns the key itself, for storage.
func (sk SecretKey) Bytes() [32]byte { return sk.k.Bytes() }

// Public returns P = H(k, tag), the key to register.
func (sk SecretKey) Public() PublicKey {
	p := circuit.Compress(sk.k, circuit.KeyTag())
	return p.Bytes()
}

// String returns a fixed text.
func (SecretKey) String() string { return redacted }

// GoString returns a fixed text.
func (SecretKey) GoString() string { return redacted }

// Format writes a fixed text, whatever the verb.
// fmt.State reports no errors
func (SecretKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns a fixed text.
func (SecretKey) LogValue() slog.Value { return slog.StringValue(redacted) }
