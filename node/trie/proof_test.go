package trie

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// proven returns a trie of n messages at height 1, its root, and complete
// proofs of a message that is there and of one that is not.
func proven(t testing.TB, n int) (root [32]byte, inclusion, absence *Proof) {
	t.Helper()
	tr := mustOpen(t, t.TempDir()+"/state", Options{})
	defer func() { mustClose(t, tr) }()
	root = mustAppend(t, tr, 1, block(0, n))
	prove := func(n uint64) *Proof {
		p, err := tr.Prove(ctx, 1, Key(message(n)))
		if err != nil {
			t.Fatalf("prove: %v", err)
		}
		if p.Leaf != nil {
			p.Leaf.Data = message(uint64(p.Leaf.Index))
		}
		return p
	}
	return root, prove(3), prove(1 << 40)
}

// Promise 44.
func TestProofsVerify(t *testing.T) {
	for _, n := range []int{4, 5, 100, 5000} {
		root, in, out := proven(t, n)
		if present, err := Verify(root, in.Key, in); err != nil || !present {
			t.Errorf("%d leaves: inclusion: %v, %v", n, present, err)
		}
		if !pocVerify(root, in) {
			t.Errorf("%d leaves: the proof of concept's verifier refuses it", n)
		}
		if present, err := Verify(root, out.Key, out); err != nil || present {
			t.Errorf("%d leaves: absence: %v, %v", n, present, err)
		}
	}
}

// copyProof returns a deep copy.
func copyProof(p *Proof) *Proof {
	c := *p
	c.Branches = append([]Branch(nil), p.Branches...)
	if p.Leaf != nil {
		l := *p.Leaf
		l.Data = bytes.Clone(l.Data)
		c.Leaf = &l
	}
	return &c
}

// Promise 44.
func TestForgedProofsAreRefused(t *testing.T) {
	root, in, out := proven(t, 300)
	for name, p := range map[string]*Proof{"inclusion": in, "absence": out} {
		forge := func(what string, change func(p *Proof)) {
			t.Helper()
			f := copyProof(p)
			change(f)
			if present, err := Verify(root, p.Key, f); err == nil {
				t.Errorf("%s: %s: accepted, present %v", name, what, present)
			}
		}
		hashes := func(p *Proof) map[string]*[32]byte {
			h := map[string]*[32]byte{
				"key": &p.Key, "root": &p.Root.Hash, "root's left": &p.Root.Left, "root's right": &p.Root.Right,
				"leaf's key": &p.Leaf.Key, "leaf's hash": &p.Leaf.Hash,
			}
			for i := range p.Branches {
				b := &p.Branches[i]
				h["a branch's hash"+string(rune('0'+i))] = &b.Hash
				h["a branch's left"+string(rune('0'+i))] = &b.Left
				h["a branch's right"+string(rune('0'+i))] = &b.Right
			}
			return h
		}
		for what := range hashes(copyProof(p)) {
			for i := range 256 {
				forge(what, func(p *Proof) { hashes(p)[what][i/8] ^= 0x80 >> (i % 8) })
			}
			forge(what+" zeroed", func(p *Proof) { *hashes(p)[what] = [32]byte{} })
		}
		for i := range p.Leaf.Data {
			forge("data", func(p *Proof) { p.Leaf.Data[i] ^= 1 })
		}
		forge("longer data", func(p *Proof) { p.Leaf.Data = append(p.Leaf.Data, 0) })
		forge("no data", func(p *Proof) { p.Leaf.Data = nil })
		forge("no leaf", func(p *Proof) { p.Leaf = nil })
		forge("leaf's turn", func(p *Proof) { p.Leaf.IsRight = !p.Leaf.IsRight })
		forge("no branches", func(p *Proof) { p.Branches = nil })
		for i := range p.Branches {
			for bit := range 256 {
				if bit != int(p.Branches[i].Bit) {
					forge("branch's bit", func(p *Proof) { p.Branches[i].Bit = uint8(bit) })
				}
			}
			forge("branch's turn", func(p *Proof) { p.Branches[i].IsRight = !p.Branches[i].IsRight })
			forge("sides swapped", func(p *Proof) { b := &p.Branches[i]; b.Left, b.Right = b.Right, b.Left })
			forge("branch left out", func(p *Proof) { p.Branches = append(p.Branches[:i], p.Branches[i+1:]...) })
			forge("branch doubled", func(p *Proof) { p.Branches = append(p.Branches[:i+1], p.Branches[i:]...) })
		}
	}
	if _, err := Verify(root, in.Key, out); err == nil {
		t.Error("proof of absence accepted for another key")
	}
	if _, err := Verify(root, out.Key, in); err == nil {
		t.Error("proof of inclusion accepted for another key")
	}
	if _, err := Verify([32]byte{1}, in.Key, in); err == nil {
		t.Error("proof accepted for another root")
	}
	if _, err := Verify(root, in.Key, nil); err == nil {
		t.Error("no proof accepted")
	}
}

