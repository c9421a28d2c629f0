package chain

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"filippo.io/edwards25519"
)

// signatureVector is a signature that implementations of Ed25519 disagree about, and what counts
// here.
type signatureVector struct {
	Case      string    `json:"case"`
	PublicKey PublicKey `json:"public_key"`
	Message   string    `json:"message"` // hex
	Signature Signature `json:"signature"`
	Valid     bool      `json:"valid"`
}

// signatureVectors holds the choices that RFC 8032 leaves open: without cofactor, R compared as
// bytes, keys taken leniently.
func signatureVectors(t *testing.T, n *network) []signatureVector {
	t.Helper()
	const (
		neutral = "0100000000000000000000000000000000000000000000000000000000000000"
		// x = 0 with the sign bit
		signed     = "0100000000000000000000000000000000000000000000000000000000000080"
		unreduced  = "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f" // y = p + 1
		orderFour  = "0000000000000000000000000000000000000000000000000000000000000000"
		noPoint    = "0200000000000000000000000000000000000000000000000000000000000000"
		zeroScalar = "0000000000000000000000000000000000000000000000000000000000000000"
		edge       = "edge"
	)
	honest := ed25519.Sign(n.keys[0], []byte(edge))
	r, s := hex.EncodeToString(honest[:32]), hex.EncodeToString(honest[32:])
	key := PublicKeyOf(n.keys[0]).String()
	torsionR, torsionS := signWithTorsion(t, n.keys[0], []byte(edge))
	var out []signatureVector
	for _, c := range []struct {
		name, key, message, r, s string
		valid                    bool
	}{
		{"honest", key, edge, r, s, true},
		{"S plus the group's order", key, edge, r, addOrder(t, honest[32:]), false},
		{"another message", key, "edges", r, s, false},
		{"key is the neutral element", neutral, edge, neutral, zeroScalar, true},
		{"key with y not reduced", unreduced, edge, neutral, zeroScalar, true},
		{"key with x = 0 and the sign bit", signed, edge, neutral, zeroScalar, true},
		{"R with y not reduced", neutral, edge, unreduced, zeroScalar, false},
		{"R with x = 0 and the sign bit", neutral, edge, signed, zeroScalar, false},
		{"key of order 4, valid with cofactor only", orderFour, "a", neutral, zeroScalar, false},
		{"key of order 4, hash divisible by 4", orderFour, "g", neutral, zeroScalar, true},
		{"key is no point", noPoint, edge, neutral, zeroScalar, false},
		{"R with a part of order 2, valid with cofactor only", key, edge, torsionR, torsionS, false},
	} {
		v := signatureVector{Case: c.name, Message: hexOf([]byte(c.message)), Valid: c.valid}
		if err := v.PublicKey.UnmarshalText([]byte(c.key)); err != nil {
			t.Fatal(err)
		}
		if err := v.Signature.UnmarshalText([]byte(c.r + c.s)); err != nil {
			t.Fatal(err)
		}
		if got := verify(v.PublicKey, []byte(c.message), v.Signature); got != c.valid {
			t.Errorf("%s: verifies %v, want %v", c.name, got, c.valid)
		}
		out = append(out, v)
	}
	return out
}

// signWithTorsion signs as an owner who adds the point of order 2 to R: multiplied by the cofactor,
// the equation holds. Such a vote would count for one reader and not for another.
func signWithTorsion(t *testing.T, key ed25519.PrivateKey, message []byte) (r, s string) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	scalar := func(wide [sha512.Size]byte) *edwards25519.Scalar {
		out, err := edwards25519.NewScalar().SetUniformBytes(wide[:])
		must(err)
		return out
	}
	expanded := sha512.Sum512(key.Seed())
	secret, err := edwards25519.NewScalar().SetBytesWithClamping(expanded[:32])
	must(err)
	orderTwo, err := new(edwards25519.Point).SetBytes(append([]byte{0xec}, append(bytes.Repeat([]byte{0xff}, 30), 0x7f)...)) // y = -1
	must(err)
	nonce := scalar(sha512.Sum512(append([]byte("nonce"), message...)))
	point := new(edwards25519.Point).ScalarBaseMult(nonce)
	encoded := point.Add(point, orderTwo).Bytes()
	k := scalar(sha512.Sum512(slices.Concat(encoded, key.Public().(ed25519.PublicKey), message)))
	return hex.EncodeToString(encoded), hex.EncodeToString(edwards25519.NewScalar().MultiplyAdd(k, secret, nonce).Bytes())
}

