package ledger

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/diseq/diseq/node/chain"
)

// A member is a validator of the tests, with its key.
type member struct {
	chain.NamedValidator
	key ed25519.PrivateKey
}

func newMember(i int) member {
	seed := make([]byte, ed25519.SeedSize)
	binary.BigEndian.PutUint32(seed, uint32(i+1))
	key := ed25519.NewKeyFromSeed(seed)
	m := member{key: key, NamedValidator: chain.NamedValidator{Name: fmt.Sprintf("v%d", i), Validator: chain.Validator{PublicKey: chain.PublicKeyOf(key)}}}
	binary.BigEndian.PutUint32(m.VRFKey[1:], uint32(i+1))
	return m
}

func newMembers(from, to int) (out []member) {
	for i := from; i < to; i++ {
		out = append(out, newMember(i))
	}
	return out
}

func named(members []member) (out []chain.NamedValidator) {
	for _, m := range members {
		out = append(out, m.NamedValidator)
	}
	return out
}

func genesisOf(interval uint32, members []member) *chain.Genesis {
	return &chain.Genesis{
		Version: 1, ChainID: "test", Threshold: uint32(len(members)/2 + 1), Validators: named(members),
		Parameters: chain.Parameters{BeaconInterval: interval},
	}
}

// changeOf makes the change to a set, endorsed by these validators of the set in force.
func changeOf(generation uint32, members []member, endorsers ...member) *chain.Change {
	c := &chain.Change{Next: chain.NextSet{Generation: generation, Threshold: uint32(len(members)/2 + 1), Validators: named(members)}}
	endorse(c, endorsers...)
	return c
}

func endorse(c *chain.Change, endorsers ...member) {
	c.Endorsements = nil
	for i, m := range endorsers {
		e := chain.Endorse(m.key, "test", &c.Next)
		c.Endorsements = append(c.Endorsements, chain.Endorsement{Validator: uint32(i), Signature: e.Signature})
	}
}

// extend makes the block above a header, with a change or without.
func extend(parent *chain.Header, set *chain.ValidatorSet, c *chain.Change) *chain.FinalBlock {
	f := &chain.FinalBlock{}
	h := &f.Header
	*h = *parent
	h.Height, h.ParentHash, h.Timestamp = parent.Height+1, parent.Hash(), parent.Timestamp+1
	h.MessagesRoot = chain.EmptyMessagesRoot()
	h.ChangeHash, h.ValidatorsHash, h.NextValidatorsHash = chain.Hash{}, set.Hash(), set.Hash()
	if c != nil {
		f.Change, h.ChangeHash, h.NextValidatorsHash = c, c.Hash(), c.Next.Set().Hash()
	}
	return f
}

func TestEachHeightHasTheSetOfItsEra(t *testing.T) {
	v := newMembers(0, 6)
	g := genesisOf(8, v[:4])
	s := newSets(g)
	header := g.Header()
	want := []*chain.NextSet{g.First(), g.First()} // by height
	for height := uint64(1); height <= 9; height++ {
		if _, ok := s.At(height + 1); ok {
			t.Fatalf("the set of height %d is known before block %d is final", height+1, height)
		}
		var c *chain.Change
		switch height {
		case 1:
			c = changeOf(1, v[:5])
		case 2:
			c = changeOf(2, []member{v[5], v[3], v[2]})
		case 7:
			c = changeOf(3, v[2:3])
		}
		b := extend(&header, s.Open(), c)
		if err := s.follows(&b.Block); err != nil {
			t.Fatal(err)
		}
		s.apply(&b.Block)
		header = b.Header
		next := want[height]
		if c != nil {
			next = &c.Next
		}
		want = append(want, next)
		for h, next := range want {
			set, ok := s.At(uint64(h))
			names, _ := s.Named(uint64(h))
			if !ok || set.Hash() != next.Set().Hash() || names.Hash() != next.Hash() {
				t.Fatalf("at tip %d the set of height %d is %v of %v, %v; want %v", height, h, set, names, ok, next)
			}
		}
		if open, _ := s.At(height + 1); s.Open() != open {
			t.Fatalf("the open set is %v, that of height %d is %v", s.Open(), height+1, open)
		}
	}
	for generation, carried := range []uint64{0, 1, 2, 7} {
		next, height, ok := s.ByGeneration(uint32(generation))
		if above, _ := s.Named(carried + 1); !ok || height != carried || next != above {
			t.Errorf("generation %d: %v by block %d, %v; want %v by block %d", generation, next, height, ok, above, carried)
		}
	}
	if next, _, ok := s.ByGeneration(4); ok {
		t.Errorf("generation 4 is %v", next)
	}
	for _, m := range v {
		if name := s.NameOf(m.PublicKey); name != m.Name {
			t.Errorf("%s is named %s", m.Name, name)
		}
	}
	if name := s.NameOf(chain.PublicKey{7}); name != "0700000000000000" {
		t.Errorf("the name of a node that was never a member is %s", name)
	}
}

