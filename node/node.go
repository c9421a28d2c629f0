// Package node is a DISEQ node: it assembles the rooms and runs them. A message's way through it is
//
//	server -> mempool -> peers' mempools -> a leader's block -> votes -> store
//	       -> streams, waiting clients, trie
//
// The rooms are packages of their own, and the compiler holds their doors: ledger (what is final),
// voter (drives the consensus core), target (the next validator set), verify (signatures), state
// (the trie), catchup (blocks that this node lacks) and gossip (commitments and batches). This
// package holds what is left: configuration, opening and closing, the adapters between rooms that
// do not know each other, and apply, the one place where a block becomes final.
//
// It knows nothing of Kubernetes.
package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/diseq/diseq/node/access"
	"github.com/diseq/diseq/node/catchup"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/gossip"
	"github.com/diseq/diseq/node/guests"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/internal/metrics"
	"github.com/diseq/diseq/node/internal/patient"
	"github.com/diseq/diseq/node/internal/repair"
	"github.com/diseq/diseq/node/internal/tasks"
	"github.com/diseq/diseq/node/internal/trace"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/mempool"
	"github.com/diseq/diseq/node/peersfile"
	"github.com/diseq/diseq/node/server"
	"github.com/diseq/diseq/node/state"
	"github.com/diseq/diseq/node/store"
	"github.com/diseq/diseq/node/target"
	"github.com/diseq/diseq/node/voter"
	"github.com/diseq/diseq/node/vrf"
)

// Node is a node: all of its rooms.
type Node struct {
	cfg      Config
	machine  Machine
	log      *slog.Logger
	genesis  *chain.Genesis
	identity *identity.Identity
	self     chain.PublicKey
	version  string

	tasks   *tasks.Group
	metrics *metrics.Metrics
	disk    *patient.Writer

	network *network
	guests  *guests.List
	store   *store.Store
	votes   *store.Votes // nil while a validator is rejoining, and for an observer without one
	// unrecorded says that the node was started with an empty vote store which the peers file did
	// not record, so that it waits for the record. recorded is closed when the file has it.
	unrecorded  bool
	recorded    chan struct{}
	recordSeen  sync.Once
	blocks      *repair.Blocks
	ledger      *ledger.Ledger
	state       *state.Follower
	pool        *mempool.Pool
	commitments *gossip.Commitments
	pushes      *gossip.Pushes
	catchup     *catchup.Catchup
	target      *target.Follower
	voter       *voter.Voter
	backend     *backend
	traces      *trace.Tracer // nil if no traces are asked for
}

// Machine is what a node takes from the machine that it runs on, besides files. A nil field stands
// for the real machine's. Tests give whole nodes in one process a network and a clock of their own.
type Machine struct {
	// Listen opens the node's listeners, as net.ListenConfig.Listen does; Dial reaches peers, as
	// net.Dialer.DialContext does.
	Listen func(ctx context.Context, network, address string) (net.Listener, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	// Now is the clock that blocks get their time from and are compared with. Timers and pauses use
	// package time all the same.
	Now func() time.Time
	// Prove makes VRF proofs. If nil, they are made in this process.
	Prove vrf.Proving
	// LogLevel is the level of the logger, if it can be changed while the node runs: the operations
	// listener does so.
	LogLevel *slog.LevelVar
}

// Run runs a node until ctx ends; then it returns nil when everything is closed. The node is not
// ready from then on. It serves clients for Config.Drain more, ends their requests, and only then
// ceases to vote. Run returns early with an error if a part of the node cannot continue: a database
// that takes no writes any more, a write that failed for another reason than a full disk, a state
// that differs from the network's.
func (m Machine) Run(ctx context.Context, cfg Config, version string, logger *slog.Logger) (err error) {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, working := errgroup.WithContext(working)
	opened := context.AfterFunc(ctx, stop) // to read the files may take long
	n, err := open(working, m, cfg, version, logger)
	opened()
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return nil // stopped while it read the files
	case err != nil:
		return err
	}
	defer func() {
		stop()
		err = errors.Join(err, n.close())
	}()
	return n.run(ctx, working, stop, group)
}

