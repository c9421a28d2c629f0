package voter

import (
	"bytes"
	"flag"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

var update = flag.Bool("update", false, "write testdata/failed-round.txt anew")

// text is what a log has written. Several goroutines may use it.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// A log of a failed round reads as docs/consensus.md describes one: the round times out, a
// nullification ends it, and the leader of the next round makes the block final.
func TestTheLogOfAFailedRoundReadsAsTheProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(t, 4, 3, 0)
		var out text
		r.log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
			Level: slog.LevelDebug,
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				switch a.Key {
				case slog.TimeKey, slog.LevelKey:
					return slog.Attr{}
				case "block":
					return slog.String("block", "B") // there is one
				}
				return a
			},
		}))
		r.cfg.Name = func(k chain.PublicKey) string { return r.genesis.Validators[r.set.Index(k)].Name }
		order, err := r.cfg.Ledger.Leaders(1)
		if err != nil {
			t.Fatal(err)
		}
		if order[0] == 0 || order[1] == 0 {
			t.Fatalf("the order of leaders is %v: this test plays another validator's part as the leader of rounds 0 and 1", order)
		}
		r.start(t, r.votes, 0)
		say := func(b chain.Bundle, from int) {
			r.Post(consensus.Received{From: r.set.Validators[from].PublicKey, Bundle: b, Set: r.set.Hash()})
			synctest.Wait()
		}
		vote := func(v chain.Vote, from int) chain.Vote {
			v.Height, v.Validator = 1, uint32(from)
			v.Sign(r.keys[from], r.genesis.ChainID)
			return v
		}
		await := func(line string) {
			for synctest.Wait(); !strings.Contains(out.String(), line); synctest.Wait() {
				time.Sleep(10 * time.Millisecond) // of the bubble's time
			}
		}

		// There is something to order, and the leader of round 0 is silent.
		r.submit(t, "one")
		await("round timed out")
		for _, from := range []int{order[0], order[1]} {
			say(chain.Bundle{Votes: []chain.Vote{vote(chain.Vote{Kind: chain.Nullify}, from)}}, from)
		}

		// The leader of round 1 proposes a block, and the others vote for it.
		block, err := r.newBlock(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		block.Header.Proposer = uint32(order[1])
		block.Sign(r.keys[order[1]])
		statement := vote(chain.Vote{Kind: chain.Propose, Round: 1, Block: block.Hash()}, order[1])
		say(chain.Bundle{Proposals: []*chain.Proposal{{Statement: statement, Block: *block}}}, order[1])
		for _, kind := range []chain.Kind{chain.Notarize, chain.Finalize} {
			for _, from := range []int{order[1], order[2] + order[3]} { // one of the last two is this validator, 0
				say(chain.Bundle{Votes: []chain.Vote{vote(chain.Vote{Kind: kind, Round: 1, Block: block.Hash()}, from)}}, from)
			}
		}
		await("block final")

		const golden = "testdata/failed-round.txt"
		if *update {
			if err := os.WriteFile(golden, []byte(out.String()), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if out.String() != string(want) {
			t.Errorf("the log is (go test -run %s -update writes it):\n%s\nwant:\n%s", t.Name(), out.String(), want)
		}
	})
}
