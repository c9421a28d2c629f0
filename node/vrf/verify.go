package vrf

import (
	"fmt"

	plonk "github.com/consensys/gnark/backend/plonk/bls12-381"
)

// Verify checks that y is the output for the input x of the validator registered
// with pk. It accepts exactly one encoding of each argument; every error about
// them wraps ErrInvalid. It takes a few milliseconds whatever the bytes, less when
// they are malformed, and may be called concurrently.
//
// The caller computes x with Input and takes pk from the validator set: both
// mean nothing when they come with the proof.
func Verify(pk PublicKey, x [32]byte, y Output, proof Proof) error {
	public, err := publicInputs(pk, x, y)
	if err != nil {
		return err
	}
	decoded, err := proof.decode()
	if err != nil {
		return err
	}
	vk, err := verifyingKey()
	if err != nil {
		return err
	}
	if err := plonk.Verify(decoded, vk, public); err != nil {
		return fmt.Errorf("%w: proof of output %x: %w", ErrInvalid, y, err)
	}
	return nil
}
