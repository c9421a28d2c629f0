package vrf

import (
	"encoding/binary"
	"fmt"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/kzg"
	plonk "github.com/consensys/gnark/backend/plonk/bls12-381"
)

// MaxProofSize is the size in bytes of every proof, no more and no less: nine
// compressed points, seven field elements and two constant counts.
const MaxProofSize = proofPoints*bls12381.SizeOfG1AffineCompressed + (evaluations+1)*fr.Bytes + 2*4

const (
	proofPoints = 9 // of G1
	evaluations = 6 // at zeta; one more is at the shifted point
	commitments = 0 // of the proof system's extension that this circuit does not use
)

// Proof is the encoding of a PLONK proof, MaxProofSize bytes:
//
//	offset  size
//	     0   144  [L], [R], [O]: commitments to the wires
//	   144    48  [Z]: commitment to the permutation's grand product
//	   192   144  [H0], [H1], [H2]: commitments to the parts of the quotient
//	   336    48  opening proof at zeta
//	   384     4  u32 6
//	   388   192  evaluations at zeta: linearised polynomial, L, R, O, S1, S2
//	   580    48  opening proof at zeta*omega
//	   628    32  evaluation of Z at zeta*omega
//	   660     4  u32 0
//
// Points are compressed as in the ZCash encoding of BLS12-381, numbers are
// big-endian. It is what gnark writes, but decoded here: gnark's own decoder takes
// several encodings of one proof and allocates by the counts it finds in it.
type Proof []byte

// decode accepts the one encoding of a proof and nothing else.
func (p Proof) decode() (*plonk.Proof, error) {
	if len(p) != MaxProofSize {
		return nil, fmt.Errorf("%w: proof of %d bytes, want %d", ErrInvalid, len(p), MaxProofSize)
	}
	in := reader{rest: p}
	proof := &plonk.Proof{Bsb22Commitments: []kzg.Digest{}}
	for i := range proof.LRO {
		in.point(&proof.LRO[i])
	}
	in.point(&proof.Z)
	for i := range proof.H {
		in.point(&proof.H[i])
	}
	in.point(&proof.BatchedProof.H)
	in.count(evaluations)
	proof.BatchedProof.ClaimedValues = make([]fr.Element, evaluations)
	for i := range proof.BatchedProof.ClaimedValues {
		in.scalar(&proof.BatchedProof.ClaimedValues[i])
	}
	in.point(&proof.ZShiftedOpening.H)
	in.scalar(&proof.ZShiftedOpening.ClaimedValue)
	in.count(commitments)
	if in.err != nil {
		return nil, in.err
	}
	return proof, nil
}

// encodeProof is the inverse of Proof.decode.
func encodeProof(proof *plonk.Proof) (Proof, error) {
	values := proof.BatchedProof.ClaimedValues
	if len(values) != evaluations || len(proof.Bsb22Commitments) != commitments {
		return nil, fmt.Errorf("vrf: proof with %d evaluations and %d commitments, want %d and %d",
			len(values), len(proof.Bsb22Commitments), evaluations, commitments)
	}
	out := make(Proof, 0, MaxProofSize)
	for _, p := range []*kzg.Digest{
		&proof.LRO[0], &proof.LRO[1], &proof.LRO[2], &proof.Z,
		&proof.H[0], &proof.H[1], &proof.H[2], &proof.BatchedProof.H,
	} {
		out = appendPoint(out, p)
	}
	out = binary.BigEndian.AppendUint32(out, evaluations)
	for i := range values {
		out = append(out, values[i].Marshal()...)
	}
	out = appendPoint(out, &proof.ZShiftedOpening.H)
	out = append(out, proof.ZShiftedOpening.ClaimedValue.Marshal()...)
	return binary.BigEndian.AppendUint32(out, commitments), nil
}

func appendPoint(dst []byte, p *kzg.Digest) []byte {
	b := p.Bytes()
	return append(dst, b[:]...)
}

// reader consumes a proof whose length has been checked; the first error sticks.
type reader struct {
	rest Proof
	err  error
}

func (r *reader) take(n int) []byte {
	head := r.rest[:n]
	r.rest = r.rest[n:]
	return head
}

// point decodes a compressed point. SetBytes checks that the coordinate is below
// the modulus, the flags are defined, the point is on the curve and in the
// subgroup, and that infinity has no other bit set; what it would also take is
// an uncompressed point, which does not fit into the 48 bytes it is given.
func (r *reader) point(p *kzg.Digest) {
	raw := r.take(bls12381.SizeOfG1AffineCompressed)
	if r.err != nil {
		return
	}
	if _, err := p.SetBytes(raw); err != nil {
		r.err = fmt.Errorf("%w: proof, point at offset %d: %w", ErrInvalid, r.offset()-len(raw), err)
	}
}

func (r *reader) scalar(e *fr.Element) {
	raw := r.take(fr.Bytes)
	if r.err != nil {
		return
	}
	if err := e.SetBytesCanonical(raw); err != nil {
		r.err = fmt.Errorf("%w: proof, field element at offset %d: %w", ErrInvalid, r.offset()-len(raw), err)
	}
}

func (r *reader) count(want uint32) {
	got := binary.BigEndian.Uint32(r.take(4))
	if r.err == nil && got != want {
		r.err = fmt.Errorf("%w: proof, count %d at offset %d, want %d", ErrInvalid, got, r.offset()-4, want)
	}
}

func (r *reader) offset() int { return MaxProofSize - len(r.rest) }
