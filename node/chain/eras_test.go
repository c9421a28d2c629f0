package chain

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// Promise 43.
func TestAReaderFollowsTheValidatorsThroughEveryChange(t *testing.T) {
	nets := []*network{newNetwork(t, 4, 3)}
	var changes []ValidatorSetChange
	for i, size := range []int{7, 7, 3, 5, 4} { // it grows and shrinks, and keeps its members once
		before := nets[i]
		next := before.after(t, size, uint32(size/2+1))
		changes = append(changes, before.changeTo(next, uint64(2*i+1)).entry(t))
		nets = append(nets, next)
	}
	genesis := nets[0].Genesis
	kept := genesis.Eras()
	for i, n := range nets {
		f := n.blockAt(uint64(2*i), nil) // below the change i
		if i == 0 {
			f = n.blockAt(1, nil)
		}
		r := n.receipt(t, f, 0, changes[:i]...)
		for name, trust := range map[string]Trust{"genesis": genesis, "eras that are kept": kept} {
			if err := r.Verify(trust, 0); err != nil {
				t.Errorf("receipt of generation %d with %s: %v", i, name, err)
			}
		}
		if got := kept.Checkpoint(); got.Set.Generation != uint32(i) || got.Set.Hash() != n.set.Hash() {
			t.Errorf("generation %d: the newest set known has generation %d", i, got.Set.Generation)
		}
		if i == 0 {
			continue
		}
		// Without the last change, and with one left out between.
		if err := n.receipt(t, f, 0, changes[:i-1]...).Verify(genesis, 0); err == nil {
			t.Errorf("generation %d: verifies without the change that leads to its set", i)
		}
		if i > 1 {
			if err := n.receipt(t, f, 0, changes[1:i]...).Verify(genesis, 0); err == nil || !strings.Contains(err.Error(), "the changes between are missing") {
				t.Errorf("generation %d: without the first change: %v", i, err)
			}
		}
		// A checkpoint of each generation below stands for the changes up to it.
		for g := 1; g <= i; g++ {
			from := genesis.Eras()
			if err := from.Follow(changes[:g]...); err != nil {
				t.Fatal(err)
			}
			checkpoint := from.Checkpoint()
			for name, list := range map[string][]ValidatorSetChange{"the changes above it": changes[g:i], "all changes": changes[:i]} {
				if err := n.receipt(t, f, 0, list...).Verify(checkpoint, 0); err != nil {
					t.Errorf("receipt of generation %d with a checkpoint of generation %d and %s: %v", i, g, name, err)
				}
			}
		}
	}
	if _, err := kept.SetAt(9); err != nil {
		t.Error(err)
	}
	old, err := kept.SetAt(1)
	if err != nil || old.Generation != 0 {
		t.Errorf("the set of height 1 is %+v, %v", old, err)
	}
	_, err = kept.Checkpoint().Eras().SetAt(9)
	if !errors.Is(err, ErrBelowTrust) {
		t.Errorf("the set of the checkpoint's own height: %v, want ErrBelowTrust", err)
	}
}

