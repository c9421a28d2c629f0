package nodes

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/peer"
)

// guest is a peer that the test plays, with a key of its own or a validator's: it hears what every
// node says, and says what the test wants. It takes no batch and no commitment, so that nobody
// counts on it.
type guest struct {
	*peer.Transport

	// says is what it answers to the question for its final height.
	says *chain.Status
	// shows are the final blocks that it gives to who catches up. With late set it gives those that
	// another node has, each after that time.
	shows map[uint64]*chain.FinalBlock
	late  time.Duration
	// asked counts the blocks that it was asked for.
	asked atomic.Int64
	id    *identity.Identity
	of    *chain.Genesis

	mu    sync.Mutex
	votes []heard
	// wrong are the blocks that it gives in turn to a peer that fetches a block; given counts them.
	wrong []*chain.Block
	given int
}

// heard is a vote as it came from a peer, not inside a certificate.
type heard struct {
	from chain.PublicKey
	at   time.Time
	chain.Vote
}

// invite brings a guest onto the wire.
func (w *world) invite(name string, id *identity.Identity) *guest {
	w.Helper()
	g := &guest{id: id, of: w.genesis}
	m := &machine{network: w.wire, host: name}
	var err error
	g.Transport, err = peer.New(peer.Config{Key: id.Signing, Genesis: w.genesis, Name: name, Version: "test", Dial: m.Dial}, g)
	w.must(err)
	l, err := m.Listen(w.ctx, "tcp", name+":2")
	w.must(err)
	g.Start(l, w.peers())
	w.leave = append(w.leave, g.Close)
	return g
}

// heardOf returns the votes that a validator itself sent, of one kind.
func (g *guest) heardOf(by *member, kind chain.Kind) []heard {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []heard
	for _, v := range g.votes {
		if v.from == by.key() && int(v.Validator) == by.index && v.Kind == kind {
			out = append(out, v)
		}
	}
	return out
}

func (g *guest) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.votes = nil
}

func (g *guest) OnBundle(_ context.Context, from chain.PublicKey, b *chain.Bundle) (useless int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, v := range b.Votes {
		g.votes = append(g.votes, heard{from: from, at: time.Now(), Vote: v})
	}
	return 0, nil
}

var errGuest = errors.New("a guest takes nothing")

func (g *guest) OnPong(chain.PublicKey, uint64, uint64) {}
func (g *guest) OnAsk(chain.PublicKey)                  {}
func (g *guest) OnCommitment(context.Context, chain.PublicKey, *chain.Commitment) error {
	return errGuest
}
func (g *guest) OnEndorsed(chain.PublicKey, *chain.Endorsed) error      { return nil }
func (g *guest) OnBatch(context.Context, chain.PublicKey, []byte) error { return errGuest }
func (g *guest) OnAck(chain.PublicKey, chain.Hash, error)               {}
func (g *guest) LinkUp(chain.PublicKey)                                 {}
func (g *guest) LinkDown(chain.PublicKey)                               {}
func (g *guest) Batch(context.Context, chain.Hash) ([]byte, error)      { return nil, peer.ErrNotHeld }
func (g *guest) FinalBlock(ctx context.Context, height uint64) ([]byte, error) {
	g.asked.Add(1)
	if g.late > 0 {
		return g.passOn(ctx, height)
	}
	if f := g.shows[height]; f != nil {
		return f.Encode(), nil
	}
	return nil, peer.ErrNotHeld
}

// passOn returns the block of another node, late.
func (g *guest) passOn(ctx context.Context, height uint64) (encoded []byte, err error) {
	select {
	case <-time.After(g.late):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for _, from := range g.Connected() {
		err = g.Blocks(ctx, from, height, 1, func(f *chain.FinalBlock) error {
			encoded = f.Encode()
			return nil
		})
		if err == nil && encoded != nil {
			return encoded, nil
		}
	}
	return nil, errors.Join(peer.ErrNotHeld, err)
}

func (g *guest) Block(_ context.Context, hash chain.Hash) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.wrong) == 0 || g.wrong[0].Hash() != hash {
		return nil, peer.ErrNotHeld
	}
	b := g.wrong[g.given%len(g.wrong)]
	g.given++
	return b.Encode(), nil
}

// lies makes the guest serve these blocks of one header.
func (g *guest) lies(blocks ...*chain.Block) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wrong = blocks
}
func (g *guest) Status(_ context.Context, nonce chain.Hash) (*chain.Status, error) {
	if g.says == nil {
		return nil, errGuest
	}
	s := *g.says
	s.Nonce = nonce
	s.Sign(g.id.Signing, g.of.ChainID)
	return &s, nil
}