// addOrder returns s + L in hex, L the order of the prime group, both little-endian.
func addOrder(t *testing.T, s []byte) string {
	t.Helper()
	order, err := hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	if err != nil {
		t.Fatal(err)
	}
	sum, carry := make([]byte, len(s)), 0
	for i := range s {
		carry += int(s[i]) + int(order[i])
		sum[i] = byte(carry)
		carry >>= 8
	}
	return hex.EncodeToString(sum)
}

// changedReceipt is a receipt whose set follows from the genesis document's by one change.
func changedReceipt(t testing.TB, n *network) *Receipt {
	t.Helper()
	next := n.after(t, 7, 5)
	change := n.changeTo(next, 1)
	f := next.blockAt(2, func(f *FinalBlock) { f.Header.ParentHash = change.Hash() })
	r := n.receipt(t, f, 1, change.entry(t))
	if err := r.Verify(n.Genesis, 5); err != nil {
		t.Fatal(err)
	}
	return r
}

// eraVectors are documents of a chain whose set changes twice: all that a reader needs to follow
// it.
func eraVectors(t *testing.T, n *network) map[string]any {
	t.Helper()
	larger := n.after(t, 7, 5)
	same := larger.after(t, 7, 4) // the threshold alone
	first, second := n.changeTo(larger, 1), larger.changeTo(same, 3)
	f := same.blockAt(5, nil)
	eras := n.Genesis.Eras()
	receipt := n.receipt(t, f, 1, first.entry(t), second.entry(t))
	guilty, ok := NewEvidence(n.ChainID, larger.set, larger.vote(Finalize, 3, 1, Hash{1}, 6), larger.vote(Finalize, 3, 1, Hash{2}, 6))
	if !ok {
		t.Fatal("the votes break no rule")
	}
	evidence := guilty.Document([]ValidatorSetChange{first.entry(t)})
	if err := errors.Join(evidence.Verify(n.Genesis), receipt.Verify(eras, 0)); err != nil {
		t.Fatal(err)
	}
	checkpoint := eras.Checkpoint()
	short := n.receipt(t, f, 1)
	if err := short.Verify(checkpoint, 0); err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"changes":                 []*FinalChange{first.final(t), second.final(t)},
		"receipt_after_changes":   receipt,
		"evidence_after_change":   evidence,
		"checkpoint":              checkpoint,
		"receipt_from_checkpoint": short,
	}
}

// evidenceVectors is one piece of evidence for each rule.
func evidenceVectors(t *testing.T, n *network) []Evidence {
	t.Helper()
	a, b := Hash{1}, Hash{2}
	var out []Evidence
	for _, pair := range [][2]Vote{
		{n.vote(Notarize, 1, 2, a, 3), n.vote(Notarize, 1, 2, b, 3)},
		{n.vote(Finalize, 1, 2, a, 3), n.vote(Finalize, 1, 2, b, 3)},
		{n.vote(Nullify, 1, 2, Hash{}, 3), n.vote(Finalize, 1, 2, a, 3)},
		{n.vote(Notarize, 1, 2, b, 3), n.vote(Finalize, 1, 2, a, 3)},
		{n.vote(Propose, 1, 2, a, 3), n.vote(Propose, 1, 2, b, 3)},
	} {
		e, ok := NewEvidence(n.ChainID, n.set, pair[0], pair[1])
		if !ok {
			t.Fatalf("%v and %v break no rule", pair[0], pair[1])
		}
		if err := e.Verify(n.ChainID, n.set); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}