// run runs the rooms in ctx. When asked ends, clients are led away and served to the end, and then
// stop ends ctx.
func (n *Node) run(asked, ctx context.Context, stop context.CancelFunc, group *errgroup.Group) error {
	listeners, err := n.listen(ctx)
	defer func() {
		for _, l := range listeners {
			_ = l.Close() // the server on it has closed it already
		}
	}()
	if err != nil {
		return err
	}
	on := server.Listeners{Public: listeners[1], Operations: listeners[2]}
	if len(listeners) > 3 {
		on.Probes = listeners[3]
	}
	control, err := access.Open(access.Config{
		Files: n.cfg.Files, ChainID: n.genesis.ChainID, Logger: n.log, Registerer: n.metrics.Registry,
		FreeDisk: n.freeDisk, MinFreeDisk: mempool.MinFreeDisk, Pool: n.pool.Own,
	})
	if err != nil {
		return err
	}
	defer control.Close()
	http := server.New(server.Options{
		Backend: n.backend, Logger: n.log, Registerer: n.metrics.Registry, Gatherer: n.metrics.Registry, Pprof: n.cfg.PProf,
		LogLevel: n.machine.LogLevel, Access: control, Explorer: n.cfg.Explorer, Trace: n.traces.Begin,
		Hosts: n.cfg.Hosts, Limits: server.Limits{
			Connections: n.cfg.Limits.Connections, Streams: n.cfg.Limits.Streams, AnswerBytes: int(n.cfg.Limits.AnswerBytes),
		},
	})
	if err := n.startVoter(); err != nil {
		return err
	}
	n.log.Info("node started", "name", n.cfg.Name, "chain", n.genesis.ChainID, "genesis", n.genesis.Hash(), "height", n.ledger.Height(),
		"role", n.backend.role(), "public", listeners[1].Addr().String(), "peer", listeners[0].Addr().String(),
		"operations", listeners[2].Addr().String())
	n.network.Start(listeners[0], n.guests.Peers())
	n.target.Declare(n.guests.File().Target)
	group.Go(func() error { return n.voter.Run(ctx) })
	group.Go(func() error { return n.state.Run(ctx) })
	group.Go(func() error { return n.blocks.Run(ctx) })
	for _, run := range []func(context.Context){
		n.voter.Watch, n.catchup.Run, n.catchup.Report, n.commitments.Run, n.pushes.Run, n.target.Run, control.Watch,
		func(ctx context.Context) { n.guests.File().Watch(ctx, n.readPeers, n.log) },
	} {
		group.Go(func() error { run(ctx); return nil })
	}
	if n.votes == nil {
		group.Go(func() error { return n.rejoin(ctx) })
	}
	if n.unrecorded {
		n.log.Info("the vote store is new: the first vote waits until the peers file records the store")
		group.Go(func() error { n.voteWhenRecorded(ctx); return nil })
	}
	n.commitments.Advance()
	n.state.Poke()
	group.Go(func() error {
		// The rooms work on until the last request is answered: a client may wait for its message
		// to become final, and the others for this node's vote.
		defer stop()
		serving, end := context.WithCancel(ctx)
		defer end()
		defer context.AfterFunc(asked, func() {
			n.log.Info("stopping: not ready any more", "serves_clients_for", time.Duration(n.cfg.Drain))
			http.Drain(ctx, time.Duration(n.cfg.Drain))
			end()
		})()
		return http.Serve(serving, on)
	})
	err = group.Wait()
	n.network.Close() // before its listener closes
	return err
}

