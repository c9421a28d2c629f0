package trie

// addition is a leaf that the record of its page lacks: 80 bytes, where the page would take 2 KB.
type addition struct {
	leaf leaf
	next uint32 // an older one of the same page, or of those free; 0: none
}

const (
	additionLen = 80 // bytes of an addition
	chunkLen    = 1024
)

// additions holds the additions of all pages, each by its number from 1 on.
type additions struct {
	chunks []*[chunkLen]addition
	free   uint32
	used   int
	limit  int
}

func (a *additions) at(n uint32) *addition { return &a.chunks[(n-1)/chunkLen][(n-1)%chunkLen] }

// push adds a leaf to a page, unless there is no room.
func (a *additions) push(e *pageEntry, l *leaf) bool {
	if a.free == 0 {
		if a.used >= a.limit {
			return false
		}
		a.grow()
	}
	n := a.free
	add := a.at(n)
	a.free = add.next
	a.used++
	add.leaf, add.next = *l, e.added
	e.added = n
	e.count++
	return true
}

func (a *additions) grow() {
	first := uint32(len(a.chunks) * chunkLen)
	chunk := new([chunkLen]addition)
	for i := range chunk[:chunkLen-1] {
		chunk[i].next = first + uint32(i) + 2
	}
	a.chunks = append(a.chunks, chunk)
	a.free = first + 1
}

// drop forgets the additions of a page: its record has them.
func (a *additions) drop(e *pageEntry) {
	if e.added == 0 {
		return
	}
	last := a.at(e.added)
	for last.next != 0 {
		last = a.at(last.next)
	}
	last.next, a.free = a.free, e.added
	a.used -= int(e.count)
	e.added, e.count = 0, 0
}

// each visits the additions of a page.
func (a *additions) each(e *pageEntry, visit func(l *leaf)) {
	for n := e.added; n != 0; {
		add := a.at(n)
		visit(&add.leaf)
		n = add.next
	}
}
