package circuit

import (
	"bytes"
	"errors"
	"fmt"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr/fft"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/kzg"
	plonk "github.com/consensys/gnark/backend/plonk/bls12-381"
)

// publicInputs is the number of public fields of VRF.
const publicInputs = 3

// VerifyingKeySize is the size in bytes of an encoded verifying key: eight
// commitments in G1 and [tau]G2.
const VerifyingKeySize = 8*bls12381.SizeOfG1AffineCompressed + bls12381.SizeOfG2AffineCompressed

// MarshalVerifyingKey encodes what of vk the circuit and the ceremony decide:
// the commitments to the selectors Ql, Qr, Qm, Qo, Qk and to the permutation S1,
// S2, S3, then [tau]G2, all compressed. The rest (domain, generators, pairing
// lines: 48 KB of them) follows from the curve and DomainSize.
func MarshalVerifyingKey(vk *plonk.VerifyingKey) []byte {
	out := make([]byte, 0, VerifyingKeySize)
	for _, p := range verifyingKeyPoints(vk) {
		b := p.Bytes()
		out = append(out, b[:]...)
	}
	tau := vk.Kzg.G2[1].Bytes()
	return append(out, tau[:]...)
}

// UnmarshalVerifyingKey is the inverse of MarshalVerifyingKey. It checks that
// every point lies in its prime-order subgroup.
func UnmarshalVerifyingKey(raw []byte) (*plonk.VerifyingKey, error) {
	if len(raw) != VerifyingKeySize {
		return nil, fmt.Errorf("verifying key of %d bytes, want %d", len(raw), VerifyingKeySize)
	}
	domain := fft.NewDomain(DomainSize, fft.WithoutPrecompute())
	vk := &plonk.VerifyingKey{
		Size:              domain.Cardinality,
		SizeInv:           domain.CardinalityInv,
		Generator:         domain.Generator,
		NbPublicVariables: publicInputs,
		CosetShift:        domain.FrMultiplicativeGen,
		Qcp:               []kzg.Digest{},
	}
	for i, p := range verifyingKeyPoints(vk) {
		n, err := p.SetBytes(raw)
		if err != nil {
			return nil, fmt.Errorf("verifying key, commitment %d: %w", i, err)
		}
		raw = raw[n:]
	}
	_, _, g1, g2 := bls12381.Generators()
	vk.Kzg.G1, vk.Kzg.G2[0] = g1, g2
	if n, err := vk.Kzg.G2[1].SetBytes(raw); err != nil {
		return nil, fmt.Errorf("verifying key, [tau]G2: %w", err)
	} else if n != len(raw) {
		return nil, errors.New("verifying key: trailing bytes")
	}
	for i, p := range vk.Kzg.G2 {
		vk.Kzg.Lines[i] = bls12381.PrecomputeLines(p)
	}
	return vk, nil
}

func verifyingKeyPoints(vk *plonk.VerifyingKey) [8]*kzg.Digest {
	return [8]*kzg.Digest{&vk.Ql, &vk.Qr, &vk.Qm, &vk.Qo, &vk.Qk, &vk.S[0], &vk.S[1], &vk.S[2]}
}

// MarshalProvingKey encodes the points of pk: the powers of tau, then the same
// in Lagrange form over the domain, each as a 32-bit count and compressed points.
func MarshalProvingKey(pk *plonk.ProvingKey) ([]byte, error) {
	var out bytes.Buffer
	for _, points := range []*kzg.ProvingKey{&pk.Kzg, &pk.KzgLagrange} {
		if _, err := points.WriteTo(&out); err != nil {
			return nil, fmt.Errorf("encode the proving key: %w", err)
		}
	}
	return out.Bytes(), nil
}

// UnmarshalProvingKey is the inverse of MarshalProvingKey; vk becomes the
// verifying part of the key. It is for the file that is embedded in this
// program only: it leaves out the subgroup checks, which would take longer than the
// rest; the test that derives that file again makes up for them.
func UnmarshalProvingKey(raw []byte, vk *plonk.VerifyingKey) (*plonk.ProvingKey, error) {
	pk := &plonk.ProvingKey{Vk: vk}
	in := bytes.NewReader(raw)
	for _, points := range []*kzg.ProvingKey{&pk.Kzg, &pk.KzgLagrange} {
		if _, err := points.UnsafeReadFrom(in); err != nil {
			return nil, fmt.Errorf("decode the proving key: %w", err)
		}
	}
	if in.Len() != 0 {
		return nil, fmt.Errorf("decode the proving key: %d trailing bytes", in.Len())
	}
	return pk, nil
}
