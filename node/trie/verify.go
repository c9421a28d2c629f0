package trie

import (
	"errors"
	"fmt"
)

// Verify decides what p proves about key in the trie with the given root: that
// it is present, with Leaf.Data as its message, or that it is absent. An error
// says that it proves neither, and why. It shares nothing with the prover but
// the hash functions, and takes nothing from the proof on trust: every hash is
// computed again, from the leaf's data upwards.
//
// Inclusion is sound for any root: it needs a collision of SHA-256 to fake.
// Absence is sound for the root of a trie, one that validators computed and
// certified: there the key's own bits, tested from the root down at the bits
// that the branches name, lead to the key's leaf if it is there. The root fixes
// every branch, so that this way is the only one; it ends at another leaf, or at
// an empty side of the root. That other leaf's key is bound by its hash only
// together with its data, which is why a proof of absence carries them too.
func Verify(root, key [32]byte, p *Proof) (present bool, err error) {
	if p == nil {
		return false, errors.New("trie: no proof")
	}
	if present, err = verify(root, key, p); err != nil {
		return false, fmt.Errorf("trie: proof of key %x: %w", key, err)
	}
	return present, nil
}

func verify(root, key [32]byte, p *Proof) (bool, error) {
	if p.Key != key {
		return false, fmt.Errorf("it is of key %x", p.Key)
	}
	if got := rootHash(&p.Root.Left, &p.Root.Right); got != root || p.Root.Hash != root {
		return false, fmt.Errorf("its root is %x, want %x", got, root)
	}
	turn := bit(&key, 0) == 1
	next := p.Root.child(turn) // the hash that the following node must have
	if next == zero {
		if p.Leaf != nil || len(p.Branches) > 0 {
			return false, errors.New("nodes below an empty side of the root")
		}
		return false, nil
	}
	tested := 0
	for i := range p.Branches {
		b := &p.Branches[i]
		if int(b.Bit) <= tested {
			return false, fmt.Errorf("branch %d tests bit %d after bit %d", i, b.Bit, tested)
		}
		if b.IsRight != turn {
			return false, fmt.Errorf("branch %d turns off from the key's bit %d", i, tested)
		}
		if got := branchHash(b.Bit, &b.Left, &b.Right); got != next || b.Hash != next {
			return false, fmt.Errorf("branch %d has hash %x, want %x", i, got, next)
		}
		tested = int(b.Bit)
		turn = bit(&key, tested) == 1
		next = b.child(turn)
		if next == zero {
			return false, fmt.Errorf("branch %d has an empty side", i)
		}
	}
	return verifyLeaf(key, p, next, turn)
}

func verifyLeaf(key [32]byte, p *Proof, want [32]byte, turn bool) (bool, error) {
	l := p.Leaf
	if l == nil {
		return false, errors.New("it ends above a leaf")
	}
	if l.IsRight != turn {
		return false, errors.New("the leaf turns off from the key's bits")
	}
	if got := Key(l.Data); got != l.Key {
		return false, fmt.Errorf("the leaf's data have key %x, not %x", got, l.Key)
	}
	if got := LeafHash(l.Key, l.Data); got != want || l.Hash != want {
		return false, fmt.Errorf("the leaf has hash %x, want %x", got, want)
	}
	if l.Key == key {
		return true, nil
	}
	if bit(&l.Key, 0) != bit(&key, 0) {
		return false, errors.New("the leaf is on the other side of the root")
	}
	for i := range p.Branches {
		if b := int(p.Branches[i].Bit); bit(&l.Key, b) != bit(&key, b) {
			return false, fmt.Errorf("the leaf differs in bit %d, which branch %d tests", b, i)
		}
	}
	return false, nil
}
