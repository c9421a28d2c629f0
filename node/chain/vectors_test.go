package chain

import (
	"crypto/ed25519"
	"encoding/hex"
	"testing"
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
	next := newNetwork(t, 7, 5)
	next.set.Generation = 1
	change := n.finalBlock(1)
	change.Header.NextValidatorsHash = next.set.Hash()
	change.Certificate = n.certificate(Finalize, 1, 0, change.Hash(), 1, 2, 3)
	f := next.finalBlock(2)
	f.Header.Height, f.Header.ParentHash = 2, change.Hash()
	f.Certificate = next.certificate(Finalize, 2, 3, f.Hash(), 0, 1, 2, 4, 6)
	r := n.receipt(t, f, 1, ValidatorSetChange{
		Header: change.Header, Next: *next.set, Certificate: ReceiptCertificate{Certificate: change.Certificate, Strength: 3},
	})
	if err := r.Verify(n.Genesis, 5); err != nil {
		t.Fatal(err)
	}
	return r
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