// TestPresentKeyCannotBeProvenAbsent tries what a prover who controls messages
// might: another leaf, with true data, in the place of the key's.
//
// Promise 44.
func TestPresentKeyCannotBeProvenAbsent(t *testing.T) {
	root, in, out := proven(t, 300)
	for _, leaf := range []*ProofLeaf{out.Leaf, nil, {Key: out.Key, Hash: in.Leaf.Hash, Data: in.Leaf.Data}} {
		f := copyProof(in)
		if f.Leaf = leaf; leaf != nil {
			l := *leaf
			l.IsRight = in.Leaf.IsRight
			f.Leaf = &l
		}
		if present, err := Verify(root, in.Key, f); err == nil {
			t.Errorf("accepted, present %v, leaf %+v", present, leaf)
		}
		f = copyProof(out)
		f.Key = in.Key
		if present, err := Verify(root, in.Key, f); err == nil {
			t.Errorf("accepted, present %v: another key's way", present)
		}
	}
	f := copyProof(in)
	f.Branches, f.Leaf = nil, nil
	f.Root.Left, f.Root.Right = [32]byte{}, f.Root.Left
	if _, err := Verify(root, in.Key, f); err == nil {
		t.Error("accepted an empty side of the root")
	}
}

func TestProofJSON(t *testing.T) {
	_, in, out := proven(t, 300)
	_, small, none := proven(t, 0)
	for _, p := range []*Proof{in, out, small, none} {
		p.Height = 0 // not part of either form
		if p.Leaf != nil {
			p.Leaf.Height, p.Leaf.Index = 0, 0
		}
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var got Proof
		if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(&got, p) {
			t.Errorf("%s\ndecoded to %+v, %v\nwant %+v", b, got, err, p)
		}
		b, err = json.Marshal((*PoCProof)(p))
		if err != nil {
			t.Fatal(err)
		}
		var poc PoCProof
		err = json.Unmarshal(b, &poc)
		poc.Key = p.Key // not in this form
		if err != nil || !reflect.DeepEqual(&poc, (*PoCProof)(p)) {
			t.Errorf("%s\ndecoded to %+v, %v\nwant %+v", b, poc, err, p)
		}
	}
}

