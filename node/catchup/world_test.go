package catchup

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/tasks"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/ledger/ledgertest"
	"github.com/diseq/diseq/node/verify"
)

// history is a chain with changes of the set, and the keys of all its validators. A validator is a
// letter; all of a set sign everything.
type history struct {
	genesis *chain.Genesis
	keys    map[chain.PublicKey]ed25519.PrivateKey
	// blocks has the final block of each height, sets the set of the height above it.
	blocks []*chain.FinalBlock
	sets   []*chain.NextSet
}

func key(letter rune) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(letter), ed25519.SeedSize)))
}

func public(letter rune) chain.PublicKey { return chain.PublicKeyOf(key(letter)) }

func (h *history) named(letters string) (out []chain.NamedValidator) {
	for _, l := range letters {
		h.keys[public(l)] = key(l)
		out = append(out, chain.NamedValidator{Name: string(l), Validator: chain.Validator{PublicKey: public(l), VRFKey: chain.VRFKey{31: byte(l)}}})
	}
	return out
}

func majority(letters string) uint32 { return uint32(len(letters)/2 + 1) }

// newHistory begins a chain with these validators. Their threshold is a majority.
func newHistory(letters string) *history {
	h := &history{keys: map[chain.PublicKey]ed25519.PrivateKey{}}
	h.genesis = &chain.Genesis{
		Version: 1, ChainID: "catchup", Threshold: majority(letters), Parameters: chain.DefaultParameters(), Validators: h.named(letters),
	}
	h.blocks = []*chain.FinalBlock{{Block: chain.Block{Header: h.genesis.Header()}}}
	h.sets = []*chain.NextSet{h.genesis.First()}
	return h
}

// grow appends blocks without a change.
func (h *history) grow(n int) {
	for range n {
		h.add(h.block(nil))
	}
}

// change appends a block after which these validators decide.
func (h *history) change(letters string) { h.add(h.block(h.next(letters))) }

// next returns a change to these validators.
func (h *history) next(letters string) *chain.Change {
	now := h.sets[len(h.sets)-1]
	c := &chain.Change{Next: chain.NextSet{Generation: now.Generation + 1, Threshold: majority(letters), Validators: h.named(letters)}}
	for i, v := range now.Validators {
		e := chain.Endorse(h.keys[v.PublicKey], h.genesis.ChainID, &c.Next)
		c.Endorsements = append(c.Endorsements, chain.Endorsement{Validator: uint32(i), Signature: e.Signature})
	}
	return c
}

// block returns a final block on the last one.
func (h *history) block(c *chain.Change) *chain.FinalBlock {
	set := h.sets[len(h.sets)-1].Set()
	f := &chain.FinalBlock{Block: chain.Block{Change: c, Header: chain.Header{
		ProtocolVersion: chain.ProtocolVersion, ChainID: h.genesis.ChainID, Height: uint64(len(h.blocks)),
		ParentHash: h.blocks[len(h.blocks)-1].Hash(), MessagesRoot: chain.EmptyMessagesRoot(),
		ValidatorsHash: set.Hash(), NextValidatorsHash: set.Hash(),
	}}}
	if c != nil {
		f.Header.ChangeHash, f.Header.NextValidatorsHash = c.Hash(), c.Next.Set().Hash()
	}
	h.sign(f)
	return f
}

// sign has all of the open set sign a block.
func (h *history) sign(f *chain.FinalBlock) {
	set := h.sets[len(h.sets)-1]
	f.Sign(h.keys[set.Validators[f.Header.Proposer].PublicKey])
	f.Certificate = chain.Certificate{Kind: chain.Finalize, Height: f.Header.Height, Block: f.Hash()}
	for i, v := range set.Validators {
		vote := chain.Vote{Kind: chain.Finalize, Height: f.Header.Height, Block: f.Hash(), Validator: uint32(i)}
		vote.Sign(h.keys[v.PublicKey], h.genesis.ChainID)
		f.Certificate.Votes = append(f.Certificate.Votes, chain.VoteSignature{Validator: uint32(i), Signature: vote.Signature})
	}
}

func (h *history) add(f *chain.FinalBlock) {
	next := h.sets[len(h.sets)-1]
	if f.Change != nil {
		next = &f.Change.Next
	}
	h.blocks, h.sets = append(h.blocks, f), append(h.sets, next)
}

// archive are peers that serve blocks, and say how far they are.
type archive struct {
	blocks []*chain.FinalBlock

	mu        sync.Mutex // of the fields below, once the node runs
	connected []chain.PublicKey
	// heights are what peers answer; the last of blocks for the others. asked counts the requests.
	heights map[chain.PublicKey]uint64
	asked   map[chain.PublicKey]int
}

func (a *archive) Connected() []chain.PublicKey {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.connected)
}

// connect opens a link to a peer.
func (a *archive) connect(peer chain.PublicKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.connected = append(a.connected, peer)
}

// requests returns how often a peer was asked for its height.
func (a *archive) requests(peer chain.PublicKey) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[peer]
}

func (a *archive) Status(_ context.Context, from chain.PublicKey, nonce chain.Hash) (*chain.Status, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked != nil {
		a.asked[from]++
	}
	height, ok := a.heights[from]
	if !ok && len(a.blocks) > 0 {
		height = a.blocks[len(a.blocks)-1].Header.Height
	}
	return &chain.Status{Nonce: nonce, Height: height, Validator: from}, nil
}

func (a *archive) Blocks(_ context.Context, _ chain.PublicKey, first uint64, count int, yield func(*chain.FinalBlock) error) error {
	for _, f := range a.blocks {
		if f.Header.Height < first || count == 0 {
			continue
		}
		count--
		if err := yield(f); err != nil {
			return err
		}
	}
	return nil
}

// node is a Catchup with a ledger and a voter that appends what is handed over.
type node struct {
	*Catchup
	ledger         *ledger.Ledger
	contradictions chan error
	log            *strings.Builder
}

// start runs a node of a chain, from genesis, for the time of a test. The ledger takes what is
// handed over only if follows is set.
func start(t *testing.T, h *history, network Network, follows bool, configure ...func(*Config)) *node {
	t.Helper()
	n := &node{ledger: ledgertest.Open(t, h.genesis), contradictions: make(chan error, 1), log: new(strings.Builder)}
	finals := make(chan *chain.FinalBlock)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	cfg := Config{
		Self: public('z'), Ledger: n.ledger, Verifier: verify.New(h.genesis.ChainID, n.ledger.Height, n.ledger.Sets().At), Network: network,
		WaitState: func(context.Context, uint64) error { return nil }, Finals: finals, Contradictions: n.contradictions,
		Tasks: tasks.New(ctx), Fetched: prometheus.NewCounter(prometheus.CounterOpts{}),
		Faults: prometheus.NewCounterVec(prometheus.CounterOpts{}, []string{"reason"}),
		Name:   func(k chain.PublicKey) string { return fmt.Sprintf("%.4x", k[:]) },
		Logger: slog.New(slog.NewTextHandler(n.log, nil)),
	}
	for _, c := range configure {
		c(&cfg)
	}
	n.Catchup = New(cfg)
	if !follows {
		return n
	}
	go n.Run(ctx)
	go func() {
		for {
			select {
			case f := <-finals:
				if f.Header.Height == n.ledger.Height()+1 {
					ledgertest.Append(t, n.ledger, f)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return n
}

// reach makes the blocks up to a height final at once.
func (n *node) reach(t *testing.T, h *history, height uint64) {
	t.Helper()
	for n.ledger.Height() < height {
		ledgertest.Append(t, n.ledger, h.blocks[n.ledger.Height()+1])
	}
}
