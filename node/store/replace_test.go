package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"reflect"
	"testing"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/sqlitefile"
)

// damageFile changes the bytes of a file that is open.
func damageFile(t *testing.T, path string, change func(b []byte)) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	change(b)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(b, 0)
	must(t, errors.Join(err, f.Close()))
}

const (
	storedBlocks = 30
	victim       = 7
)

// openFile returns an open store of 30 blocks of some 20 KiB, with nothing in its log, and the
// blocks by their heights.
func openFile(t *testing.T, c *testChain) (*Store, []*chain.FinalBlock) {
	t.Helper()
	dir := dataDir(t)
	s := c.open(t, dir)
	blocks := make([]*chain.FinalBlock, storedBlocks+1)
	for h := 1; h <= storedBlocks; h++ {
		messages := payloads(4, 5000, uint64(h)*100)
		for i := range messages { // so that every page can be found
			for at := 0; at < 5000; at += 8 {
				binary.BigEndian.PutUint64(messages[i].Data[at:], uint64(h)<<48|uint64(i)<<32|uint64(at)+1)
			}
		}
		blocks[h] = c.next(messages...)
		must(t, s.Commit(t.Context(), chain.Commit{Block: blocks[h]}))
	}
	must(t, s.Close())
	return c.open(t, dir), blocks
}

// find returns where the file has something that it has once.
func find(t *testing.T, b, what []byte) int {
	t.Helper()
	at := bytes.Index(b, what)
	if at < 0 || bytes.Contains(b[at+1:], what) {
		t.Fatalf("the file has %x not exactly once", what)
	}
	return at
}

