package nodes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/store"
)

// A validator whose vote store is gone, alone or with all else, is Rejoining: it needs the word of
// t others, casts no vote below the third height above what they report, and votes from there on.
//
// Promise 16.
func TestAWipedValidatorVotesAgainOnlyAboveWhatTheOthersReport(t *testing.T) {
	unlessShort(t)
	for _, c := range []struct {
		name  string
		files string
	}{{"the vote store is gone", "votes.db*"}, {"the volume is gone", "*"}} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, *firstSeed, spec{validators: 4, threshold: 3, guests: 1}, func(w *world) { rejoins(w, c.files) })
		})
	}
}

func rejoins(w *world, wiped string) {
	all, others, v := w.nodes, w.nodes[:3], w.nodes[3]
	g := w.invite("g0", w.guests[0])
	w.start(all...)
	// Only the others take messages: the wiped one is to come back to an idle network, and would
	// have messages of its own to order.
	w.nodes = others
	l := w.newLoad(100 * time.Millisecond)
	time.Sleep(2 * time.Second)
	w.kill(v)
	killed := w.highest()
	w.wipe(v, wiped)
	time.Sleep(time.Second)
	reported := w.idle(l)
	w.kill(others[0])
	g.forget()

	// Three have to answer: two do.
	w.launch(v)
	time.Sleep(20 * time.Second)
	if w.hasVotes(v) {
		w.Error("the validator has a vote store again with the word of two others")
	}
	w.start(others[0])
	told := fmt.Sprintf("votes_from_height=%d\n", reported+3)
	w.eventually(time.Minute, "the validator has its answers", func() error {
		if !strings.Contains(v.log.String(), told) {
			return fmt.Errorf("it is %s, its log lacks %q", v.status().Role, told)
		}
		return nil
	})
	if now := w.highest(); now != reported || v.status().Role != "rejoining" || w.hasVotes(v) {
		w.Errorf("height %d after %d while nobody said anything; the validator is %s, with a vote store: %v",
			now, reported, v.status().Role, w.hasVotes(v))
	}

	w.nodes = all
	l = w.goOn(l, 100*time.Millisecond)
	w.eventually(time.Minute, "the validator votes again", func() error {
		if s := v.status(); s.Role != "validator" || len(g.heardOf(v, chain.Finalize)) < 10 {
			return fmt.Errorf("it is %s at height %d, %d votes were heard", s.Role, s.Height, len(g.heardOf(v, chain.Finalize)))
		}
		return nil
	})
	first := reported + 3
	for _, kind := range []chain.Kind{chain.Notarize, chain.Nullify, chain.Finalize, chain.Propose} {
		for _, vote := range g.heardOf(v, kind) {
			if vote.Height < first {
				w.Errorf("%v vote at height %d: the others reported height %d, so it may vote from %d", kind, vote.Height, reported, first)
			}
		}
	}
	height := w.audit(l)
	w.count(l, height)
	for h := killed + 2; h < first; h++ {
		b, _ := w.history.Block(h)
		for _, s := range b.Certificate.Votes {
			if int(s.Validator) == v.index {
				w.Errorf("the certificate of height %d has its signature: it was killed at height %d and may vote from %d", h, killed, first)
			}
		}
	}
}

// idle ends a load, waits until there is nothing left to do, and returns the height of that.
func (w *world) idle(l *load) uint64 {
	w.Helper()
	height := w.settle(l)
	w.eventually(time.Minute, "the network is idle", func() error {
		before := height
		time.Sleep(3 * time.Second)
		if height = w.highest(); height != before {
			return fmt.Errorf("height %d after %d", height, before)
		}
		return nil
	})
	return height
}

// hasVotes reports whether a member has a vote store.
func (w *world) hasVotes(m *member) bool {
	w.Helper()
	has, err := store.VotesExist(m.config.Data)
	w.must(err)
	return has
}

// highest returns the highest final height of the nodes that are up.
func (w *world) highest() uint64 {
	w.Helper()
	height := uint64(0)
	for _, m := range w.nodes {
		if m.life != nil {
			height = max(height, m.status().Height)
		}
	}
	return height
}

// wipe removes files of a member that is down.
func (w *world) wipe(m *member, pattern string) {
	w.Helper()
	files, err := filepath.Glob(filepath.Join(m.config.Data, pattern))
	w.must(err)
	if len(files) == 0 {
		w.Fatalf("%s has no %s", m.config.Data, pattern)
	}
	for _, f := range files {
		w.must(os.RemoveAll(f))
	}
	w.note("wiped %s of %s", pattern, m.name)
}
