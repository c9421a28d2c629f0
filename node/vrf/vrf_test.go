package vrf

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"

	bls12381 "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fp"
	"github.com/consensys/gnark-crypto/ecc/bls12-381/fr"
)

// statement is a proved output.
type statement struct {
	sk    SecretKey
	pk    PublicKey
	x     [32]byte
	y     Output
	proof Proof
}

// proved returns one statement with a fresh proof, shared by all tests: they
// clone what they change.
var proved = sync.OnceValue(func() statement {
	sk, err := NewSecretKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	x := Input("diseq-test", 7, [32]byte{1, 2, 3})
	y, proof, err := Prove(sk, x)
	if err != nil {
		panic(err)
	}
	return statement{sk: sk, pk: sk.Public(), x: x, y: y, proof: proof}
})

func (s statement) verify() error { return Verify(s.pk, s.x, s.y, s.proof) }

// plusModulus returns the second encoding of the field element in raw, which
// fits into 32 bytes for every element.
func plusModulus(raw [32]byte) (out [32]byte) {
	sum := new(big.Int).SetBytes(raw[:])
	sum.Add(sum, fr.Modulus()).FillBytes(out[:])
	return out
}

func TestProofOfTheRightOutputVerifies(t *testing.T) {
	s := proved()
	if err := s.verify(); err != nil {
		t.Fatal(err)
	}
	if len(s.proof) != MaxProofSize || MaxProofSize != 664 {
		t.Errorf("proof of %d bytes, MaxProofSize %d, want 664", len(s.proof), MaxProofSize)
	}
	y, err := Evaluate(s.sk, s.x)
	if err != nil || y != s.y {
		t.Errorf("Evaluate = %x, %v; Prove gave %x", y, err, s.y)
	}
}

// Promise 39.
func TestProofsDifferOutputsDoNot(t *testing.T) {
	s := proved()
	y, proof, err := Prove(s.sk, s.x)
	if err != nil {
		t.Fatal(err)
	}
	if y != s.y {
		t.Errorf("two outputs for one input: %x, %x", y, s.y)
	}
	if bytes.Equal(proof, s.proof) {
		t.Error("two equal proofs: the witness is not blinded")
	}
}

// Promise 39.
func TestVerifyRefusesAnotherStatement(t *testing.T) {
	s := proved()
	other, err := NewSecretKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	otherX := Input("diseq-test", 8, [32]byte{1, 2, 3})
	otherY, err := Evaluate(s.sk, otherX)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*statement){
		"another key":               func(s *statement) { s.pk = other.Public() },
		"another input":             func(s *statement) { s.x = otherX },
		"another output":            func(s *statement) { s.y = otherY },
		"output and input swapped":  func(s *statement) { s.x, s.y = s.y, Output(s.x) },
		"output and key swapped":    func(s *statement) { s.pk, s.y = PublicKey(s.y), Output(s.pk) },
		"another input and output":  func(s *statement) { s.x, s.y = otherX, otherY },
		"zero output":               func(s *statement) { s.y = Output{} },
		"key + modulus":             func(s *statement) { s.pk = plusModulus(s.pk) },
		"input + modulus":           func(s *statement) { s.x = plusModulus(s.x) },
		"output + modulus":          func(s *statement) { s.y = plusModulus(s.y) },
		"output of 32 times 0xff":   func(s *statement) { s.y = Output(bytes.Repeat([]byte{0xff}, 32)) },
		"no proof":                  func(s *statement) { s.proof = nil },
		"proof with a byte too few": func(s *statement) { s.proof = s.proof[:MaxProofSize-1] },
		"proof with trailing byte":  func(s *statement) { s.proof = append(slices.Clone(s.proof), 0) },
		"proof of zeros":            func(s *statement) { s.proof = make(Proof, MaxProofSize) },
	} {
		changed := s
		change(&changed)
		if err := changed.verify(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error %v, want one that wraps ErrInvalid", name, err)
		}
	}
}