// Promise 43.
func TestAChangeIsBelievedOnlyWithTheVotesOfTheSetBefore(t *testing.T) {
	n := newNetwork(t, 4, 3)
	larger := n.after(t, 7, 5)
	first := n.changeTo(larger, 3)
	again := larger.changeTo(larger.after(t, 7, 4), 5)
	entry := func(f *FinalBlock, alter func(*ValidatorSetChange)) ValidatorSetChange {
		e := f.entry(t)
		if alter != nil {
			alter(&e)
		}
		return e
	}
	signed := func(alter func(*FinalBlock)) ValidatorSetChange {
		f := n.changeTo(larger, 3)
		alter(f)
		f.Certificate = n.certificate(Finalize, f.Header.Height, 0, f.Hash(), 0, 1, 2)
		return ValidatorSetChange{Header: f.Header, Certificate: ReceiptCertificate{f.Certificate, 3}, Next: *larger.set}
	}
	good, checkpointed := entry(first, nil), n.Genesis.Eras()
	if err := checkpointed.Follow(good); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		trust      Trust
		changes    []ValidatorSetChange
	}{
		{"two votes of four", "2 votes, the threshold is 3", n, []ValidatorSetChange{entry(first, func(c *ValidatorSetChange) {
			c.Certificate.Certificate, c.Certificate.Strength = n.certificate(Finalize, 3, 0, first.Hash(), 0, 1), 2
		})}},
		{"votes of the new set", "signature", n, []ValidatorSetChange{entry(first, func(c *ValidatorSetChange) {
			stranger := newNetwork(t, 7, 5)
			stranger.keys = stranger.keys[3:] // of others
			c.Certificate.Certificate = stranger.certificate(Finalize, 3, 0, first.Hash(), 0, 1, 2)
		})}},
		{"a notarization", "want finalize", n, []ValidatorSetChange{entry(first, func(c *ValidatorSetChange) {
			c.Certificate.Certificate = n.certificate(Notarize, 3, 0, first.Hash(), 0, 1, 2)
		})}},
		{"another threshold", "the header names", n, []ValidatorSetChange{entry(first, func(c *ValidatorSetChange) { c.Next.Threshold = 4 })}},
		{"generation 0", "generation 0", n, []ValidatorSetChange{entry(first, func(c *ValidatorSetChange) { c.Next.Generation = 0 })}},
		{"another generation", "changes between are missing", n, []ValidatorSetChange{entry(first, func(c *ValidatorSetChange) { c.Next.Generation = 2 })}},
		{"a header without a change, signed", "carries no change", n, []ValidatorSetChange{signed(func(f *FinalBlock) { f.Header.ChangeHash = Hash{} })}},
		{"of another chain, signed", `of chain "other"`, n, []ValidatorSetChange{signed(func(f *FinalBlock) { f.Header.ChainID = "other" })}},
		{"of another protocol version, signed", "protocol version 1", n, []ValidatorSetChange{signed(func(f *FinalBlock) { f.Header.ProtocolVersion = 1 })}},
		{"of a set that is not in force, signed", "validator set", n, []ValidatorSetChange{signed(func(f *FinalBlock) { f.Header.ValidatorsHash = Hash{1} })}},
		{"twice", "at height 3, want above 3", n, []ValidatorSetChange{good, good}},
		{"out of order", "changes between are missing", n, []ValidatorSetChange{entry(again, nil), good}},
		{"a change of the set before the checkpoint's, at its generation", "the checkpoint is of generation 1", checkpointed.Checkpoint(),
			[]ValidatorSetChange{n.changeTo(larger, 2).entry(t)}},
		{"another change of the checkpoint's generation above it", "the checkpoint is of generation 1", checkpointed.Checkpoint(),
			[]ValidatorSetChange{n.changeTo(larger, 4).entry(t)}},
		{"two final blocks with a change to one generation", "forked", checkpointed, []ValidatorSetChange{n.changeTo(larger, 4).entry(t)}},
		{"a change at a height of the era before, signed by the newer set", "decides the heights above 3", checkpointed,
			[]ValidatorSetChange{larger.changeTo(larger.after(t, 7, 4), 2).entry(t)}},
	} {
		if err := c.trust.Eras().Follow(c.changes...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
	}
	if now := checkpointed.Checkpoint(); now.Set.Generation != 1 || now.Hash != first.Hash() {
		t.Errorf("refused changes left generation %d", now.Set.Generation)
	}
	// Delta is the chain's for ever.
	waiting := n.after(t, 7, 5)
	waiting.SynchronyDeltaMS, waiting.set.SynchronyDeltaMS = 100, 100
	if err := n.Genesis.Eras().Follow(n.changeTo(waiting, 1).entry(t)); err == nil || !strings.Contains(err.Error(), "synchrony_delta_ms 100") {
		t.Errorf("another Delta: %v", err)
	}
	// More votes for the header that is known are no fork.
	more := entry(first, func(c *ValidatorSetChange) {
		c.Certificate = ReceiptCertificate{n.certificate(Finalize, 3, 0, first.Hash(), 0, 1, 2, 3), 4}
	})
	if err := checkpointed.Follow(more); err != nil {
		t.Error(err)
	}
	more.Certificate.Votes[3].Signature[0]++
	if err := checkpointed.Follow(more); !errors.Is(err, ErrSignature) {
		t.Errorf("a forged vote beside those that suffice, for a change that is known: %v", err)
	}
}

