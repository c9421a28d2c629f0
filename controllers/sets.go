package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/controllers/membership"
	"github.com/diseq/diseq/controllers/nodeclient"
	"github.com/diseq/diseq/controllers/resources"
	"github.com/diseq/diseq/node/chain"
)

// history is the validator sets of one chain. The operator verifies each by the votes of the set
// before, from the genesis document on. So no node's word makes it delete a StatefulSet, or call a
// key spent.
type history struct {
	genesis chain.Hash
	// document is the genesis document itself.
	document *chain.Genesis
	chainID  string
	// eras begin with the set of the genesis document; the last one is in force.
	eras       []era
	identities *chain.Identities
	// answered says that a node of the chain has answered.
	answered bool
}

// era is a set, and the header of the block that brought it: its height and hash.
type era struct {
	set    *chain.NextSet
	height uint64
	hash   chain.Hash
}

func newHistory(g *chain.Genesis) *history {
	first := g.First()
	return &history{genesis: g.Hash(), document: g, chainID: g.ChainID, eras: []era{{set: first}}, identities: chain.NewIdentities(first)}
}

// membership is the set of the era as planners see it.
func (e era) membership() membership.Set {
	return membership.Set{
		Generation: e.set.Generation, Height: e.height, Hash: e.hash, Threshold: int(e.set.Threshold), Validators: e.set.Validators,
		Delta: time.Duration(e.set.SynchronyDeltaMS) * time.Millisecond,
	}
}

// newest is the era in force.
func (h *history) newest() era { return h.eras[len(h.eras)-1] }

// changesSince names the validators that joined and left since the set of a generation, as the end
// of a sentence; empty if that set is not known.
func (h *history) changesSince(generation int64) string {
	if h == nil {
		return ""
	}
	i := slices.IndexFunc(h.eras, func(e era) bool { return int64(e.set.Generation) == generation })
	if i < 0 {
		return ""
	}
	before, now := h.eras[i].set, h.newest().set
	text := ""
	if joined := missing(now, before); len(joined) > 0 {
		text += "; joined: " + strings.Join(joined, ", ")
	}
	if left := missing(before, now); len(left) > 0 {
		text += "; left: " + strings.Join(left, ", ")
	}
	return text
}

// missing are the names of the validators of a set that are not in another one.
func missing(of, in *chain.NextSet) (names []string) {
	for _, v := range of.Validators {
		if !slices.ContainsFunc(in.Validators, func(w chain.NamedValidator) bool { return w.PublicKey == v.PublicKey }) {
			names = append(names, v.Name)
		}
	}
	return names
}

// reaches says whether the history has the block of a checkpoint.
func (h *history) reaches(c *chain.Checkpoint) bool {
	return c == nil || slices.ContainsFunc(h.eras, func(e era) bool { return e.height == c.Height && e.hash == c.Hash })
}

// known says whether a key is, or was, that of a member.
func (h *history) known(key chain.PublicKey) bool {
	return slices.ContainsFunc(h.eras, func(e era) bool {
		return slices.ContainsFunc(e.set.Validators, func(v chain.NamedValidator) bool { return v.PublicKey == key })
	})
}

// extend verifies a change and adds its set. Members that have left could sign another history with
// their old keys; the checkpoint excludes it.
func (h *history) extend(c *nodeclient.Change, checkpoint *chain.Checkpoint) error {
	last := h.newest()
	set, next := last.set.Set(), &c.Next
	change := chain.Change{Next: c.Next, Endorsements: c.Endorsements}
	at, hash := c.Header.Height, c.Header.Hash()
	here := chain.Checkpoint{Height: at, Hash: hash}
	switch {
	case at <= last.height:
		return fmt.Errorf("the change is in block %d, and the one before in block %d", at, last.height)
	case checkpoint != nil && last.height < checkpoint.Height && at >= checkpoint.Height && *checkpoint != here:
		return fmt.Errorf("the change is in block %d, %v: it leads past the checkpoint, block %d, %v",
			at, hash, checkpoint.Height, checkpoint.Hash)
	case change.Hash() != c.Header.ChangeHash, next.Set().Hash() != c.Header.NextValidatorsHash:
		return fmt.Errorf("the header of block %d names another change", at)
	}
	if err := c.Certificate.VerifyFinal(&c.Header, h.chainID, set, 0); err != nil {
		return fmt.Errorf("block %d: %w", at, err)
	}
	if err := change.Verify(h.chainID, set); err != nil {
		return fmt.Errorf("block %d: %w", at, err)
	}
	if err := h.identities.Check(last.set, next); err != nil {
		return fmt.Errorf("block %d: %w", at, err)
	}
	h.identities.Add(next)
	h.eras = append(h.eras, era{set: next, height: at, hash: hash})
	return nil
}

