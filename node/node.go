// Package node is a DISEQ node: it puts the parts together and runs them. A message's way through
// it is
//
//	server -> mempool -> peers' mempools -> a leader's block -> votes -> store -> stream, waiting clients; trie
//
// The parts know nothing of each other; what one needs of another it is given here. The sequencer's
// goroutine owns the consensus core and is the only one that makes the chain grow.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/mempool"
	"github.com/diseq/diseq/node/peer"
	"github.com/diseq/diseq/node/server"
	"github.com/diseq/diseq/node/store"
)

// Node is a running node.
type Node struct {
	cfg      Config
	machine  Machine
	log      *slog.Logger
	genesis  *chain.Genesis
	set      *chain.ValidatorSet
	identity *identity.Identity
	self     chain.PublicKey
	version  string
	now      func() time.Time

	// ctx ends when the node stops; tasks are the goroutines that run on it without being waited
	// for one by one.
	ctx   context.Context
	tasks tasks

	metrics     *metrics
	store       *store.Store
	votes       atomic.Pointer[store.Votes]
	finals      *finals
	beacon      *beacon
	pool        *mempool.Pool
	follower    *follower
	verifier    *verifier
	prepared    prepared
	transport   *peer.Transport
	commitments *commitments
	pushes      *pushes
	sync        *syncer
	seq         *sequencer
	synchrony   *synchrony

	// voteFrom is the height from which this node may vote: never while it is rejoining, 0 if it
	// always could.
	voteFrom atomic.Uint64
	tip      atomic.Pointer[tip]
	names    map[chain.PublicKey]string

	finality sync.Mutex
	next     chan struct{} // closed and renewed when a block is final
}

// tip is the last final block.
type tip struct {
	hash  chain.Hash
	block *chain.FinalBlock
	// lastNonEmpty is the last height with messages.
	lastNonEmpty uint64
	// seen is when this node saw the block final; zero for one from before its start.
	seen time.Time
}

// tasks is a WaitGroup that takes no more goroutines once it is being waited for.
type tasks struct {
	mu    sync.Mutex
	ended bool
	wg    sync.WaitGroup
}

// Go runs f in a goroutine of its own, unless the node is stopping.
func (t *tasks) Go(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.wg.Go(f)
	}
}

func (t *tasks) wait() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.wg.Wait()
}

// Machine is what a node takes from the machine that it runs on, besides files: what is nil is
// taken from the real one. Whole nodes in one process, on a network that a test makes, are given
// theirs by it.
type Machine struct {
	// Listen opens the node's listeners, as net.ListenConfig.Listen does; Dial reaches peers, as
	// net.Dialer.DialContext does.
	Listen func(ctx context.Context, network, address string) (net.Listener, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	// Now is the clock that blocks get their time from and are held to. Timers and pauses go by
	// package time all the same.
	Now func() time.Time
	// LogLevel is the level of the logger, if it can be changed while the node runs: the operations
	// listener does so.
	LogLevel *slog.LevelVar
}

// Run runs a node until ctx ends; then it returns nil when everything is closed. It returns early
// with an error if a part of it cannot go on: a damaged database, a full disk under the vote store,
// a state that differs from the network's.
func (m Machine) Run(ctx context.Context, cfg Config, version string, logger *slog.Logger) (err error) {
	n, err := open(ctx, m, cfg, version, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	return n.run(ctx)
}

func (n *Node) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	n.ctx = ctx
	listen := n.machine.Listen
	if listen == nil {
		listen = new(net.ListenConfig).Listen
	}
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			_ = l.Close() // who served on it has closed it already
		}
	}()
	for _, address := range []string{n.cfg.Listen.Peer, n.cfg.Listen.Public, n.cfg.Listen.Operations} {
		l, err := listen(ctx, "tcp", address)
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
	}
	peers, err := LoadPeers(n.cfg.Peers, n.self)
	if err != nil {
		return err
	}
	http := server.New(server.Options{
		Backend: &backend{n}, Logger: n.log, Registerer: n.metrics.registry, Gatherer: n.metrics.registry, Pprof: n.cfg.PProf, LogLevel: n.machine.LogLevel,
	})
	if err := n.seq.restart(n.votes.Load(), n.voteFrom.Load()); err != nil {
		return err
	}
	n.log.Info("node started", "name", n.cfg.Name, "chain", n.genesis.ChainID, "genesis", n.genesis.Hash(), "height", n.store.Height(),
		"role", n.role(), "public", listeners[1].Addr().String(), "peer", listeners[0].Addr().String(),
		"operations", listeners[2].Addr().String())
	n.transport.Start(listeners[0], peers)
	group.Go(func() error { return n.seq.run(ctx) })
	group.Go(func() error { return n.follower.run(ctx) })
	group.Go(func() error { n.sync.run(ctx); return nil })
	group.Go(func() error { n.synchrony.run(ctx); return nil })
	group.Go(func() error { n.commitments.prover.Run(ctx); return nil })
	group.Go(func() error { n.repush(ctx); return nil })
	group.Go(func() error { n.watchPeers(ctx); return nil })
	if n.voteFrom.Load() == never {
		group.Go(func() error { return n.rejoin(ctx) })
	}
	n.commitments.advance()
	n.follower.poke()
	group.Go(func() error { return http.Serve(ctx, listeners[1], listeners[2]) })
	err = group.Wait()
	n.transport.Close()
	n.tasks.wait()
	return err
}

