package vrf

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"testing"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"golang.org/x/crypto/sha3"
)

// A second implementation of the package, written from docs/protocol.md with
// big integers and the plainest of loops. Of the libraries it uses only the
// hash functions and the group operations and pairing of BLS12-381. It holds that
// the document is complete and right, so it must not call the code it checks.

var modulus, _ = new(big.Int).SetString("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001", 16)

func num(b []byte) *big.Int   { return new(big.Int).SetBytes(b) }
func red(x *big.Int) *big.Int { return x.Mod(x, modulus) }
func add(xs ...*big.Int) *big.Int {
	sum := new(big.Int)
	for _, x := range xs {
		sum.Add(sum, x)
	}
	return red(sum)
}

func mul(xs ...*big.Int) *big.Int {
	product := big.NewInt(1)
	for _, x := range xs {
		red(product.Mul(product, x))
	}
	return product
}

func sub(x, y *big.Int) *big.Int        { return red(new(big.Int).Sub(x, y)) }
func inv(x *big.Int) *big.Int           { return new(big.Int).ModInverse(x, modulus) }
func pow(x *big.Int, e int64) *big.Int  { return new(big.Int).Exp(x, big.NewInt(e), modulus) }
func bytes32(x *big.Int) []byte         { return x.FillBytes(make([]byte, 32)) }
func hash256(parts ...[]byte) []byte    { h := sha256.Sum256(slices.Concat(parts...)); return h[:] }
func be32[T int | uint8](x T) []byte    { return binary.BigEndian.AppendUint32(nil, uint32(x)) }
func be64(x uint64) []byte              { return binary.BigEndian.AppendUint64(nil, x) }
func prefixed(s string) []byte          { return append(be32(len(s)), s...) }
func keccak(b []byte) []byte            { h := sha3.NewLegacyKeccak256(); h.Write(b); return h.Sum(nil) }
func challenge(parts ...[]byte) []byte  { return hash256(parts...) }
func asField(challenge []byte) *big.Int { return red(num(challenge)) }
func raw(p bls12381.G1Affine) []byte    { b := p.RawBytes(); return b[:] }

func referenceHashToField(tag string, msg []byte) []byte {
	suffix := append([]byte(tag), byte(len(tag)))
	b0 := hash256(make([]byte, 64), msg, []byte{0, 48, 0}, suffix)
	b1 := hash256(b0, []byte{1}, suffix)
	mixed := make([]byte, 32)
	for i := range mixed {
		mixed[i] = b0[i] ^ b1[i]
	}
	b2 := hash256(mixed, []byte{2}, suffix)
	return bytes32(red(num(slices.Concat(b1, b2)[:48])))
}

func referenceInput(chainID string, epoch uint64, beacon []byte) []byte {
	return referenceHashToField("diseq/vrf", slices.Concat(prefixed(chainID), be64(epoch), beacon))
}

func referenceCompress(left, right []byte) []byte {
	const full, partial = 8, 56
	seed := keccak(fmt.Appendf(nil, "Poseidon2-BLS12_381[t=2,rF=%d,rP=%d,d=5]", full, partial))
	constant := func() *big.Int {
		seed = keccak(seed)
		return red(num(seed))
	}
	s0, s1 := num(left), num(right)
	mix := func(corner int64) { // the matrix (2 1 / 1 corner)
		s0, s1 = add(s0, s0, s1), add(s0, mul(big.NewInt(corner), s1))
	}
	mix(2)
	for round := range full + partial {
		if round >= full/2 && round < full/2+partial {
			s0 = pow(add(s0, constant()), 5)
			mix(3)
			continue
		}
		s0 = pow(add(s0, constant()), 5)
		s1 = pow(add(s1, constant()), 5)
		mix(2)
	}
	return bytes32(add(s1, num(right)))
}

func referenceBeacon(beacon []byte, epoch uint64, y []byte) []byte {
	if y == nil {
		y = []byte("missing")
	}
	return hash256([]byte("diseq/beacon"), beacon, be64(epoch), y)
}