// histories are those of all networks. They are lost with the operator: the next one verifies them
// again.
type histories struct {
	mu sync.Mutex
	by map[types.NamespacedName]*history
}

// of returns the history of a network, which is reconciled once at a time.
func (h *histories) of(network types.NamespacedName, g *chain.Genesis) *history {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil {
		h.by = map[types.NamespacedName]*history{}
	}
	if known := h.by[network]; known == nil || known.genesis != g.Hash() {
		h.by[network] = newHistory(g)
	}
	return h.by[network]
}

// genesis is the genesis document of a network, if it has that hash; else nil.
func (h *histories) genesis(network types.NamespacedName, hash string) *chain.Genesis {
	h.mu.Lock()
	defer h.mu.Unlock()
	if known := h.by[network]; known != nil && known.genesis.String() == hash {
		return known.document
	}
	return nil
}

// drop removes the history of a deleted network.
func (h *histories) drop(network types.NamespacedName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.by, network)
}

// checkpoint is the last change that the operator has verified before: by the status, or by the
// peers file, if that is newer.
func (p *pass) checkpoint() *chain.Checkpoint {
	recorded := recordedCheckpoint(p.network.Status)
	if p.peers != nil && p.peers.Checkpoint != nil && (recorded == nil || recorded.Height < p.peers.Checkpoint.Height) {
		return p.peers.Checkpoint
	}
	return recorded
}

func recordedCheckpoint(s v1alpha1.DiseqNetworkStatus) *chain.Checkpoint {
	if s.Checkpoint == nil || s.Checkpoint.Height < 0 {
		return nil
	}
	c := &chain.Checkpoint{Height: uint64(s.Checkpoint.Height)}
	if err := c.Hash.UnmarshalText([]byte(s.Checkpoint.Hash)); err != nil {
		return nil
	}
	return c
}

// followChanges asks nodes that know a newer set for the changes that lead to it. If there are any,
// the observation was made with an older set, and the next reconcile begins with the new one.
func (p *pass) followChanges(ctx context.Context) error {
	if p.sets == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	began := p.sets.newest().set.Generation
	var problems []error
	for _, m := range p.members {
		if m.answer.Status == nil {
			continue
		}
		p.sets.answered = true
		for m.answer.Status.Generation > p.sets.newest().set.Generation {
			if err := p.followNode(ctx, m); err != nil {
				problems = append(problems, fmt.Errorf("changes of the set by %s: %w", m.name, err))
				break
			}
		}
	}
	if p.sets.newest().set.Generation > began {
		return fmt.Errorf("%w: the chain has a newer validator set", errLater)
	}
	if known := p.setKnown(); known != p.known {
		return fmt.Errorf("%w: a node of the chain has answered", errLater)
	}
	if err := errors.Join(problems...); err != nil {
		p.remark("newer set", "a node knows a newer validator set and cannot show how it came about", "err", err.Error())
	}
	return nil
}

// followNode takes one page of changes from a node.
func (p *pass) followNode(ctx context.Context, m *member) error {
	changes, err := p.r.nodes.Changes(ctx, p.node(m), p.sets.newest().set.Generation+1)
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		return errors.New("it knows a newer set and does not say how it came about")
	}
	for i := range changes {
		if err := p.sets.extend(&changes[i], p.checkpoint()); err != nil {
			return err
		}
	}
	return nil
}

// setKnown says whether the newest verified set is the one in force, as far as the operator can
// know. It is not if an earlier look verified a newer one. Nor is it for a chain that an earlier
// network left behind, before a node of it has answered.
func (p *pass) setKnown() bool {
	if p.sets == nil {
		return false
	}
	status := p.network.Status
	return p.sets.reaches(p.checkpoint()) && int64(p.sets.newest().set.Generation) >= status.SetGeneration &&
		(p.genesis.ChainID == resources.ChainID(p.network) || status.Validators > 0 || p.sets.answered)
}