// close closes what open opened, in the order in which it rests on each other.
func (n *Node) close() error {
	var errs []error
	if n.transport != nil {
		n.transport.Close()
	}
	if n.pool != nil {
		n.pool.Close()
	}
	if n.follower != nil {
		errs = append(errs, n.follower.current().Close())
	}
	if v := n.votes.Load(); v != nil {
		errs = append(errs, v.Close())
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	return errors.Join(errs...)
}

// apply makes a verified block final here: on disk first, then for everyone who waits.
func (n *Node) apply(f *chain.FinalBlock, ids []chain.Hash, justification []byte) error {
	height, hash := f.Header.Height, f.Hash()
	commit := chain.Commit{Block: f, Remove: n.pool.Removable(ids), Epochs: n.beacon.apply(&f.Block), Justification: justification}
	if err := n.written("block", func() error { return n.store.Commit(n.ctx, commit) }); err != nil {
		return err
	}
	now := time.Now()
	last := n.tip.Load().lastNonEmpty
	if len(ids) > 0 {
		last = height
	}
	n.finals.put(hash, f, ids)
	if err := n.pool.Committed(height, f.Body, ids); err != nil {
		return err
	}
	// after the pool: the trie follows the tip
	n.tip.Store(&tip{hash: hash, block: f, lastNonEmpty: last, seen: now})
	if v := n.votes.Load(); v != nil {
		v.Prune(height)
	}
	n.follower.poke()
	n.commitments.advance()
	n.metrics.final(f, now)
	n.finality.Lock()
	close(n.next)
	n.next = make(chan struct{})
	n.finality.Unlock()
	return nil
}

// diskRetry is how often a write is tried again while the disk is full.
const diskRetry = time.Second

// written carries out a write that the node cannot go on without. While the disk is full it waits
// for space: nothing leaves this node meanwhile, the others go on without it.
func (n *Node) written(what string, write func() error) error {
	for told := false; ; {
		err := write()
		if !errors.Is(err, store.ErrDiskFull) {
			if err != nil {
				err = fmt.Errorf("%s not written: %w", what, err)
			} else if told {
				n.log.Info("there is space on the disk again")
			}
			return err
		}
		n.metrics.diskFull.Inc()
		if !told {
			n.log.Error("the disk is full: this node waits for space", "write", what, "err", err)
			told = true
		}
		t := time.NewTimer(diskRetry)
		select {
		case <-n.ctx.Done():
			t.Stop()
			return err
		case <-t.C:
		}
	}
}

// finalHeight returns the last final height and a channel that is closed when a higher one is
// final.
func (n *Node) finalHeight() (uint64, <-chan struct{}) {
	n.finality.Lock()
	defer n.finality.Unlock()
	return n.tip.Load().block.Header.Height, n.next
}

// waitFinal returns nil once height is final here.
func (n *Node) waitFinal(ctx context.Context, height uint64) error {
	for {
		h, next := n.finalHeight()
		if h >= height {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next:
		}
	}
}

func (n *Node) keepEvidence(e chain.Evidence) {
	added, err := n.store.AddEvidence(context.WithoutCancel(n.ctx), e)
	if err != nil {
		n.log.Error("evidence not kept", "err", err)
		return
	}
	if added {
		n.metrics.evidence.WithLabelValues(string(e.Rule)).Inc()
		n.log.Error("a validator broke the protocol",
			"validator", n.peerName(e.PublicKey), "rule", e.Rule, "height", e.First.Height, "round", e.First.Round)
	}
}

func (n *Node) peerName(key chain.PublicKey) string {
	if name, ok := n.names[key]; ok {
		return name
	}
	return key.String()[:16]
}

// The roles of a node.
const (
	roleValidator = "validator"
	roleObserver  = "observer"
	roleRejoining = "rejoining"
)

// role is what the node is at the next height.
func (n *Node) role() string {
	switch {
	case n.set.Index(n.self) < 0:
		return roleObserver
	case n.tip.Load().block.Header.Height+1 < n.voteFrom.Load():
		return roleRejoining
	default:
		return roleValidator
	}
}