func referenceOrder(chainID string, beacon []byte, height uint64, n int) []int {
	seed := hash256([]byte("diseq/leader"), prefixed(chainID), beacon, be64(height))
	var stream []byte
	for block := range 1000 {
		stream = append(stream, hash256(seed, be32(block))...)
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	for i := n - 1; i >= 1; i-- {
		for {
			word := uint64(binary.BigEndian.Uint32(stream))
			stream = stream[4:]
			if m := uint64(i + 1); word < 1<<32-(1<<32)%m {
				j := word % m
				order[i], order[j] = order[j], order[i]
				break
			}
		}
	}
	return order
}

// referenceVerify checks the PLONK equations for the public inputs P, x, y.
func referenceVerify(t *testing.T, verifyingKey []byte, public [3][32]byte, proof []byte) bool {
	t.Helper()
	const n = 1024
	omega, _ := new(big.Int).SetString("325db5c3debf77a18f4de02c0f776af3ea437f9626fc085e3c28d666a5c2d854", 16)
	shift := big.NewInt(7)

	point := func(from []byte, at int) (p bls12381.G1Affine) {
		if _, err := p.SetBytes(from[at : at+48]); err != nil {
			t.Fatalf("point at %d: %v", at, err)
		}
		return p
	}
	scalar := func(at int) *big.Int { return num(proof[at : at+32]) }
	ql, qr, qm := point(verifyingKey, 0), point(verifyingKey, 48), point(verifyingKey, 96)
	qo, qk := point(verifyingKey, 144), point(verifyingKey, 192)
	s1, s2, s3 := point(verifyingKey, 240), point(verifyingKey, 288), point(verifyingKey, 336)
	var tauG2 bls12381.G2Affine
	if _, err := tauG2.SetBytes(verifyingKey[384:]); err != nil {
		t.Fatal(err)
	}
	l, r, o, z := point(proof, 0), point(proof, 48), point(proof, 96), point(proof, 144)
	h0, h1, h2 := point(proof, 192), point(proof, 240), point(proof, 288)
	w, wShifted := point(proof, 336), point(proof, 580)
	lin, lz, rz, oz, s1z, s2z := scalar(388), scalar(420), scalar(452), scalar(484), scalar(516), scalar(548)
	zShifted := scalar(628)

	// Challenges.
	cGamma := challenge([]byte("gamma"), raw(s1), raw(s2), raw(s3), raw(ql), raw(qr), raw(qm), raw(qo), raw(qk),
		public[0][:], public[1][:], public[2][:], raw(l), raw(r), raw(o))
	cBeta := challenge([]byte("beta"), cGamma)
	cAlpha := challenge([]byte("alpha"), cBeta, raw(z))
	cZeta := challenge([]byte("zeta"), cAlpha, raw(h0), raw(h1), raw(h2))
	gamma, beta, alpha, zeta := asField(cGamma), asField(cBeta), asField(cAlpha), asField(cZeta)

	// Polynomials that both sides know, at zeta.
	one := big.NewInt(1)
	vanishing := sub(pow(zeta, n), one)
	lagrange := func(i int64) *big.Int {
		return mul(pow(omega, i), vanishing, inv(mul(big.NewInt(n), sub(zeta, pow(omega, i)))))
	}
	inputs := new(big.Int)
	for i := range public {
		inputs = add(inputs, mul(num(public[i][:]), lagrange(int64(i))))
	}
	alpha2L1 := mul(alpha, alpha, lagrange(0))

	// The constant part of the relation.
	a := add(lz, mul(beta, s1z), gamma)
	b := add(rz, mul(beta, s2z), gamma)
	constant := add(sub(inputs, alpha2L1), mul(alpha, a, b, add(oz, gamma), zShifted))
	if lin.Cmp(sub(new(big.Int), constant)) != 0 {
		return false
	}

	// The linearised polynomial's commitment.
	c := mul(add(lz, mul(beta, zeta), gamma), add(rz, mul(beta, shift, zeta), gamma), add(oz, mul(beta, shift, shift, zeta), gamma))
	minusV := sub(new(big.Int), vanishing)
	d := combine(
		term{ql, lz}, term{qr, rz}, term{qm, mul(lz, rz)}, term{qo, oz}, term{qk, one},
		term{s3, mul(alpha, beta, zShifted, a, b)},
		term{z, sub(alpha2L1, mul(alpha, c))},
		term{h0, minusV}, term{h1, mul(minusV, pow(zeta, n+2))}, term{h2, mul(minusV, pow(zeta, 2*(n+2)))},
	)

	// Fold the openings at zeta.
	v := asField(challenge([]byte("gamma"), bytes32(zeta), raw(d), raw(l), raw(r), raw(o), raw(s1), raw(s2),
		proof[388:580], proof[628:660]))
	folded := combine(term{d, one}, term{l, v}, term{r, pow(v, 2)}, term{o, pow(v, 3)}, term{s1, pow(v, 4)}, term{s2, pow(v, 5)})
	value := new(big.Int)
	for i, e := range []*big.Int{lin, lz, rz, oz, s1z, s2z} {
		value = add(value, mul(e, pow(v, int64(i))))
	}
	return opens(t, tauG2, folded, zeta, value, w) && opens(t, tauG2, z, mul(zeta, omega), zShifted, wShifted)
}

type term struct {
	p bls12381.G1Affine
	k *big.Int
}

func combine(terms ...term) (sum bls12381.G1Affine) {
	for _, t := range terms {
		var p bls12381.G1Affine
		p.ScalarMultiplication(&t.p, t.k)
		sum.Add(&sum, &p)
	}
	return sum
}

// opens checks e(f - value*G1 + at*w, G2) = e(w, [tau]G2).
func opens(t *testing.T, tauG2 bls12381.G2Affine, f bls12381.G1Affine, at, value *big.Int, w bls12381.G1Affine) bool {
	t.Helper()
	_, _, g1, g2 := bls12381.Generators()
	left := combine(term{f, big.NewInt(1)}, term{g1, sub(new(big.Int), value)}, term{w, at})
	w.Neg(&w)
	ok, err := bls12381.PairingCheck([]bls12381.G1Affine{left, w}, []bls12381.G2Affine{g2, tauG2})
	if err != nil {
		t.Fatal(err)
	}
	return ok
}