// A disk damages blocks.db while the node runs. Every read of the block names it, and once a
// verified copy replaces it everything is read as it was written.
//
// Promise 21.
func TestADamagedBlockIsNamedAndReplaced(t *testing.T) {
	page := blocksSchema.PageSize
	for name, damage := range map[string]func(t *testing.T, b []byte, f *chain.FinalBlock){
		"a flipped bit in a message": func(t *testing.T, b []byte, f *chain.FinalBlock) {
			b[find(t, b, f.Messages[2].Data[2000:2016])+9] ^= 4
		},
		"a flipped bit in the header": func(t *testing.T, b []byte, f *chain.FinalBlock) {
			b[find(t, b, f.Header.MessagesRoot[:])] ^= 1
		},
		"a flipped bit in the certificate": func(_ *testing.T, b []byte, f *chain.FinalBlock) {
			signature := f.Certificate.Votes[1].Signature
			for at := range b { // the row has moved between pages: one of them is not in use any more
				if bytes.HasPrefix(b[at:], signature[:]) {
					b[at] ^= 1
				}
			}
		},
		"a page of zeros": func(t *testing.T, b []byte, f *chain.FinalBlock) {
			at := find(t, b, f.Messages[2].Data[2000:2016]) / page * page
			clear(b[at : at+page])
		},
		"a page of another place": func(t *testing.T, b []byte, f *chain.FinalBlock) {
			at := find(t, b, f.Messages[2].Data[2000:2016]) / page * page
			copy(b[at:at+page], b[at-8*page:])
		},
		"a chain of pages that leads into another block": func(t *testing.T, b []byte, f *chain.FinalBlock) {
			at := find(t, b, f.Messages[1].Data[4000:4016]) / page * page // its first four bytes name the next
			copy(b[at:at+4], b[at-8*page:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChain("store")
			s, blocks := openFile(t, c)
			want := blocks[victim]
			damageFile(t, s.file.Path, func(b []byte) { damage(t, b, want) })

			_, err := s.Block(t.Context(), victim)
			isNamed(t, "block", err)
			_, err = s.EncodedBlocks(t.Context(), 1, storedBlocks, 1<<30)
			isNamed(t, "range", err)
			if _, err := s.Block(t.Context(), victim+1); err != nil {
				t.Errorf("the block above: %v", err)
			}

			for name, wrong := range map[string]*chain.FinalBlock{"another block": c.sibling(want), "other messages": withMessages(want, payloads(4, 5000, 9)...)} {
				if err := s.Replace(t.Context(), wrong); err == nil || errors.Is(err, ErrContradicts) != (name == "another block") {
					t.Fatalf("replaced by %s: %v", name, err)
				}
			}
			must(t, s.Replace(t.Context(), want))
			for range 2 { // before and after it is closed and opened again
				readsAsWritten(t, s, blocks)
				must(t, s.Commit(t.Context(), chain.Commit{Block: c.next(payloads(1, 20000, s.Height()*1000)...)}))
				must(t, s.Close())
				// The structure of a small file is walked when it is opened.
				blocksSchema.WalkLimit = 0
				defer func() { blocksSchema.WalkLimit = walkLimit }()
				s = c.open(t, s.dir)
			}
		})
	}
}

func isNamed(t *testing.T, reader string, err error) {
	t.Helper()
	damaged, ok := errors.AsType[*DamagedBlockError](err)
	if !ok || damaged.Height != victim || !errors.Is(err, ErrCorrupt) {
		t.Errorf("%s: %v; want the damaged block %d", reader, err, victim)
	}
}

// sibling returns a final block beside another one.
func (c *testChain) sibling(f *chain.FinalBlock) *chain.FinalBlock {
	other := *f
	other.Header.Timestamp++
	other.Certificate = c.finalize(other.Header, 3)
	return &other
}

func withMessages(f *chain.FinalBlock, messages ...chain.Message) *chain.FinalBlock {
	other := *f
	other.Messages = messages
	return &other
}

func readsAsWritten(t *testing.T, s *Store, blocks []*chain.FinalBlock) {
	t.Helper()
	encoded, err := s.EncodedBlocks(t.Context(), 1, storedBlocks, 1<<30)
	must(t, err)
	if len(encoded) != storedBlocks {
		t.Fatalf("%d blocks in the range, want %d", len(encoded), storedBlocks)
	}
	for h := 1; h <= storedBlocks; h++ {
		want := blocks[h]
		if !bytes.Equal(encoded[h-1], want.Encode()) {
			t.Errorf("block %d in the range is not what was written", h)
		}
		f, err := s.Block(t.Context(), uint64(h))
		must(t, err)
		if !bytes.Equal(f.Encode(), want.Encode()) {
			t.Errorf("block %d is not what was written", h)
		}
		head, err := s.Head(t.Context(), uint64(h))
		must(t, err)
		certificate, err := s.Certificate(t.Context(), uint64(h))
		must(t, err)
		if head.Header != want.Header || !reflect.DeepEqual(*certificate, want.Certificate) {
			t.Errorf("header or certificate %d are not what was written", h)
		}
	}
}

// Promise 21.
func TestEachPartOfADamagedBlockIsNamedAndReplaced(t *testing.T) {
	for _, statement := range []string{
		"UPDATE blocks SET block = zeroblob(length(block)) WHERE height = 7",
		"UPDATE blocks SET block = x'' WHERE height = 7",
		"UPDATE blocks SET messages = block WHERE height = 7",
		"UPDATE certificates SET certificate = zeroblob(length(certificate)) WHERE height = 7",
		"DELETE FROM blocks WHERE height = 7",
		"DELETE FROM certificates WHERE height = 7",
	} {
		t.Run(statement, func(t *testing.T) {
			c := newChain("store")
			s, blocks := openFile(t, c)
			execute(t, s.file.Path, statement)
			_, err := s.Block(t.Context(), victim)
			isNamed(t, "block", err)
			for name, read := range map[string]func() error{
				"head":        func() error { _, err := s.Head(t.Context(), victim); return err },
				"certificate": func() error { _, err := s.Certificate(t.Context(), victim); return err },
			} {
				if err := read(); err != nil {
					isNamed(t, name, err)
				}
			}
			stronger := c.finalize(blocks[victim].Header, 4)
			s.Strengthen(&stronger) // whether it is written or dropped, no transaction fails of it
			must(t, s.Replace(t.Context(), blocks[victim]))
			must(t, s.Replace(t.Context(), blocks[victim-1])) // which is not damaged
			f, err := s.Block(t.Context(), victim)
			must(t, err)
			if !bytes.Equal(f.Encode(), blocks[victim].Encode()) {
				t.Error("the block is not what was written")
			}
			if _, err := s.Head(t.Context(), victim); err != nil {
				t.Errorf("header: %v", err)
			}
			if _, err := s.Certificate(t.Context(), victim); err != nil {
				t.Errorf("certificate: %v", err)
			}
		})
	}
}

// A copy that contradicts anything legible is refused, wherever the damage is.
func TestACopyIsComparedWithWhatIsLegible(t *testing.T) {
	for name, tt := range map[string]struct {
		height    uint64
		statement string
	}{
		"its header":          {victim, "UPDATE blocks SET messages = x'' WHERE height = 7"},
		"its certificate":     {victim, "UPDATE blocks SET block = x'' WHERE height = 7"},
		"the block above":     {victim, "UPDATE blocks SET block = x'' WHERE height = 7; DELETE FROM certificates WHERE height = 7"},
		"the newest block":    {storedBlocks, "UPDATE blocks SET block = x'' WHERE height = 30; DELETE FROM certificates WHERE height = 30"},
		"nothing but genesis": {1, "UPDATE blocks SET block = x'' WHERE height < 3; DELETE FROM certificates WHERE height < 3"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChain("store")
			s, blocks := openFile(t, c)
			execute(t, s.file.Path, tt.statement)
			right := blocks[tt.height]
			wrong := c.sibling(right)
			if tt.height == 1 {
				wrong = withMessages(right, right.Messages...)
				wrong.Header.ParentHash = chain.Hash{1}
				wrong.Certificate = c.finalize(wrong.Header, 3)
			}
			if err := s.Replace(t.Context(), wrong); !errors.Is(err, ErrContradicts) {
				t.Errorf("replaced by another block: %v", err)
			}
			must(t, s.Replace(t.Context(), right))
			f, err := s.Block(t.Context(), tt.height)
			must(t, err)
			if !bytes.Equal(f.Encode(), right.Encode()) {
				t.Error("the block is not what was written")
			}
		})
	}
}

