package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/mempool"
	"github.com/diseq/diseq/node/peer"
	"github.com/diseq/diseq/node/store"
	"github.com/diseq/diseq/node/vrf"
)

// open opens files and listeners' parts; nothing runs yet.
func open(ctx context.Context, machine Machine, cfg Config, version string, logger *slog.Logger) (_ *Node, err error) {
	genesis, err := cfg.LoadGenesis()
	if err != nil {
		return nil, err
	}
	own, err := identity.Load(cfg.Keys)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, machine: machine, log: logger, genesis: genesis, set: genesis.Set(), identity: own, self: own.Public().PublicKey,
		version: version, now: time.Now, names: map[chain.PublicKey]string{}, next: make(chan struct{}),
	}
	if machine.Now != nil {
		n.now = machine.Now
	}
	for _, v := range genesis.Validators {
		n.names[v.PublicKey] = v.Name
		if _, err := vrf.ParsePublicKey(v.VRFKey[:]); err != nil {
			return nil, fmt.Errorf("the genesis document has a VRF key of %s that is none: %w", v.Name, err)
		}
		if public := own.Public(); v.PublicKey == n.self && v.VRFKey != public.VRFKey {
			return nil, fmt.Errorf("the genesis document has VRF key %v for %s, the key file %v", v.VRFKey, v.Name, public.VRFKey)
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	n.metrics = newMetrics(n, registry)
	if err := n.createVotes(); err != nil {
		return nil, err
	}
	if n.store, err = store.Open(cfg.Data, genesis, store.Options{Logger: logger, Registerer: registry}); err != nil {
		return nil, err
	}
	n.finals = newFinals(n.store)
	n.verifier = newVerifier(genesis)
	if err := n.openVotes(); err != nil {
		return nil, err
	}
	if n.follower, err = newFollower(ctx, n); err != nil {
		return nil, err
	}
	if err := n.restore(ctx); err != nil {
		return nil, err
	}
	if err := n.openPool(ctx, registry); err != nil {
		return nil, err
	}
	n.pushes = &pushes{n: n, on: map[chain.PublicKey]bool{}}
	n.commitments = newCommitments(n)
	n.sync = newSyncer(n)
	n.seq = newSequencer(n)
	n.synchrony = newSynchrony(n)
	n.transport, err = peer.New(peer.Config{
		Key: own.Signing, Genesis: genesis, Name: cfg.Name, Version: version, Logger: logger, Registerer: registry,
		Dial: machine.Dial,
	}, &handler{n})
	return n, err
}

// createVotes makes the vote store where the configuration states that the data directory is this
// validator's first, and the directory bears it out: nothing is in it. What the peers file says
// goes before both.
func (n *Node) createVotes() error {
	if !n.cfg.CreateVoteStore || n.set.Index(n.self) < 0 {
		return nil
	}
	entries, err := os.ReadDir(n.cfg.Data)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("data directory: %w", err)
	}
	for _, e := range entries {
		// A new volume may have the first of these; the others are left when a start is cut off
		// before the vote store is there.
		if name := e.Name(); name != "lost+found" && name != "LOCK" && !strings.HasPrefix(name, "votes.db.new") {
			return nil
		}
	}
	// An emptied directory looks like a first one. Whoever wrote the peers file may know better.
	made, err := madeVoteStore(n.cfg.Peers, n.self)
	if err != nil {
		return err
	}
	if made {
		n.log.Warn("the data directory is empty, and by the peers file this validator made its vote store before: it is not made again",
			"data", n.cfg.Data, "peers", n.cfg.Peers)
		return nil
	}
	n.log.Info("first start in this data directory: the vote store is made", "data", n.cfg.Data)
	return store.CreateVotes(n.cfg.Data, n.self)
}

// openVotes opens the vote store. A validator without one has lost it: it is Rejoining and may not
// vote.
func (n *Node) openVotes() error {
	if n.set.Index(n.self) < 0 {
		return nil
	}
	votes, err := n.store.OpenVotes(n.self)
	if errors.Is(err, store.ErrNoVoteStore) {
		n.log.Warn("no vote store: this node observes until it may vote again", "data", n.cfg.Data)
		n.voteFrom.Store(never)
		return nil
	}
	if err != nil {
		return err
	}
	n.votes.Store(votes)
	n.voteFrom.Store(votes.FirstHeight())
	return nil
}

// restore derives the state in memory from the final blocks.
func (n *Node) restore(ctx context.Context) error {
	n.beacon = newBeacon(n.genesis)
	var rows []chain.Epoch
	const page = 4096
	for from := uint64(0); ; {
		stored, err := n.store.Epochs(ctx, from, page)
		if err != nil {
			return err
		}
		rows = append(rows, stored...)
		if len(stored) < page {
			break
		}
		from = stored[len(stored)-1].Number + 1
	}
	height := n.store.Height()
	n.beacon.restore(height, rows)
	b, err := n.store.Block(ctx, height)
	if err != nil {
		return err
	}
	// Of the heights that the last header's state does not cover, the last with messages: at most
	// MaxStateLag to look at.
	last := uint64(0)
	for h := height; h > b.Header.StateHeight && last == 0; h-- {
		header, err := n.store.Header(ctx, h)
		if err != nil {
			return err
		}
		if header.MessagesCount > 0 {
			last = h
		}
	}
	n.tip.Store(&tip{hash: b.Hash(), block: b, lastNonEmpty: last})
	return nil
}

func (n *Node) openPool(ctx context.Context, registry prometheus.Registerer) error {
	authors := make([]chain.PublicKey, len(n.set.Validators))
	for i, v := range n.set.Validators {
		authors[i] = v.PublicKey
	}
	indexed, _ := n.follower.newest()
	pool, err := mempool.Open(ctx, mempool.Config{
		Key: n.identity.Signing, ChainID: n.genesis.ChainID,
		MaxMessageBytes: int(n.genesis.Parameters.MaxMessageBytes), MaxBlockBytes: int(n.genesis.Parameters.MaxBlockBytes),
		Authors: authors, Acknowledgements: len(authors) - int(n.set.Threshold), Linked: n.linked,
		MaxPoolBytes: int64(n.cfg.Limits.MaxPoolBytes), Height: indexed,
		Storage: n.store, Index: n.follower, Replicator: poolReplicator{n}, FreeDisk: freeDisk(n.cfg.Data),
		Logger: n.log, Registerer: registry,
	})
	if err != nil {
		return err
	}
	n.pool = pool
	// What the trie does not have yet the pool has to know.
	for h := indexed + 1; h <= n.store.Height(); h++ {
		b, err := n.store.Block(ctx, h)
		if err != nil {
			return err
		}
		if err := n.pool.Committed(h, b.Body, messageIDs(b.Messages)); err != nil {
			return err
		}
	}
	return nil
}

// linked returns the number of other validators that there is a link to.
func (n *Node) linked() int {
	count := 0
	for _, p := range n.transport.Peers() {
		if p.Up && n.set.Index(p.Key) >= 0 {
			count++
		}
	}
	return count
}

func messageIDs(messages []chain.Message) []chain.Hash {
	ids := make([]chain.Hash, len(messages))
	for i, m := range messages {
		ids[i] = m.ID()
	}
	return ids
}