// The validity of a change in a block rests on the set of its height, and on all sets up to it.
func TestAChangeIsCheckedAgainstItsHeight(t *testing.T) {
	v := newMembers(0, 8)
	g := genesisOf(8, v[:4])
	s := newSets(g)
	header := g.Header()
	apply := func(c *chain.Change) {
		b := extend(&header, s.Open(), c)
		s.apply(&b.Block)
		header = b.Header
	}
	apply(nil)
	apply(changeOf(1, v[1:5])) // v0 has left
	apply(nil)
	current := v[1:5]
	changed := func(change func(*chain.Change)) *chain.Change {
		c := changeOf(2, v[2:6])
		change(c)
		endorse(c, current[:3]...)
		return c
	}
	for _, c := range []struct {
		name   string
		height uint64
		change *chain.Change
		want   string // in the error; "" for none
	}{
		{"one joins, one leaves", 4, changeOf(2, v[2:6], current[:3]...), ""},
		{"all are replaced", 4, changeOf(2, v[5:8], current[:3]...), ""},
		{"the same members", 4, changeOf(2, current, current...), ""},
		{"in an era that is over", 2, changeOf(1, append(newMembers(5, 6), v[1:4]...), v[:3]...), ""},
		{"whose members came later", 1, changeOf(1, v[4:8], v[:3]...), ""},
		{"above the open height", 5, changeOf(2, v[2:6], current[:3]...), "not decided"},
		{"too few endorsed", 4, changeOf(2, v[2:6], current[:2]...), "endorsements"},
		{"endorsed by the set before", 4, changeOf(2, v[2:6], v[:3]...), "endorsement of validator 0"},
		{"the generation in force", 4, changeOf(1, v[2:6], current[:3]...), "generation"},
		{"a generation is left out", 4, changeOf(3, v[2:6], current[:3]...), "generation"},
		{"another Delta", 4, changed(func(c *chain.Change) { c.Next.SynchronyDeltaMS = 100 }), "synchrony"},
		{"half of the votes", 4, changed(func(c *chain.Change) { c.Next.Threshold = 2 }), "threshold"},
		{"nobody", 4, changed(func(c *chain.Change) { c.Next.Validators = nil }), "validator set of 0"},
		{"one that has left comes back", 4, changed(func(c *chain.Change) { c.Next.Validators[0] = v[0].NamedValidator }), "v0"},
		{"the name of one that has left", 4, changed(func(c *chain.Change) { c.Next.Validators[3].Name = "v0" }), "v0"},
		{"the VRF key of one that has left", 4, changed(func(c *chain.Change) { c.Next.Validators[3].VRFKey = v[0].VRFKey }), "VRF key"},
		{"the key of a member under another name", 4, changed(func(c *chain.Change) { c.Next.Validators[0].Name = "other" }), "other"},
		{"a member with another VRF key", 4, changed(func(c *chain.Change) { c.Next.Validators[0].VRFKey = chain.VRFKey{1} }), "v2"},
	} {
		err := s.Check(c.change, c.height)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
