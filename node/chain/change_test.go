package chain

import (
	"reflect"
	"strings"
	"testing"
)

// change makes a change of the network's set that the validators at these places endorse.
func (n *network) change(next *NextSet, endorsers ...int) *Change {
	c := &Change{Next: *next}
	for _, i := range endorsers {
		c.Endorsements = append(c.Endorsements, Endorsement{Validator: uint32(i), Signature: Endorse(n.keys[i], n.ChainID, next).Signature})
	}
	return c
}

// grown returns the set of a larger network as the one after n's.
func (n *network) grown(t testing.TB) *NextSet {
	next := newNetwork(t, 7, 5).First()
	next.Generation = 1
	return next
}

func TestAChangeNeedsTheConsentOfTheSetInForce(t *testing.T) {
	n := newNetwork(t, 4, 3)
	alter := func(f func(next *NextSet)) *NextSet {
		next := n.grown(t)
		f(next)
		return next
	}
	good := n.grown(t)
	elsewhere := n.change(good, 0, 1, 2)
	elsewhere.Endorsements[2].Signature = Endorse(n.keys[2], "another-chain", good).Signature
	stolen := n.change(good, 0, 1, 2)
	stolen.Endorsements[2].Validator = 3
	for _, c := range []struct {
		name, want string
		change     *Change
	}{
		{"endorsed by the threshold", "", n.change(good, 0, 2, 3)},
		{"endorsed by all", "", n.change(good, 0, 1, 2, 3)},
		{"one endorsement short", "2 endorsements, the threshold is 3", n.change(good, 0, 1)},
		{"an endorser twice", "indices rise", n.change(good, 0, 1, 1)},
		{"endorsers out of order", "indices rise", n.change(good, 1, 0, 2)},
		{"an endorsement of another chain", "signature", elsewhere},
		{"an endorsement under another's place", "signature", stolen},
		{"the same generation", "generation 0", n.change(alter(func(s *NextSet) { s.Generation = 0 }), 0, 1, 2)},
		{"a generation skipped", "generation 2", n.change(alter(func(s *NextSet) { s.Generation = 2 }), 0, 1, 2)},
		{"another Delta", "synchrony_delta_ms 100", n.change(alter(func(s *NextSet) { s.SynchronyDeltaMS = 100 }), 0, 1, 2)},
		{"a threshold of half", "threshold 3", n.change(alter(func(s *NextSet) { s.Threshold = 3 }), 0, 1, 2)},
		{"no validator", "validator set of 0", n.change(alter(func(s *NextSet) { s.Validators = nil }), 0, 1, 2)},
		{"a name twice", "each name once", n.change(alter(func(s *NextSet) { s.Validators[6].Name = "v0" }), 0, 1, 2)},
		{"a key twice", "share the key", n.change(alter(func(s *NextSet) { s.Validators[6].PublicKey = s.Validators[0].PublicKey }), 0, 1, 2)},
		{"a VRF key above the field", "order of the field", n.change(alter(func(s *NextSet) { s.Validators[6].VRFKey = fieldOrder }), 0, 1, 2)},
	} {
		err := c.change.Verify(n.ChainID, n.set)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
		decoded, err := DecodeChange(c.change.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if size := len(c.change.Encode()); c.change.Size() != size {
			t.Errorf("%s: size %d, the encoding has %d bytes", c.name, c.change.Size(), size)
		}
		if len(c.change.Next.Validators) > 0 && !reflect.DeepEqual(decoded, c.change) {
			t.Errorf("%s: decoded %+v, want %+v", c.name, decoded, c.change)
		}
	}
}

func TestABlockIsBoundToItsChange(t *testing.T) {
	n := newNetwork(t, 4, 3)
	b := n.finalBlock(1).Block
	b.Change = n.change(n.grown(t), 0, 1, 2)
	b.Header.ChangeHash, b.Header.NextValidatorsHash = b.Change.Hash(), b.Change.Next.Set().Hash()
	b.Sign(n.keys[1])
	if _, err := DecodeBlock(b.Encode()); err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]*Change{"no change": nil, "other endorsers": n.change(n.grown(t), 0, 1, 3)} {
		c := b
		c.Change = other
		if _, err := DecodeBlock(c.Encode()); err == nil || !strings.Contains(err.Error(), "header names change") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnIdentityIsAWholeAndComesOnce(t *testing.T) {
	n := newNetwork(t, 7, 5)
	of := func(places ...int) *NextSet {
		s := &NextSet{Generation: 1, Threshold: n.Threshold}
		for _, i := range places {
			s.Validators = append(s.Validators, n.Validators[i])
		}
		return s
	}
	first, second := of(0, 1, 2), of(3, 2, 1)
	ids := NewIdentities(first)
	if err := ids.Check(first, second); err != nil {
		t.Fatal(err)
	}
	ids.Add(second)
	swap := func(f func(a, b *NamedValidator)) *NextSet {
		s := of(4, 2, 1)
		f(&s.Validators[0], &s.Validators[1])
		return s
	}
	for _, c := range []struct {
		name, want string
		next       *NextSet
	}{
		{"the same set", "", second},
		{"all but one leave", "", of(2)},
		{"newcomers only", "", of(4, 5, 6)},
		{"one that has left comes back", "named v0", of(0, 1, 2)},
		{"the name of one that has left", "named v0", swap(func(a, _ *NamedValidator) { a.Name = "v0" })},
		{"the key of one that has left", "the key", swap(func(a, _ *NamedValidator) { a.PublicKey = n.Validators[0].PublicKey })},
		{"the VRF key of one that has left", "VRF key", swap(func(a, _ *NamedValidator) { a.VRFKey = n.Validators[0].VRFKey })},
		{"a VRF key that was a key", "VRF key", swap(func(a, _ *NamedValidator) { a.VRFKey = VRFKey(n.Validators[0].PublicKey) })},
		{"a member under a new name", "key", swap(func(_, b *NamedValidator) { b.Name = "new" })},
		{"a member with a new VRF key", "named v2", swap(func(_, b *NamedValidator) { b.VRFKey = VRFKey{1} })},
		{"names swapped", "named", swap(func(a, b *NamedValidator) { a.Name, b.Name = b.Name, a.Name })},
	} {
		err := ids.Check(second, c.next)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
	}
}

func TestAnEndorsementOnItsOwnIsOfItsMaker(t *testing.T) {
	n := newNetwork(t, 4, 3)
	e := Endorse(n.keys[0], n.ChainID, n.grown(t))
	read, err := DecodeEndorsed(e.Encode())
	if err != nil || *read != e {
		t.Fatalf("read %+v, %v; want %+v", read, err, e)
	}
	if err := e.Verify(n.ChainID, n.Validators[0].PublicKey); err != nil {
		t.Error(err)
	}
	if e.Verify(n.ChainID, n.Validators[1].PublicKey) == nil || e.Verify("another-chain", n.Validators[0].PublicKey) == nil {
		t.Error("it verifies under another key, or on another chain")
	}
}