// Promise 40.
func TestVerifyRefusesEveryDamagedField(t *testing.T) {
	s := proved()
	for offset := 0; offset < MaxProofSize; offset += 12 { // hits every point, scalar and count
		changed := s
		changed.proof = slices.Clone(s.proof)
		changed.proof[offset] ^= 1
		if err := changed.verify(); !errors.Is(err, ErrInvalid) {
			t.Errorf("bit flipped at offset %d: error %v", offset, err)
		}
	}
}

// Each proof has one encoding: what a laxer decoder takes for the same proof is
// refused.
//
// Promise 40.
func TestVerifyRefusesOtherEncodings(t *testing.T) {
	s := proved()
	points := []int{0, 48, 96, 144, 192, 240, 288, 336, 580}
	scalars := []int{388, 420, 452, 484, 516, 548, 628}

	infinity := make([]byte, 48)
	infinity[0] = 0xc0
	dirtyInfinity := slices.Clone(infinity)
	dirtyInfinity[47] = 1
	outside := pointOutsideSubgroup(t)

	for _, at := range points {
		replace := map[string][]byte{
			"infinity":                   infinity,
			"infinity with other bits":   dirtyInfinity,
			"undefined flags":            append([]byte{s.proof[at] | 0xe0}, s.proof[at+1:at+48]...),
			"flags of an uncompressed":   append([]byte{s.proof[at] & 0x1f}, s.proof[at+1:at+48]...),
			"x coordinate over modulus":  append([]byte{0x9f}, bytes.Repeat([]byte{0xff}, 47)...),
			"point outside the subgroup": outside,
		}
		for name, raw := range replace {
			changed := s
			changed.proof = slices.Clone(s.proof)
			copy(changed.proof[at:], raw)
			if err := changed.verify(); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s at offset %d: error %v", name, at, err)
			}
		}
	}
	for _, at := range scalars {
		changed := s
		changed.proof = slices.Clone(s.proof)
		other := plusModulus([32]byte(s.proof[at : at+32]))
		copy(changed.proof[at:], other[:])
		if _, err := changed.proof.decode(); !errors.Is(err, ErrInvalid) {
			t.Errorf("scalar + modulus at offset %d: error %v", at, err)
		}
	}
	for _, at := range []int{384, 660} { // a laxer decoder would allocate by it
		changed := s
		changed.proof = slices.Clone(s.proof)
		binary.BigEndian.PutUint32(changed.proof[at:], 1<<32-1)
		if err := changed.verify(); !errors.Is(err, ErrInvalid) {
			t.Errorf("count of 2^32-1 at offset %d: error %v", at, err)
		}
	}
}

// pointOutsideSubgroup returns the encoding of a point that is on the curve.
func pointOutsideSubgroup(t *testing.T) []byte {
	t.Helper()
	for i := range uint64(100) {
		var p bls12381.G1Affine
		p.X.SetUint64(i)
		var four fp.Element
		p.Y.Square(&p.X).Mul(&p.Y, &p.X).Add(&p.Y, four.SetUint64(4))
		if p.Y.Sqrt(&p.Y) != nil && p.IsOnCurve() && !p.IsInSubGroup() {
			raw := p.Bytes()
			return raw[:]
		}
	}
	t.Fatal("no point outside the subgroup among 100 x coordinates")
	return nil
}

