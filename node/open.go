package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/diseq/diseq/node/catchup"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/gossip"
	"github.com/diseq/diseq/node/guests"
	"github.com/diseq/diseq/node/identity"
	"github.com/diseq/diseq/node/internal/disk"
	"github.com/diseq/diseq/node/internal/metrics"
	"github.com/diseq/diseq/node/internal/patient"
	"github.com/diseq/diseq/node/internal/repair"
	"github.com/diseq/diseq/node/internal/tasks"
	"github.com/diseq/diseq/node/internal/trace"
	"github.com/diseq/diseq/node/ledger"
	"github.com/diseq/diseq/node/mempool"
	"github.com/diseq/diseq/node/peer"
	"github.com/diseq/diseq/node/peersfile"
	"github.com/diseq/diseq/node/state"
	"github.com/diseq/diseq/node/store"
	"github.com/diseq/diseq/node/target"
	"github.com/diseq/diseq/node/verify"
	"github.com/diseq/diseq/node/voter"
	"github.com/diseq/diseq/node/vrf"
)

// open opens the files and connects the rooms; nothing runs yet. ctx ends when the node stops.
func open(ctx context.Context, machine Machine, cfg Config, version string, logger *slog.Logger) (_ *Node, err error) {
	genesis, err := cfg.LoadGenesis()
	if err != nil {
		return nil, err
	}
	own, err := identity.Load(cfg.Keys)
	if err != nil {
		return nil, err
	}
	if machine.Now == nil {
		machine.Now = time.Now
	}
	n := &Node{
		cfg: cfg, machine: machine, log: logger, genesis: genesis, identity: own, self: own.Public().PublicKey,
		version: version, tasks: tasks.New(ctx), metrics: metrics.New(), recorded: make(chan struct{}),
	}
	n.disk = &patient.Writer{Ctx: ctx, Full: n.metrics.DiskFull, Logger: logger}
	if err := n.checkKeys(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	n.traces, err = trace.Start(ctx, trace.Config{
		Options: cfg.Tracing, Name: cfg.Name, Version: version, ChainID: genesis.ChainID, Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	incoming := new(handler) // filled in below: the transport calls it from Start on
	transport, err := peer.New(peer.Config{
		Key: own.Signing, Genesis: genesis, Name: cfg.Name, Version: version, Logger: logger, Registerer: n.metrics.Registry,
		Dial: machine.Dial, Traces: n.traces,
	}, incoming)
	if err != nil {
		return nil, err
	}
	file, err := peersfile.Read(cfg.Peers)
	if err != nil {
		return nil, err
	}
	if err := n.openFiles(ctx, transport, file); err != nil {
		return nil, err
	}
	n.connect(incoming)
	return n, nil
}

// checkKeys checks the VRF keys of the genesis document.
func (n *Node) checkKeys() error {
	for _, v := range n.genesis.Validators {
		if _, err := vrf.ParsePublicKey(v.VRFKey[:]); err != nil {
			return fmt.Errorf("the genesis document has an invalid VRF key for %s: %w", v.Name, err)
		}
	}
	return n.checkOwnKey("genesis document", n.genesis.Validators)
}

// checkOwnKey checks that those who know this node as a validator know its VRF key.
func (n *Node) checkOwnKey(where string, validators []chain.NamedValidator) error {
	for _, v := range validators {
		if public := n.identity.Public(); v.PublicKey == n.self && v.VRFKey != public.VRFKey {
			return fmt.Errorf("the %s has VRF key %v for %s, the key file %v", where, v.VRFKey, v.Name, public.VRFKey)
		}
	}
	return nil
}

// openFiles opens what is on disk, in the order in which each part rests on those before.
func (n *Node) openFiles(ctx context.Context, transport *peer.Transport, file *peersfile.File) (err error) {
	if err := n.createVotes(file); err != nil {
		return err
	}
	options := store.Options{Logger: n.log, Registerer: n.metrics.Registry}
	if n.store, err = store.Open(n.cfg.Data, n.genesis, options); err != nil {
		return err
	}
	if err := n.openVotes(file); err != nil {
		return err
	}
	n.blocks = repair.New(repair.Config{
		Store: n.store, Tasks: n.tasks, Found: n.metrics.Damage, Logger: n.log,
		Over: func(height uint64) bool {
			set, ok := n.ledger.Sets().At(height)
			return ok && set != n.ledger.Sets().Open()
		},
	})
	if n.ledger, err = ledger.Open(ctx, n.genesis, finals{patient.Store{Store: n.store, Disk: n.disk}, n.blocks}); err != nil {
		return err
	}
	if open, ok := n.ledger.Sets().Named(n.ledger.Height() + 1); ok {
		if err := n.checkOwnKey("validator set in force", open.Validators); err != nil {
			return err
		}
	}
	n.network = &network{Transport: transport, self: n.self, traces: n.traces}
	n.guests = guests.New(n.self, n.ledger, file, transport.SetPeers)
	n.state, err = state.Open(ctx, state.Config{
		Path: filepath.Join(n.cfg.Data, "state"), HistoryHeights: uint64(n.cfg.Limits.HistoryHeights), Genesis: n.genesis,
		Ledger: n.ledger, Indexed: func(height uint64) { n.pool.Indexed(height) }, FreeDisk: n.freeDisk,
		Damaged: n.metrics.Damage.WithLabelValues(metrics.DamagedState).Inc, Logger: n.log,
	})
	if err != nil {
		return err
	}
	return n.openPool(ctx)
}

func (n *Node) freeDisk() (uint64, error) { return disk.Free(n.cfg.Data) }

// connect makes the rooms that have no files, each with the doors that it needs of the others.
func (n *Node) connect(incoming *handler) {
	finals, contradictions := make(chan *chain.FinalBlock, 16), make(chan error)
	verifier := verify.New(n.genesis.ChainID, n.ledger.Height, n.ledger.Sets().At)
	n.network.verifier = verifier
	n.pushes = gossip.NewPushes(n.pool, n.network, n.tasks)
	n.commitments = gossip.NewCommitments(gossip.CommitmentsConfig{
		Self: n.self, Key: n.identity.VRF, Prove: n.machine.Prove, Beacon: n.ledger.Beacon(), Network: n.network, Tasks: n.tasks,
		ProofSeconds: n.metrics.ProofSeconds, Name: n.ledger.Sets().NameOf, Logger: n.log,
	})
	n.catchup = catchup.New(catchup.Config{
		Self: n.self, Ledger: n.ledger, Verifier: verifier, Network: n.network, WaitState: n.state.Wait,
		Finals: finals, Contradictions: contradictions, Checkpoint: n.guests.Checkpoint,
		Tasks: n.tasks, Fetched: n.metrics.CaughtUp, Faults: n.metrics.SyncFaults, Name: n.ledger.Sets().NameOf, Logger: n.log,
	})
	n.target = target.New(target.Config{
		ChainID: n.genesis.ChainID, Self: n.identity.Public(), Key: n.identity.Signing, Ledger: n.ledger, Network: n.network,
		Final: n.catchup.Final, Ask: n.catchup.LinkUp, Logger: n.log,
	})
	n.voter = voter.New(voter.Config{
		Genesis: n.genesis, Key: n.identity.Signing, Ledger: n.ledger, Pool: n.pool, Network: n.network, State: n.state,
		Apply: n.apply, Finals: finals, Contradictions: contradictions, CatchUp: n.catchup.Hint, VerifyBlock: verifier.Block,
		HasCommitment: n.commitments.Acknowledged, Change: n.target.Change, Changed: n.target.Changed(), Linked: n.target.Linked,
		Checkpoint: n.guests.Checkpoint, Evidence: n.keepEvidence, Now: n.machine.Now, Tasks: n.tasks,
		Metrics: n.metrics.Voter(), Name: n.ledger.Sets().NameOf, Logger: n.log,
	})
	*incoming = handler{
		ctx: n.tasks.Context(), chainID: n.genesis.ChainID, key: n.identity.Signing, rejected: n.metrics.Rejected, waited: n.metrics.Waited,
		verifier: verifier, heard: n.catchup.Heard, post: n.voter.PostFor,
		ledger: n.ledger, store: n.store, blocks: n.blocks, pool: n.pool, voter: n.voter, catchup: n.catchup, commitments: n.commitments,
		pushes: n.pushes, target: n.target, traces: n.traces,
	}
	n.backend = &backend{
		name: n.cfg.Name, version: n.version, self: n.self, genesis: n.genesis, log: n.log,
		network: n.network, store: n.store, blocks: n.blocks, ledger: n.ledger, state: n.state, pool: n.pool, catchup: n.catchup,
		voter: n.voter, target: n.target, checkpoint: n.guests.Checkpoint, disk: n.disk, freeDisk: n.freeDisk, unrecorded: n.unrecorded,
		traces: n.traces,
	}
	n.metrics.Collect(n.backend.gauges)
	n.blocks.Start(n.catchup.Block)
}

// createVotes makes the vote store where the configuration states that the data directory is this
// node's first, the directory is empty, and the peers file does not record an earlier store. A node
// that is to become a validator makes it while it is an observer: it may have no other later.
func (n *Node) createVotes(file *peersfile.File) error {
	if !n.cfg.CreateVoteStore {
		return nil
	}
	if first, err := store.Untouched(n.cfg.Data); err != nil || !first {
		return err
	}
	// An emptied directory looks like a first one. The writer of the peers file may know better.
	if file.MadeVoteStore(n.self) {
		n.log.Warn("data directory is empty, but the peers file records an earlier vote store of this node: not creating a new one",
			"data", n.cfg.Data, "peers", n.cfg.Peers)
		return nil
	}
	n.log.Info("first start in this data directory: creating the vote store", "data", n.cfg.Data)
	return store.CreateVotes(n.cfg.Data, n.self)
}

// openVotes opens the vote store. A validator without one has lost it: it is Rejoining and may not
// vote. An observer needs none.
func (n *Node) openVotes(file *peersfile.File) error {
	votes, err := n.store.OpenVotes(n.self)
	if errors.Is(err, store.ErrNoVoteStore) {
		return nil
	}
	if err != nil {
		return err
	}
	n.votes = votes
	if !n.cfg.VoteWhenRecorded || file.MadeVoteStore(n.self) {
		return nil
	}
	// A record of a vote in the store means that it has voted already.
	records, err := votes.Load()
	n.unrecorded = err == nil && len(records) == 0
	return err
}

func (n *Node) openPool(ctx context.Context) (err error) {
	indexed, _ := n.state.Newest()
	n.pool, err = mempool.Open(ctx, mempool.Config{
		Key: n.identity.Signing, ChainID: n.genesis.ChainID,
		MaxMessageBytes: int(n.genesis.Parameters.MaxMessageBytes), MaxBlockBytes: int(n.genesis.Parameters.MaxBlockBytes),
		BlockInterval: time.Duration(n.genesis.Parameters.MinBlockIntervalMS) * time.Millisecond,
		Set:           n.ledger.Sets().Open(), Former: n.ledger.Sets().Former(),
		Linked:       func() int { return n.network.Heard(n.ledger.Sets().Open(), 0) },
		Present:      func() map[chain.PublicKey]bool { return present(n.network.Peers()) },
		MaxPoolBytes: int64(n.cfg.Limits.MaxPoolBytes), Height: indexed, Time: n.ledger.Tip().Block.Header.Time(),
		Storage: n.store, Index: n.state, Replicator: replicator{n.network.Transport}, FreeDisk: n.freeDisk,
		Formed: n.traces.Formed,
		Logger: n.log, Registerer: n.metrics.Registry,
	})
	if err != nil {
		return err
	}
	n.pool.SetPeers(n.guests.File().Keys())
	// The pool must know the blocks that the state has not indexed yet.
	for h := indexed + 1; h <= n.ledger.Height(); h++ {
		b, err := n.ledger.WithIDs(ctx, h)
		if err != nil {
			return err
		}
		if err := n.pool.Committed(h, b.Header.Time(), b.Body, b.IDs); err != nil {
			return err
		}
	}
	return nil
}