// TestProofJSONOfTheProofOfConcept holds the exact bytes for a trie of
// [1,2,3,4,5] alone.
func TestProofJSONOfTheProofOfConcept(t *testing.T) {
	data := []byte{1, 2, 3, 4, 5}
	key := Key(data)
	leaf := LeafHash(key, data)
	tr := openTest(t, Options{})
	root := mustAppend(t, tr, 1, []Leaf{{Key: key, Hash: leaf}})
	p, err := tr.Prove(ctx, 1, key)
	if err != nil {
		t.Fatal(err)
	}
	p.Leaf.Data = data
	b, err := json.Marshal((*PoCProof)(p))
	if err != nil {
		t.Fatal(err)
	}
	list := func(b []byte) string {
		ints := make([]int, len(b))
		for i := range b {
			ints[i] = int(b[i])
		}
		s, err := json.Marshal(ints)
		if err != nil {
			t.Fatal(err)
		}
		return string(s)
	}
	want := `{"nodes":[[false,{"Root":{"hash":` + list(root[:]) + `,"left":` + list(leaf[:]) + `,"right":null}}],` +
		`[false,{"Leaf":{"prefix":null,"key":` + list(pocBits(key)) + `,"hash":` + list(leaf[:]) + `,"data":[1,2,3,4,5]}}]]}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}

func TestMalformedProofJSONIsRefused(t *testing.T) {
	_, in, _ := proven(t, 300)
	v1, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	poc, err := json.Marshal((*PoCProof)(in))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"kind":           {`"inclusion"`, `"absence"`},
		"unknown kind":   {`"inclusion"`, `"perhaps"`},
		"short hash":     {`"left":"`, `"left":"00`},
		"upper case":     {`"key":"`, `"key":"F`},
		"no nodes":       {`"nodes":[`, `"nodes":[],"x":[`},
		"missing bit":    {`"bit":1,`, ``},
		"negative bit":   {`"bit":1,`, `"bit":-1,`},
		"large bit":      {`"bit":1,`, `"bit":256,`},
		"data no base64": {`"data":"`, `"data":"!`},
		"line break":     {`"data":"`, `"data":"\n`},
		"data numbers":   {`"data":"`, `"data":[1],"x":"`},
		"two keys":       {`"key":"`, `"key":"` + strings.Repeat("0", 64) + `","key":"`},
		"other letters":  {`"key":"`, `"Key":"` + strings.Repeat("0", 64) + `","key":"`},
		"a root's bit":   {`"nodes":[{`, `"nodes":[{"bit":1,`},
		"too many nodes": {`"nodes":[`, `"nodes":[` + strings.Repeat(`{"left":null,"right":null},`, MaxProofNodes)},
	} {
		if !strings.Contains(string(v1), change[0]) {
			t.Fatalf("%s: nothing to change in %s", name, v1)
		}
		if err := json.Unmarshal([]byte(strings.Replace(string(v1), change[0], change[1], 1)), new(Proof)); err == nil {
			t.Errorf("/v1: %s: accepted", name)
		}
	}
	for name, change := range map[string][2]string{
		"root's dir":     {`[[false,`, `[[true,`},
		"dir no bool":    {`[[false,`, `[[0,`},
		"two kinds":      {`{"Leaf":`, `{"Root":{},"Leaf":`},
		"unknown kind":   {`{"Leaf":`, `{"Leave":`},
		"bits":           {`"prefix":null,"key":[`, `"prefix":null,"key":[2,`},
		"prefix":         {`"prefix":null`, `"prefix":[1]`},
		"branch's key":   {`{"Branch":{"key":[`, `{"Branch":{"key":[1,`},
		"number":         {`"hash":[`, `"hash":[256,`},
		"no number":      {`"hash":[`, `"hash":["a",`},
		"string":         {`"prefix":null,"key":[`, `"prefix":null,"key":"","x":[`},
		"too many nodes": {`]]}`, `]` + strings.Repeat(`,[false,{}]`, MaxProofNodes) + `]}`},
		"after the leaf": {`]]}`, `],[false,{"Root":{}}]]}`},
	} {
		if !strings.Contains(string(poc), change[0]) {
			t.Fatalf("%s: nothing to change in %s", name, poc)
		}
		if err := json.Unmarshal([]byte(strings.Replace(string(poc), change[0], change[1], 1)), new(PoCProof)); err == nil {
			t.Errorf("PoC: %s: accepted", name)
		}
	}
	long := bytes.Repeat([]byte(" "), MaxProofBytes+1)
	if new(Proof).UnmarshalJSON(long) == nil || new(PoCProof).UnmarshalJSON(long) == nil {
		t.Error("accepted more than MaxProofBytes")
	}
}

func TestOnlyNullStandsForTheZeroHash(t *testing.T) {
	empty := `{"key":"` + strings.Repeat("0", 64) + `","kind":"absence","root":null,"nodes":[{"left":null,"right":null}],"leaf":null}`
	if err := json.Unmarshal([]byte(empty), new(Proof)); err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{"root", "left", "right"} {
		zeros := strings.Replace(empty, `"`+member+`":null`, `"`+member+`":"`+strings.Repeat("0", 64)+`"`, 1)
		if err := json.Unmarshal([]byte(zeros), new(Proof)); err == nil || zeros == empty {
			t.Errorf("%s of zeros is taken", member)
		}
	}
}

// Promise 37.
func FuzzProofJSON(f *testing.F) {
	root, in, out := proven(f, 20)
	for _, p := range []*Proof{in, out} {
		for _, v := range []any{p, (*PoCProof)(p)} {
			b, err := json.Marshal(v)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Add([]byte(`{"nodes":[[false,{"Root":{"hash":null,"left":null,"right":null}}]]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Proof
		if p.UnmarshalJSON(b) == nil {
			again, err := json.Marshal(&p)
			var q Proof
			if err != nil || json.Unmarshal(again, &q) != nil || !reflect.DeepEqual(p, q) {
				t.Errorf("%q decoded to %+v, then to %+v (%v)", b, p, q, err)
			}
			checkFuzzed(t, root, &p)
		}
		var poc PoCProof
		if poc.UnmarshalJSON(b) == nil {
			again, err := json.Marshal(&poc)
			var q PoCProof
			if err != nil || json.Unmarshal(again, &q) != nil || !reflect.DeepEqual(poc, q) {
				t.Errorf("%q decoded to %+v, then to %+v (%v)", b, poc, q, err)
			}
			checkFuzzed(t, root, (*Proof)(&poc))
		}
	})
}

// checkFuzzed fails if a proof convinces of what is not so.
func checkFuzzed(t *testing.T, root [32]byte, p *Proof) {
	present, err := Verify(root, p.Key, p)
	if err != nil {
		return
	}
	want := false
	for i := range uint64(20) {
		want = want || p.Key == Key(message(i))
	}
	if present != want {
		t.Errorf("proof %+v convinces of %v, truth is %v", p, present, want)
	}
}