// listen opens the listeners for peers, clients, operations and, if there is one, probes.
func (n *Node) listen(ctx context.Context) (listeners []net.Listener, err error) {
	listen := n.machine.Listen
	if listen == nil {
		listen = new(net.ListenConfig).Listen
	}
	addresses := []string{n.cfg.Listen.Peer, n.cfg.Listen.Public, n.cfg.Listen.Operations}
	if n.cfg.Listen.Probes != "" {
		addresses = append(addresses, n.cfg.Listen.Probes)
	}
	for _, address := range addresses {
		l, err := listen(ctx, "tcp", address)
		if err != nil {
			return listeners, err
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// startVoter starts the voter with what there is to vote with. Whether this node is a validator is
// another question: it may become one, and cease to be one, at any height.
func (n *Node) startVoter() error {
	if n.votes == nil || n.unrecorded {
		return n.voter.Start(nil, voter.Never)
	}
	return n.voter.Start(patient.Votes{Votes: n.votes, Disk: n.disk}, n.votes.FirstHeight())
}

// voteWhenRecorded lets a node vote that waits for the record of its vote store.
func (n *Node) voteWhenRecorded(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-n.recorded:
	}
	n.log.Info("the peers file records the vote store: this node may vote")
	n.voter.VoteAgain(ctx, patient.Votes{Votes: n.votes, Disk: n.disk}, n.votes.FirstHeight())
}

// readPeers takes over a peers file that has changed.
func (n *Node) readPeers(file *peersfile.File) {
	if n.unrecorded && file.MadeVoteStore(n.self) {
		n.recordSeen.Do(func() { close(n.recorded) })
	}
	n.guests.Read(file)
	n.pool.SetPeers(file.Keys())
	n.voter.CheckpointMoved()
	n.target.Declare(file.Target)
}

// close closes everything that open opened, each part before those that it rests on. The context of
// the tasks has ended, unless none was started.
func (n *Node) close() error {
	var errs []error
	if n.network != nil {
		n.network.Close()
	}
	n.tasks.Wait()
	if n.pool != nil {
		n.pool.Close()
	}
	if n.state != nil {
		errs = append(errs, n.state.Close())
	}
	if n.votes != nil {
		errs = append(errs, n.votes.Close())
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	n.traces.Close() // waits for the collector, when all that matters is closed
	return errors.Join(errs...)
}

// apply makes a verified block final here: on disk first, then for every room that follows the
// chain. The voter's goroutine alone calls it.
func (n *Node) apply(f *chain.FinalBlock, ids []chain.Hash, justification []*chain.Certificate) error {
	remove, sources := n.pool.Removable(ids)
	f = mempool.BorneOut(f, remove)
	tip, err := n.ledger.Append(n.tasks.Context(), f, ids, remove, sources, justification)
	if err != nil {
		return err
	}
	if f.Change != nil {
		n.pool.SetMembers(n.ledger.Sets().Open())
	}
	// The pool comes before the tip: the state follows the tip, and the pool must know a block
	// before the state reports it as indexed.
	if err := n.pool.Committed(f.Header.Height, f.Header.Time(), f.Body, ids); err != nil {
		return err
	}
	n.ledger.Publish(tip)
	n.state.Poke()
	n.commitments.Advance()
	n.guests.Advance()
	n.target.Advance()
	if f.Change != nil {
		n.log.Info("the validator set has changed", "height", f.Header.Height, "generation", f.Change.Next.Generation,
			"validators", len(f.Change.Next.Validators), "threshold", f.Change.Next.Threshold, "role", n.backend.role())
	}
	n.metrics.Final(f, tip.Seen)
	n.traces.Final(f.Header.Height, f.Certificate.Block, f.Body)
	return nil
}

// rejoin gives a node without a vote store a new one, once it is a validator and that is safe.
func (n *Node) rejoin(ctx context.Context) error {
	if n.backend.role() == roleRejoining {
		n.log.Warn("no vote store: this validator observes until it may vote again", "data", n.cfg.Data)
	}
	first, err := n.catchup.Rejoin(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	if err := n.store.RecreateVotes(n.self, first); err != nil {
		return err
	}
	if n.votes, err = n.store.OpenVotes(n.self); err != nil {
		return err
	}
	n.log.Info("rejoined: created a new vote store, and this validator votes again", "votes_from_height", first)
	n.voter.VoteAgain(ctx, patient.Votes{Votes: n.votes, Disk: n.disk}, first)
	return nil
}

// keepEvidence stores evidence against a validator.
func (n *Node) keepEvidence(e chain.Evidence) {
	added, err := n.store.AddEvidence(context.WithoutCancel(n.tasks.Context()), e)
	if err != nil {
		n.log.Error("evidence not stored", "err", err)
		return
	}
	if added {
		n.metrics.Evidence.WithLabelValues(string(e.Rule)).Inc()
		n.log.Error("a validator broke the protocol: its evidence is stored, see `diseq get evidence`",
			"validator", n.ledger.Sets().NameOf(e.PublicKey), "rule", e.Rule, "height", e.First.Height, "round", e.First.Round)
	}
}