func TestVerifyIsSafeConcurrently(t *testing.T) {
	s := proved()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := s.verify(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestInputsDiffer(t *testing.T) {
	seen := map[[32]byte]string{}
	for name, x := range map[string][32]byte{
		"base":                      Input("ab", 1, [32]byte{}),
		"chain id":                  Input("ac", 1, [32]byte{}),
		"shorter chain id":          Input("a", 1, [32]byte{}),
		"no chain id":               Input("", 1, [32]byte{}),
		"chain id that eats others": Input("ab\x00", 1, [32]byte{}),
		"epoch":                     Input("ab", 2, [32]byte{}),
		"large epoch":               Input("ab", 1<<63, [32]byte{}),
		"beacon":                    Input("ab", 1, [32]byte{1}),
		"long chain id":             Input(strings.Repeat("a", 10_000), 1, [32]byte{}),
	} {
		if other, ok := seen[x]; ok {
			t.Errorf("%s and %s have the same input", name, other)
		}
		seen[x] = name
		if _, err := element("input", x); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEvaluateAndProveRefuseWhatIsNoInputOrKey(t *testing.T) {
	s := proved()
	for name, x := range map[string][32]byte{
		"modulus":         plusModulus([32]byte{}),
		"input + modulus": plusModulus(s.x),
	} {
		if _, err := Evaluate(s.sk, x); !errors.Is(err, ErrInvalid) {
			t.Errorf("Evaluate(%s): error %v", name, err)
		}
		if _, _, err := Prove(s.sk, x); !errors.Is(err, ErrInvalid) {
			t.Errorf("Prove(%s): error %v", name, err)
		}
	}
	if _, err := Evaluate(SecretKey{}, s.x); err == nil {
		t.Error("Evaluate took the zero key")
	}
	if _, _, err := Prove(SecretKey{}, s.x); err == nil {
		t.Error("Prove took the zero key")
	}
}

// The circuit must not accept what the native code does not compute, whatever
// the prover claims.
//
// Promise 39.
func TestNoProofOfAWrongOutput(t *testing.T) {
	s := proved()
	keys, err := provingKey()
	if err != nil {
		t.Fatal(err)
	}
	wrong := s.y
	wrong[31] ^= 1
	if proof, err := prove(keys, s.sk, s.x, wrong); err == nil {
		t.Errorf("a proof of a wrong output was made: %x", proof)
	}
}

func TestParsePublicKey(t *testing.T) {
	s := proved()
	pk, err := ParsePublicKey(s.pk[:])
	if err != nil || pk != s.pk {
		t.Errorf("ParsePublicKey = %x, %v; want %x", pk, err, s.pk)
	}
	second := plusModulus(s.pk)
	for name, raw := range map[string][]byte{
		"nil": nil, "short": s.pk[:31], "long": append(s.pk[:], 0), "not canonical": second[:],
	} {
		if _, err := ParsePublicKey(raw); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// FuzzVerify holds that no bytes make Verify panic, that it accepts nothing but
// what was proved, and that a proof that decodes has no other encoding.
//
// Promise 37.
// Promise 40.
func FuzzVerify(f *testing.F) {
	v := readVectors(f)
	known := map[[64]byte]Output{}
	for _, p := range v.Proofs {
		f.Add([]byte(p.PublicKey), []byte(p.Input), []byte(p.Output), []byte(p.Proof))
		f.Add([]byte(p.PublicKey), []byte(p.Output), []byte(p.Input), []byte(p.Proof))
		f.Add([]byte(p.PublicKey), []byte(p.Input), []byte(p.Output), []byte(p.Proof[:600]))
		known[[64]byte(slices.Concat(p.PublicKey, p.Input))] = Output(p.Output)
	}
	infinity := make([]byte, MaxProofSize)
	for _, at := range []int{0, 48, 96, 144, 192, 240, 288, 336, 580} {
		infinity[at] = 0xc0
	}
	infinity[387] = evaluations
	f.Add(make([]byte, 32), make([]byte, 32), make([]byte, 32), infinity)
	f.Add(bytes.Repeat([]byte{0xff}, 32), []byte{}, []byte{1}, []byte{})

	f.Fuzz(func(t *testing.T, pk, x, y, proof []byte) {
		var s statement
		copy(s.pk[:], pk)
		copy(s.x[:], x)
		copy(s.y[:], y)
		s.proof = proof
		if decoded, err := s.proof.decode(); err == nil {
			again, err := encodeProof(decoded)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again, proof) {
				t.Fatalf("two encodings of one proof:\n%x\n%x", proof, again)
			}
		} else if !errors.Is(err, ErrInvalid) {
			t.Fatalf("decode: %v", err)
		}
		err := s.verify()
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error %v does not wrap ErrInvalid", err)
			}
			return
		}
		if want, ok := known[[64]byte(slices.Concat(s.pk[:], s.x[:]))]; !ok || want != s.y {
			t.Fatalf("accepted an output that was never proved: key %x input %x output %x", s.pk, s.x, s.y)
		}
	})
}
