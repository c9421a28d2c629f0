package chain

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"filippo.io/edwards25519"
)

// smallOrder are all encodings that decode to one of the eight points of small order. The last six
// are not canonical.
var smallOrder = []string{
	"0100000000000000000000000000000000000000000000000000000000000000",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0000000000000000000000000000000000000000000000000000000000000080",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
	"0100000000000000000000000000000000000000000000000000000000000080",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
}

func pointOf(t *testing.T, encoding string) *edwards25519.Point {
	t.Helper()
	raw, err := hex.DecodeString(encoding)
	if err != nil {
		t.Fatal(err)
	}
	p, err := new(edwards25519.Point).SetBytes(raw)
	if err != nil {
		t.Fatalf("%s: %v", encoding, err)
	}
	return p
}

// weakKeys are keys for which a signature does not show who made it, or that no signature verifies
// under, with a word of the reason.
func weakKeys(t *testing.T, n *network) map[PublicKey]string {
	t.Helper()
	weak := map[PublicKey]string{}
	for i, encoding := range smallOrder {
		p := pointOf(t, encoding)
		if new(edwards25519.Point).MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 0 {
			t.Fatalf("%s is not of small order: the list is wrong", encoding)
		}
		reason := "small order"
		if i >= 8 {
			reason = "not canonical"
		}
		weak[PublicKey(mustHex(t, encoding))] = reason
	}
	// A key that an owner can sign for, with a point of order 8 added.
	honest := pointOf(t, PublicKeyOf(n.keys[0]).String())
	mixed := new(edwards25519.Point).Add(honest, pointOf(t, smallOrder[4]))
	weak[PublicKey(mixed.Bytes())] = "prime order"
	weak[PublicKey{2}] = "no point"
	return weak
}

func mustHex(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// For the neutral element as key, a constant is a signature of every message: everyone votes as
// that validator, and everyone forges evidence against it.
//
// Promise 11.
func TestAConstantSignsForTheNeutralElement(t *testing.T) {
	n := newNetwork(t, 4, 3)
	n.Validators[3].PublicKey = PublicKey{1}
	vote := Vote{Kind: Notarize, Height: 1, Block: Hash{7}, Validator: 3, Signature: Signature{1}}
	if err := vote.Verify(n.ChainID, n.Set()); err != nil {
		t.Fatalf("the attack does not work, so nothing is tested: %v", err)
	}
	text, err := json.Marshal(n.Genesis)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadGenesis(strings.NewReader(string(text))); err == nil || !strings.Contains(err.Error(), "small order") {
		t.Errorf("the genesis document of that validator: error %v", err)
	}
}

// Promise 11.
func TestEveryDocumentRefusesAWeakKey(t *testing.T) {
	n := newNetwork(t, 4, 3)
	if err := PublicKeyOf(n.keys[0]).Validate(); err != nil {
		t.Errorf("a key of an owner: %v", err)
	}
	for key, reason := range weakKeys(t, n) {
		if err := key.Validate(); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%v: error %v, want %q", key, err, reason)
		}
		if key == (PublicKey{}) {
			continue // the sets call it an empty key
		}
		weak := newNetwork(t, 4, 3)
		weak.Validators[2].PublicKey = key
		for where, err := range map[string]error{
			"genesis":    weak.Genesis.Validate(),
			"checkpoint": (&ReaderCheckpoint{Version: 1, ChainID: "c", Hash: Hash{1}, Set: *weak.Set()}).Validate(),
			"target":     (&Target{Threshold: 3, Validators: weak.Validators}).Next(0).Validate(),
		} {
			if err == nil || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), "validator 2") {
				t.Errorf("%s with key %v: error %v, want %q", where, key, err, reason)
			}
		}
		next := n.after(t, 4, 3)
		next.Validators[2].PublicKey = key
		if err := n.change(next.named(), 0, 1, 2).Verify(n.ChainID, n.set); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("change with key %v: error %v, want %q", key, err, reason)
		}
		next.set = next.Set()
		next.set.Generation = 1
		final := n.changeTo(next, 1)
		if err := n.Genesis.Eras().Follow(final.entry(t)); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("a reader follows a change to key %v: error %v, want %q", key, err, reason)
		}
	}
}

// A VRF key outside the field verifies nothing: a set with one would never get that reveal.
func TestEveryDocumentRefusesAVRFKeyOutsideTheField(t *testing.T) {
	n := newNetwork(t, 4, 3)
	n.Validators[1].VRFKey = fieldOrder
	for where, err := range map[string]error{
		"genesis":    n.Genesis.Validate(),
		"checkpoint": (&ReaderCheckpoint{Version: 1, ChainID: "c", Hash: Hash{1}, Set: *n.Set()}).Validate(),
		"target":     (&Target{Threshold: 3, Validators: n.Validators}).Next(0).Validate(),
	} {
		if err == nil || !strings.Contains(err.Error(), "order of the field") {
			t.Errorf("%s: error %v", where, err)
		}
	}
}

func BenchmarkValidateKey(b *testing.B) {
	key := PublicKeyOf(ed25519.NewKeyFromSeed(make([]byte, 32)))
	for b.Loop() {
		if err := key.Validate(); err != nil {
			b.Fatal(err)
		}
	}
}
