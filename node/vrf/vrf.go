// Package vrf is the chain's source of common randomness: a verifiable random
// function whose outputs are proved in zero knowledge (ZK-VRF), the beacon that
// chains those outputs, and the order of leaders that follows from the beacon.
//
// A validator holds a secret k and registers P = H(k, tag). For an input x its
// output is y = H(k, x), H being the Poseidon2 compression function over the
// scalar field of BLS12-381. A [Proof] shows that one k is behind both P and y
// and reveals nothing else of it. The proof system is PLONK with the points of
// the Ethereum KZG ceremony, so there is no ceremony, and no toxic waste, of our
// own.
//
// # What it promises
//
//   - Uniqueness: for a registered P and an input x there is one y that
//     verifies. A validator cannot try several and choose.
//   - Pseudorandomness: to everyone without k, y is unpredictable before it is
//     published, even given all earlier outputs and proofs.
//   - Encodings are canonical: a field element at or above the modulus, a point
//     outside its subgroup, a trailing byte is refused. Any bytes may be given
//     to [Verify]; it never panics and its work is bounded.
//
// # What it does not do
//
//   - Proofs are not unique: they are blinded afresh each time. Entropy may be
//     taken from the [Output] only, never from a proof.
//   - It cannot make a validator publish. It keeps one bit an epoch: to
//     publish or to stay silent, see [NextBeacon].
//   - A proof takes about a tenth of a second of every core (go test -bench .). It
//     never belongs on the way of a block; [Prover] makes it in the background.
//   - Proving is not constant-time: it does not defend the key against someone
//     who measures the very machine.
//
// The keys of the proof system are embedded; go generate derives them again.
package vrf

//go:generate go run ./internal/setup

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"

	"github.com/diseq/diseq/node/vrf/internal/circuit"
)

// inputTag is the domain separation tag of Input.
const inputTag = "diseq/vrf"

// PublicKey is P = H(k, tag) of a validator: an element of the scalar field of
// BLS12-381, big-endian, below the modulus.
type PublicKey [fr.Bytes]byte

// Output is y = H(k, x), encoded like a PublicKey.
type Output [fr.Bytes]byte

// ErrInvalid is wrapped by every error that the caller's bytes are to blame for:
// a key, input, output or proof that is malformed or does not verify.
var ErrInvalid = errors.New("vrf: invalid")

// ParsePublicKey checks that raw is a canonical field element of 32 bytes. Use it
// before a key is registered: no proof verifies for another one.
func ParsePublicKey(raw []byte) (PublicKey, error) {
	if len(raw) != fr.Bytes {
		return PublicKey{}, fmt.Errorf("%w: public key of %d bytes, want %d", ErrInvalid, len(raw), fr.Bytes)
	}
	pk := PublicKey(raw)
	_, err := element("public key", pk)
	return pk, err
}

// Input returns x, the input of the function in a beacon epoch: hash_to_field
// (RFC 9380, section 5.2, expand_message_xmd with SHA-256) under the tag
// "diseq/vrf" of
//
//	u32 len(chainID) || chainID || u64 epoch || beacon
//
// with big-endian integers. The beacon is that of the epoch before, B_{epoch-1}, so
// that x is known one epoch ahead; for epochs 0 and 1 it is the genesis hash.
func Input(chainID string, epoch uint64, beacon [32]byte) [32]byte {
	msg := make([]byte, 0, 4+len(chainID)+8+len(beacon))
	msg = appendString(msg, chainID)
	msg = binary.BigEndian.AppendUint64(msg, epoch)
	msg = append(msg, beacon[:]...)
	x := circuit.HashToField(inputTag, msg)
	return x.Bytes()
}

// Evaluate returns y = H(k, x) without a proof, in microseconds. It fails
// if x is not a canonical field element, which Input never returns, or if sk is
// the zero value.
func Evaluate(sk SecretKey, x [32]byte) (Output, error) {
	e, err := element("input", x)
	if err != nil {
		return Output{}, err
	}
	if sk.k.IsZero() {
		return Output{}, errNoKey
	}
	y := circuit.Compress(sk.k, e)
	return y.Bytes(), nil
}

// element decodes a field element and refuses any at or above the modulus: with
// x and x + modulus both accepted an output would have two encodings.
func element(what string, raw [fr.Bytes]byte) (fr.Element, error) {
	e, err := fr.BigEndian.Element(&raw)
	if err != nil {
		return e, fmt.Errorf("%w: %s %x is not below the modulus of the field", ErrInvalid, what, raw)
	}
	return e, nil
}

// appendString appends s behind its length as a big-endian 32-bit number.
func appendString(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}
