package chain

import (
	"bytes"
	"errors"

	"filippo.io/edwards25519"
)

// minusOne is the scalar L - 1, where L is the order of the prime-order group.
var minusOne = func() *edwards25519.Scalar {
	one, err := edwards25519.NewScalar().SetCanonicalBytes(append([]byte{1}, make([]byte, 31)...))
	if err != nil {
		panic(err) // 1 is below L
	}
	return one.Negate(one)
}()

// Validate reports a key that no owner makes: one that is not the canonical encoding of a point of
// prime order.
//
// Under a key of small order a constant is a valid signature of every message, so that everyone
// signs for it. Under a point that has a part of small order, libraries of Ed25519 disagree which
// signatures are valid. A second encoding of a key would be a second name for its owner.
func (k PublicKey) Validate() error {
	point, err := new(edwards25519.Point).SetBytes(k[:])
	if err != nil {
		return errors.New("it encodes no point of the curve: no signature verifies under it")
	}
	neutral := edwards25519.NewIdentityPoint()
	if !bytes.Equal(point.Bytes(), k[:]) {
		return errors.New("its encoding is not canonical")
	}
	if new(edwards25519.Point).MultByCofactor(point).Equal(neutral) == 1 {
		return errors.New("it has small order: anyone can sign for it")
	}
	// (L-1) P is -P exactly if L P is the neutral element.
	times := new(edwards25519.Point).VarTimeDoubleScalarBaseMult(minusOne, point, edwards25519.NewScalar())
	if times.Add(times, point).Equal(neutral) == 0 {
		return errors.New("its point does not have prime order")
	}
	return nil
}
