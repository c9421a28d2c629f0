// Package circuit states the relation that a VRF proof of package vrf proves,
//
//	P = H(k, tag_pk)  and  y = H(k, x)
//
// once as arithmetic over the scalar field of BLS12-381 and once as a PLONK
// constraint system of it. Both the running node and the generator of its keys
// need it, and the generator must build before the keys exist: hence a package
// of its own.
//
// H is the Poseidon2 compression function of two field elements
// (https://eprint.iacr.org/2023/323): H(a, b) = Poseidon2(a, b)[1] + b.
package circuit

import (
	"fmt"
	"sync"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"
	native "github.com/consensys/gnark-crypto/ecc/bls12-381/fr/poseidon2"
	cs "github.com/consensys/gnark/constraint/bls12-381"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs/scs"
	"github.com/consensys/gnark/logger"
	"github.com/consensys/gnark/std/permutation/poseidon2"
)

// The proof system's library writes to standard output through a logger of its
// own, which nothing else in this program shares. Every failure it would log
// there is returned as an error too.
func init() { logger.Disable() }

// The Poseidon2 instance: S-box x^5 over two lanes, with the round numbers that
// the Poseidon2 paper's round formula gives for 128 bits and a field of 255
// bits, security margin included. The library's own default (6 and 50) leaves
// the margin out; the full number costs nothing here, as the circuit stays
// inside the same domain of 1024 rows.
const (
	Width         = 2
	FullRounds    = 8
	PartialRounds = 56
)

// DomainSize is the number of rows of the PLONK domain that the constraint
// system fills up to; the keys are made for exactly this size.
const DomainSize = 1024

// keyTag separates the use of H for public keys from its use for outputs.
var keyTag = sync.OnceValue(func() fr.Element {
	return HashToField("diseq/vrf/public-key", nil)
})

// permutation is read-only once made; its methods may be called concurrently.
var permutation = sync.OnceValue(func() *native.Permutation {
	return native.NewPermutation(Width, FullRounds, PartialRounds)
})

// KeyTag returns tag_pk, the constant right-hand input of H in P = H(k, tag_pk):
// hash_to_field of the empty message under the domain separation tag
// "diseq/vrf/public-key". No input x equals it but with probability 2^-255,
// as inputs are hashed under another tag.
func KeyTag() fr.Element { return keyTag() }

// HashToField is hash_to_field of RFC 9380, section 5.2, for one element of the
// scalar field of BLS12-381: expand_message_xmd with SHA-256, L = 48.
// The domain separation tag must be shorter than 256 bytes.
func HashToField(dst string, msg []byte) fr.Element {
	e, err := fr.Hash(msg, []byte(dst), 1)
	if err != nil { // only a tag over 255 bytes: a constant of this program
		panic(fmt.Sprintf("hash to field with tag %q: %v", dst, err))
	}
	return e[0]
}

// Compress returns H(left, right) = Poseidon2(left, right)[1] + right.
func Compress(left, right fr.Element) fr.Element {
	state := [Width]fr.Element{left, right}
	if err := permutation().Permutation(state[:]); err != nil { // only a state of another width
		panic(fmt.Sprintf("poseidon2 over %d lanes: %v", len(state), err))
	}
	return *state[1].Add(&state[1], &right)
}

// VRF is the relation as a circuit. The order of the public fields is the order
// of the public inputs in the proof system, and so part of the protocol.
type VRF struct {
	P frontend.Variable `gnark:"p,public"`
	X frontend.Variable `gnark:"x,public"`
	Y frontend.Variable `gnark:"y,public"`
	K frontend.Variable `gnark:"k,secret"`
}

// Define adds the constraints of the relation to api.
func (c *VRF) Define(api frontend.API) error {
	h, err := poseidon2.NewPoseidon2FromParameters(api, Width, FullRounds, PartialRounds)
	if err != nil {
		return fmt.Errorf("poseidon2 in the circuit: %w", err)
	}
	tag := KeyTag()
	api.AssertIsEqual(c.P, h.Compress(c.K, tag))
	api.AssertIsEqual(c.Y, h.Compress(c.K, c.X))
	return nil
}

// Compile returns the constraint system of the relation. It is a pure function
// of this package and the version of the proof system's library.
func Compile() (*cs.SparseR1CS, error) {
	ccs, err := frontend.Compile(ecc.BLS12_381.ScalarField(), scs.NewBuilder, &VRF{})
	if err != nil {
		return nil, fmt.Errorf("compile the VRF circuit: %w", err)
	}
	system, ok := ccs.(*cs.SparseR1CS)
	if !ok {
		return nil, fmt.Errorf("compile the VRF circuit: got a constraint system of type %T", ccs)
	}
	return system, nil
}