func TestReplaceRefusesWhatIsNotThere(t *testing.T) {
	c := newChain("store")
	s, _ := openFile(t, c)
	if err := s.Replace(t.Context(), c.next()); !errors.Is(err, ErrNotFound) {
		t.Errorf("a block above the newest: %v", err)
	}
	foreign := newChain("other").next()
	if err := s.Replace(t.Context(), foreign); err == nil {
		t.Error("replaced by a block of another chain")
	}
}

// A file that SQLite cannot write to any more: every write says so, and so does a repair.
func TestAMalformedFileIsTold(t *testing.T) {
	c := newChain("store")
	s, blocks := openFile(t, c)
	roots := map[string]int{}
	for _, table := range []string{"blocks", "copies"} {
		var page int
		must(t, s.writer.out.QueryRow(&sqlitefile.Statement{SQL: fmt.Sprintf("SELECT rootpage FROM sqlite_schema WHERE name = '%s'", table)}, nil, &page))
		roots[table] = page
	}
	damageFile(t, s.file.Path, func(b []byte) {
		for _, page := range roots {
			at := (page - 1) * blocksSchema.PageSize
			clear(b[at : at+blocksSchema.PageSize])
		}
	})
	if err := s.Replace(t.Context(), blocks[victim]); !errors.Is(err, ErrMalformed) {
		t.Errorf("replace: %v", err)
	}
	if err := s.Commit(t.Context(), chain.Commit{Block: c.next()}); !errors.Is(err, ErrMalformed) {
		t.Errorf("commit: %v", err)
	}
}
