package trie

import "github.com/diseq/diseq/node/internal/sha256lanes"

// joins collects the branches that are to be hashed, of many pages, and then hashes them. Branches
// of the same rank do not depend on one another, so that a processor hashes several at once.
type joins struct {
	ranks []rank // by rank-1
	// room for the hashes of branches that no page keeps
	chunks []*[hashChunk][32]byte
	used   int

	batch sha256lanes.Batch
}

const hashChunk = 1024

// rank holds the branches all of whose sides have hashes once lower ranks have.
type rank struct {
	joins  []join
	copies []replica
}

// join is a branch on bit at, whose hash goes to out.
type join struct {
	left, right, out *[32]byte
	at               uint8
}

// replica is a hash that goes to a second place.
type replica struct{ from, to *[32]byte }

// at returns the lists of rank r, from 1 on.
func (j *joins) at(r int) *rank {
	for len(j.ranks) < r {
		j.ranks = append(j.ranks, rank{})
	}
	return &j.ranks[r-1]
}

// pending is where a hash is, or will be once its rank is hashed: 0 if it is there.
type pending struct {
	hash *[32]byte
	rank int
}

// join adds a branch. Its hash goes to out, or to a place of its own if that is nil.
func (j *joins) join(at uint8, left, right pending, out *[32]byte) pending {
	if out == nil {
		out = j.place()
	}
	r := 1 + max(left.rank, right.rank)
	list := j.at(r)
	list.joins = append(list.joins, join{left.hash, right.hash, out, at})
	return pending{out, r}
}

// copy puts a hash to a second place as well.
func (j *joins) copy(h pending, to *[32]byte) {
	if h.rank == 0 {
		*to = *h.hash
		return
	}
	list := j.at(h.rank)
	list.copies = append(list.copies, replica{h.hash, to})
}

// place returns room for a hash, until run returns.
func (j *joins) place() *[32]byte {
	if j.used == len(j.chunks)*hashChunk {
		j.chunks = append(j.chunks, new([hashChunk][32]byte))
	}
	h := &j.chunks[j.used/hashChunk][j.used%hashChunk]
	j.used++
	return h
}

// run hashes all branches.
func (j *joins) run() {
	for i := range j.ranks {
		r := &j.ranks[i]
		for i := range r.joins {
			l := &r.joins[i]
			putBranch((*[branchLen]byte)(j.batch.Next(branchLen, l.out)), l.at, l.left, l.right)
		}
		j.batch.Flush()
		for _, c := range r.copies {
			*c.to = *c.from
		}
		// No page is kept in memory by what is done.
		clear(r.joins)
		clear(r.copies)
		r.joins, r.copies = r.joins[:0], r.copies[:0]
	}
	j.used = 0
}

// leaves adds the branches of a leaf page whose hashes it does not keep.
func (j *joins) leaves(p *page) pending {
	before := p.kept
	p.kept = [keptHashes]kept{}
	n := 0
	return j.top(p, 0, len(p.leaves), keptDepth, func(lo, hi int) pending {
		k := &p.kept[n]
		n++
		k.lo, k.hi = uint8(lo), uint8(hi)
		for i := range before {
			if b := &before[i]; b.lo == k.lo && b.hi == k.hi {
				k.hash = b.hash
				return pending{hash: &k.hash}
			}
		}
		return j.under(p, lo, hi, &k.hash)
	})
}

// top adds the branches above the subtrees that a leaf page keeps.
func (j *joins) top(p *page, lo, hi, depth int, below func(lo, hi int) pending) pending {
	if hi-lo == 1 {
		return pending{hash: &p.leaves[lo].hash}
	}
	if depth == 0 {
		return below(lo, hi)
	}
	m := p.top(lo, hi)
	left, right := j.top(p, lo, m+1, depth-1, below), j.top(p, m+1, hi, depth-1, below)
	return j.join(p.gaps[m], left, right, nil)
}

// under adds all branches over the leaves lo to hi-1. The hash of their subtree goes to out.
func (j *joins) under(p *page, lo, hi int, out *[32]byte) pending {
	if hi-lo == 1 {
		return pending{hash: &p.leaves[lo].hash}
	}
	m := p.top(lo, hi)
	return j.join(p.gaps[m], j.under(p, lo, m+1, nil), j.under(p, m+1, hi, nil), out)
}

// plan adds the branches below c that are to be hashed again, and returns where c's hash is.
func (t *Trie) plan(c *child, slot uint8) (pending, error) {
	if c.hash != zero {
		return pending{hash: &c.hash}, nil
	}
	p, err := t.fetch(c.id, slot)
	if err != nil {
		return pending{}, err
	}
	var top pending
	if p.isLeaf() {
		top = t.joins.leaves(p)
	} else if top, err = t.planStack(p, slot, 0, len(p.children)); err != nil {
		return pending{}, err
	}
	t.joins.copy(top, &c.hash)
	return pending{&c.hash, top.rank}, nil
}

// planStack adds the branches over the children lo to hi-1 of a stack page.
func (t *Trie) planStack(p *page, slot uint8, lo, hi int) (pending, error) {
	if hi-lo == 1 {
		return t.plan(&p.children[lo], slot)
	}
	m := p.top(lo, hi)
	if p.inner[m] != zero {
		return pending{hash: &p.inner[m]}, nil
	}
	left, err := t.planStack(p, slot, lo, m+1)
	if err != nil {
		return pending{}, err
	}
	right, err := t.planStack(p, slot, m+1, hi)
	if err != nil {
		return pending{}, err
	}
	return t.joins.join(p.gaps[m], left, right, &p.inner[m]), nil
}
