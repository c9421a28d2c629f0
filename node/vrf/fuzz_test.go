package vrf

import (
	"bytes"
	"errors"
	"math/big"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"
)

// FuzzParseKeys holds both kinds of key to what a field element is, as big integers have it.
//
// Promise 37.
func FuzzParseKeys(f *testing.F) {
	modulus := fr.Modulus()
	for _, n := range []*big.Int{big.NewInt(0), big.NewInt(1), new(big.Int).Sub(modulus, big.NewInt(1)), modulus} {
		f.Add(n.FillBytes(make([]byte, 32)))
	}
	f.Add(bytes.Repeat([]byte{0xff}, 32))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		canonical := len(raw) == 32 && new(big.Int).SetBytes(raw).Cmp(modulus) < 0
		pk, err := ParsePublicKey(raw)
		if (err == nil) != canonical || err == nil && !bytes.Equal(pk[:], raw) || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("public key %x is read as %x: %v", raw, pk, err)
		}
		sk, err := ParseSecretKey(raw)
		if zero := len(bytes.Trim(raw, "\x00")) == 0; (err == nil) != (canonical && !zero) || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("secret key %x: %v", raw, err)
		}
		if back := sk.Bytes(); err == nil && !bytes.Equal(back[:], raw) {
			t.Errorf("secret key %x is written as %x", raw, back)
		}
	})
}
