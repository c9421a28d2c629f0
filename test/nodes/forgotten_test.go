package nodes

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/diseq/diseq/node/chain"
)

// A Byzantine validator that claims a high height cannot make a validator without its vote store
// vote too soon, nor keep it from ever voting: a height that nobody can show does not count.
//
// Promise 16.
func TestAWipedValidatorTakesNoHeightThatNobodyCanShow(t *testing.T) {
	for _, says := range []uint64{math.MaxUint64, 1 << 63, 1 << 62, 1000} {
		t.Run(fmt.Sprint(says), func(t *testing.T) {
			bubble(t, *firstSeed, spec{validators: 5, threshold: 3}, func(w *world) {
				thief, v := w.nodes[3], w.nodes[4]
				g := w.invite(thief.name, thief.identity)
				g.says = &chain.Status{Height: says, Block: chain.Hash{1}}
				w.nodes = w.nodes[:3]
				w.start(append([]*member{v}, w.nodes...)...)
				for i := range 5 {
					_, err := w.nodes[0].client.SubmitWait(w.ctx, []byte{byte(i)})
					w.must(err)
				}
				w.kill(v)
				w.wipe(v, "votes.db*")
				reported := w.highest()
				w.launch(v)
				told := fmt.Sprintf("votes_from_height=%d\n", reported+3)
				w.eventually(time.Minute, "it has its answers", func() error {
					if !strings.Contains(v.log.String(), told) {
						return fmt.Errorf("its log lacks %q:\n%s", told, v.log)
					}
					return nil
				})
				if role := v.status().Role; role != "rejoining" || w.hasVotes(v) {
					w.Errorf("at height %d of %d it is %s, with a vote store: %v", v.status().Height, reported+3, role, w.hasVotes(v))
				}
			})
		})
	}
}

// An older copy of a data directory has forgotten the votes since. At a height that is still open
// it would be voted again: the first peer that it meets shows it what it had said. It stops, does
// not start again, and rejoins without its vote store.
//
// Promise 17.
func TestAnOlderCopyOfADataDirectoryIsNotVotedOn(t *testing.T) {
	bubble(t, *firstSeed, spec{validators: 4, threshold: 3, guests: 1}, func(w *world) {
		away, other, v := w.nodes[:2], w.nodes[2], w.nodes[3]
		g := w.invite("g0", w.guests[0])
		w.start(w.nodes...)
		_, err := other.client.SubmitWait(w.ctx, []byte("before the copy"))
		w.must(err)
		time.Sleep(3 * time.Second)
		v.halt()
		copied := filepath.Join(w.dir, "copy")
		w.must(os.CopyFS(copied, os.DirFS(v.config.Data)))
		w.start(v)

		// A height that two of four cannot decide, in which both vote.
		for _, m := range away {
			m.halt()
		}
		g.forget()
		ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
		defer cancel()
		_, _ = other.client.Submit(ctx, []byte("at an open height"))
		w.eventually(time.Minute, "it votes at the open height", func() error {
			if len(g.heardOf(v, chain.Nullify))+len(g.heardOf(v, chain.Notarize)) == 0 {
				return errors.New("no vote")
			}
			return nil
		})
		v.halt()
		w.must(os.RemoveAll(v.config.Data))
		w.must(os.CopyFS(v.config.Data, os.DirFS(copied)))

		v.stops = true
		for _, want := range []string{"signed with this validator's key", "remove votes.db and this validator rejoins"} {
			w.launch(v)
			select {
			case <-v.life.ended:
			case <-time.After(time.Minute):
				w.Fatal("it goes on with an older copy of its votes")
			}
			if err := v.life.err; err == nil || !strings.Contains(err.Error(), want) {
				w.Fatalf("it ended with %v, want %q", err, want)
			}
			v.life = nil
		}

		v.stops = false
		w.wipe(v, "votes.db*")
		w.launch(v)
		w.start(away...)
		w.eventually(time.Minute, "it votes again", func() error {
			_, err := other.client.SubmitWait(w.ctx, fmt.Append(nil, time.Now()))
			if role := v.status().Role; role != "validator" {
				return errors.Join(err, errors.New(role))
			}
			return err
		})
		for _, m := range w.nodes {
			if e := m.status().Evidence; e != 0 {
				w.Errorf("%s holds %d pieces of evidence", m.name, e)
			}
		}
	})
}
