package gossip

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/tasks"
	"github.com/diseq/diseq/node/ledger/ledgertest"
)

// fakeNetwork is a Network without links whose peer takes commitments, or answers with an error.
type fakeNetwork struct{ err error }

func (*fakeNetwork) Connected() []chain.PublicKey                                       { return nil }
func (n *fakeNetwork) Commit(context.Context, chain.PublicKey, *chain.Commitment) error { return n.err }
func (n *fakeNetwork) Push(context.Context, chain.PublicKey, chain.Hash, []byte) error  { return n.err }

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