// The names are bound by the header, and the endorsements too, although they prove nothing to a
// reader.
//
// Promise 43.
func TestNamesOfAChangeAreBoundByItsHeader(t *testing.T) {
	n := newNetwork(t, 4, 3)
	f := n.changeTo(n.after(t, 7, 5), 1)
	if _, err := f.final(t).Entry(); err != nil {
		t.Fatal(err)
	}
	for name, alter := range map[string]func(*FinalChange){
		"names swapped": func(c *FinalChange) {
			v := c.Next.Validators
			v[0].Name, v[1].Name = v[1].Name, v[0].Name
		},
		"another name":                func(c *FinalChange) { c.Next.Validators[6].Name = "x" },
		"an endorsement less":         func(c *FinalChange) { c.Endorsements = c.Endorsements[:2] },
		"another generation":          func(c *FinalChange) { c.Next.Generation++ },
		"validators in another order": func(c *FinalChange) { v := c.Next.Validators; v[0], v[1] = v[1], v[0] },
	} {
		c := n.changeTo(n.after(t, 7, 5), 1).final(t)
		alter(c)
		if _, err := c.Entry(); err == nil || !strings.Contains(err.Error(), "its header at height 1 names") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewFinalChange(&n.finalBlock(1).Block, &f.Certificate); err == nil {
		t.Error("a block without a change is taken for one")
	}
}

// TestReceiptsGrowByTheChangesAlone measures what a change adds to a receipt in JSON beyond header,
// certificate and set themselves.
//
// Promise 43.
func TestReceiptsGrowByTheChangesAlone(t *testing.T) {
	size := func(v any) int {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return len(b)
	}
	n, changes := newNetwork(t, 4, 3), []ValidatorSetChange(nil)
	genesis, eras := n.Genesis, n.Genesis.Eras()
	last := 0
	for i := range 20 {
		height := uint64(i + 1)
		r := n.receipt(t, n.blockAt(height, nil), 0, changes...)
		if err := r.Verify(genesis, 0); err != nil {
			t.Fatal(err)
		}
		now := size(r)
		if i > 0 {
			c := &changes[i-1]
			own := size(c.Header) + size(c.Certificate) + size(c.Next)
			if grown := now - last; grown > own+200 {
				t.Fatalf("change %d adds %d bytes to a receipt, %d more than its own size", i, grown, grown-own)
			}
		}
		last = now
		short := n.receipt(t, n.blockAt(height, nil), 0)
		if err := short.Verify(eras.Checkpoint(), 0); err != nil {
			t.Fatal(err)
		}
		if first := size(n.receipt(t, n.blockAt(height, nil), 0)); size(short) != first {
			t.Errorf("from a checkpoint of generation %d a receipt has %d bytes, want %d", i, size(short), first)
		}
		next := n.after(t, 4, 3)
		changes = append(changes, n.changeTo(next, height).entry(t))
		if err := eras.Follow(changes...); err != nil {
			t.Fatal(err)
		}
		n = next
	}
}

func TestCheckpointsNameWhatIsWrong(t *testing.T) {
	n := newNetwork(t, 4, 3)
	eras := n.Genesis.Eras()
	header := n.Genesis.Header()
	if c := eras.Checkpoint(); c.Height != 0 || c.Hash != header.Hash() || c.Validate() != nil {
		t.Errorf("the checkpoint of genesis is %+v: %v", c, c.Validate())
	}
	if err := eras.Follow(n.changeTo(n.after(t, 7, 5), 9).entry(t)); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(eras.Checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	read, err := ReadCheckpoint(bytes.NewReader(text))
	if err != nil || !reflect.DeepEqual(read, eras.Checkpoint()) {
		t.Fatalf("read back %+v, %v", read, err)
	}
	for want, alter := range map[string]func(*ReaderCheckpoint){
		"version 2":                   func(c *ReaderCheckpoint) { c.Version = 2 },
		`chain_id "X"`:                func(c *ReaderCheckpoint) { c.ChainID = "X" },
		"hash is zero":                func(c *ReaderCheckpoint) { c.Hash = Hash{} },
		"generation 1 at height 0":    func(c *ReaderCheckpoint) { c.Height = 0 },
		"generation 0 at height 9":    func(c *ReaderCheckpoint) { c.Set.Generation = 0 },
		"threshold 8":                 func(c *ReaderCheckpoint) { c.Set.Threshold = 8 },
		"share the key":               func(c *ReaderCheckpoint) { c.Set.Validators[1] = c.Set.Validators[0] },
		"height is 9007199254740992,": func(c *ReaderCheckpoint) { c.Height = MaxNumber + 1 },
	} {
		c := eras.Checkpoint()
		c.Set.Validators = append([]Validator{}, c.Set.Validators...)
		alter(c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	for _, bad := range []string{"", "null", "{}", string(text) + "{}", strings.Replace(string(text), `"set"`, `"Set"`, 1), strings.Replace(string(text), `{`, `{"note":1,`, 1)} {
		if _, err := ReadCheckpoint(strings.NewReader(bad)); err == nil {
			t.Errorf("%.60q is accepted", bad)
		}
	}
}
