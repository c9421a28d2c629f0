package gossip

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/tasks"
	"github.com/diseq/diseq/node/ledger/ledgertest"
	"github.com/diseq/diseq/node/vrf"
)

// fakeNetwork is a Network whose peers take commitments, or answer with an error.
type fakeNetwork struct {
	err   error
	peers []chain.PublicKey
	sent  chan chain.Commitment // nil: not looked at
}

func (n *fakeNetwork) Connected() []chain.PublicKey                                    { return n.peers }
func (n *fakeNetwork) Push(context.Context, chain.PublicKey, chain.Hash, []byte) error { return n.err }

func (n *fakeNetwork) Commit(_ context.Context, _ chain.PublicKey, c *chain.Commitment) error {
	if n.sent != nil {
		n.sent <- *c
	}
	return n.err
}

// A leader is blamed for a missing commitment only if it acknowledged the commitment some time ago,
// on the link that is still open.
func TestAPeerHasACommitmentFromItsAcknowledgementOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		genesis := &chain.Genesis{
			Version: 1, ChainID: "gossip", Threshold: 1, Parameters: chain.DefaultParameters(),
			Validators: []chain.NamedValidator{{Validator: chain.Validator{PublicKey: chain.PublicKey{1}}}},
		}
		network := &fakeNetwork{err: errors.New("link down")}
		c := NewCommitments(CommitmentsConfig{
			Beacon: ledgertest.Open(t, genesis).Beacon(), Network: network, Tasks: tasks.New(t.Context()),
			Name: chain.PublicKey.String, Logger: slog.New(slog.DiscardHandler),
		})
		peer, epoch := chain.PublicKey{2}, uint64(7)
		want := func(when string, age time.Duration, want bool) {
			t.Helper()
			synctest.Wait()
			if got := c.Acknowledged(peer, epoch, age); got != want {
				t.Errorf("%s: acknowledged at least %v ago: %v, want %v", when, age, got, want)
			}
		}
		c.send(peer, &chain.Commitment{Epoch: epoch})
		want("after a failed attempt", 0, false)
		network.err = nil
		c.send(peer, &chain.Commitment{Epoch: epoch})
		want("at once", 0, true)
		want("at once", time.Second, false)
		time.Sleep(time.Second)
		want("after a second", time.Second, true)
		c.send(peer, &chain.Commitment{Epoch: epoch + 3})
		want("three epochs later", 0, false)
		epoch += 3
		want("three epochs later, of the new epoch", 0, true)
		c.LinkUp(peer) // it may have restarted
		want("after the link opened again", 0, false)
	})
}

// A node makes the commitments that are due from its key, under its place in the set of the epoch
// before, also when that place has changed, and when the node has left the set.
func TestCommitmentsGoByKey(t *testing.T) {
	secret, err := vrf.NewSecretKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	validators := make([]chain.NamedValidator, 4)
	for i := range validators {
		validators[i].Name, validators[i].PublicKey, validators[i].VRFKey = fmt.Sprint(i), chain.PublicKey{byte(i + 1)}, chain.VRFKey{1, byte(i)}
	}
	self := &validators[1]
	self.VRFKey = chain.VRFKey(secret.Public())
	genesis := &chain.Genesis{Version: 1, ChainID: "gossip", Threshold: 2, Validators: validators[:3], Parameters: chain.DefaultParameters()}
	genesis.Parameters.BeaconInterval = 2
	l := ledgertest.Open(t, genesis)
	extend := func(height uint64, generation uint32, members ...chain.NamedValidator) {
		f := &chain.FinalBlock{Block: chain.Block{Header: chain.Header{Height: height}}}
		if members != nil {
			f.Change = &chain.Change{Next: chain.NextSet{Generation: generation, Threshold: 2, Validators: members}}
			f.Header.NextValidatorsHash = f.Change.Next.Set().Hash()
		}
		ledgertest.Append(t, l, f)
	}
	extend(1, 0)
	extend(2, 1, *self, validators[2]) // from height 3 on this node is number 0, no longer number 1
	extend(3, 0)
	extend(4, 0)
	extend(5, 0)
	extend(6, 2, validators[2], validators[3]) // and from height 7 on it has left
	ctx, cancel := context.WithCancel(t.Context())
	network := &fakeNetwork{peers: []chain.PublicKey{validators[2].PublicKey}, sent: make(chan chain.Commitment, 1)}
	group := tasks.New(ctx)
	c := NewCommitments(CommitmentsConfig{
		Self: self.PublicKey, Key: secret, Beacon: l.Beacon(), Network: network, Tasks: group,
		ProofSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{}), Name: chain.PublicKey.String, Logger: slog.New(slog.DiscardHandler),
	})
	group.Go(c.Run)
	c.Advance()
	sent := <-network.sent
	cancel()
	group.Wait()
	// Epochs 3 and 4 are wanted. Number 1 of {1, 2} commits for epoch 3, number 0 for epoch 4.
	if sent.Epoch != 4 || sent.Validator != 0 {
		t.Errorf("the commitment is of epoch %d by number %d, want epoch 4 by number 0", sent.Epoch, sent.Validator)
	}
	if held := l.Beacon().Commitments(); len(held) != 1 || held[0].Hash() != sent.Hash() {
		t.Errorf("held are %v, want that of epoch 4", held)
	}
}
