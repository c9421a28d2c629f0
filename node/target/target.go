// Package target follows what the validators want to be the next validator set.
//
// The operator of a node declares a target in its peers file. A member of the set in force endorses
// the target that its node has been given, if it is a valid next set, and sends the endorsement to
// all. A node has a change to order once a threshold of the members has endorsed its own target,
// and once it is linked to a threshold of the next set.
//
// It promises that the endorsement which counts of a member is the newest: it is taken from the
// member's own link alone. It promises that a set is endorsed only if the chain allows it to be the
// next one. It does not order the change and it decides nothing about a block: the voter does. It
// stores nothing. A node that restarts endorses again, and the others send theirs when their links
// open.
package target

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
	"github.com/diseq/diseq/node/internal/wait"
	"github.com/diseq/diseq/node/ledger"
)

// Network reaches the peers. Its methods do not block.
type Network interface {
	// Connected returns the peers to which there is a link.
	Connected() []chain.PublicKey
	// Endorse sends this node's own endorsement to a peer.
	Endorse(to chain.PublicKey, e *chain.Endorsed)
}

// Config is what a Follower is made of.
type Config struct {
	ChainID string
	// Self is this node's identity in a set, Key what it signs with.
	Self    chain.Validator
	Key     ed25519.PrivateKey
	Ledger  *ledger.Ledger
	Network Network
	// Final returns the last final height that a peer claims to have. Ask has a peer say it again.
	Final  func(peer chain.PublicKey) uint64
	Ask    func(peer chain.PublicKey)
	Logger *slog.Logger
}

// Follower follows the target of one node and the endorsements of all members. Its methods may be
// called from any goroutine; Run is called once.
type Follower struct {
	cfg     Config
	changed chan struct{}

	mu       sync.Mutex
	declared *chain.Target
	// next is the set that the target asks for, hash its hash, problem why it cannot be the next
	// one. They hold for the generation judged; judged is false if there is a new target.
	judged     bool
	generation uint32
	next       *chain.NextSet
	hash       chain.Hash
	problem    error
	// endorsed is the newest endorsement of each member of the set of the generation.
	endorsed map[chain.PublicKey]chain.Endorsed
	// heard bounds the endorsements of each member that are checked.
	heard map[chain.PublicKey]*rate.Limiter
	// asked is when each peer was last asked for its height.
	asked map[chain.PublicKey]time.Time
}

const (
	// retryInterval is how often this node's endorsement is sent again: T_retry of the protocol.
	retryInterval = consensus.DefaultRetryInterval
	// near is how far, in heights, a member of the next set may be behind.
	near = 10
	// endorsementsPerSecond and endorsementsAtOnce bound the different endorsements of one member.
	endorsementsPerSecond = 2
	endorsementsAtOnce    = 16
)

// New returns a Follower without a target.
func New(cfg Config) *Follower {
	return &Follower{
		cfg: cfg, changed: make(chan struct{}, 1),
		endorsed: map[chain.PublicKey]chain.Endorsed{}, asked: map[chain.PublicKey]time.Time{}, heard: map[chain.PublicKey]*rate.Limiter{},
	}
}

// Changed returns a channel with a token when Change may return something else than before.
func (f *Follower) Changed() <-chan struct{} { return f.changed }

func (f *Follower) poke() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// Declare replaces the declared target; nil is for none. Earlier endorsements of this node stay in
// force: others hold them, and order a change that a threshold endorsed.
func (f *Follower) Declare(t *chain.Target) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.declared, f.judged = t, false
	f.follow()
}

// Advance follows the chain: a set that has come into force leaves old endorsements behind.
func (f *Follower) Advance() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.follow()
}

// Run sends this node's endorsement again, every T_retry, until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	for wait.For(ctx, retryInterval) == nil {
		f.mu.Lock()
		f.follow()
		f.send(f.cfg.Network.Connected()...)
		f.mu.Unlock()
		f.poke() // a member of the next set may have caught up
	}
}

// LinkUp sends a peer this node's endorsement.
func (f *Follower) LinkUp(to chain.PublicKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.follow()
	f.send(to)
	f.poke()
}

// Receive takes an endorsement from the link of its maker. It ignores one of another generation and
// one of a node outside of the set in force. It ignores those that come faster than anyone changes
// its mind, because members send theirs again. The error wraps chain.ErrSignature if the signature
// is wrong.
func (f *Follower) Receive(from chain.PublicKey, e *chain.Endorsed) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	set := f.follow()
	if set.Index(from) < 0 || e.Generation != f.generation+1 || f.endorsed[from] == *e {
		return nil
	}
	if f.heard[from] == nil {
		f.heard[from] = rate.NewLimiter(endorsementsPerSecond, endorsementsAtOnce)
	}
	if !f.heard[from].Allow() {
		return nil
	}
	if err := e.Verify(f.cfg.ChainID, from); err != nil {
		return err
	}
	f.endorsed[from] = *e
	f.poke()
	return nil
}

// follow judges the target by the set in force, if that has not been done, and endorses it. It
// returns that set.
func (f *Follower) follow() *chain.ValidatorSet {
	set := f.cfg.Ledger.Sets().Open()
	if f.generation != set.Generation {
		f.generation, f.judged = set.Generation, false
		clear(f.endorsed)
		clear(f.heard)
		clear(f.asked)
	}
	if f.judged {
		return set
	}
	f.judged, f.next, f.hash, f.problem = true, nil, chain.Hash{}, nil
	defer f.poke()
	if f.declared == nil {
		return set
	}
	f.next, f.problem = f.judge()
	if f.problem != nil {
		f.next = nil
		log := f.cfg.Logger.Warn
		if errors.Is(f.problem, ledger.ErrInForce) {
			log = f.cfg.Logger.Info
		}
		log("the declared target is ignored", "follows", f.declared.Follows, "generation", f.generation, "err", f.problem)
		return set
	}
	f.hash = f.next.Hash()
	endorses := set.Index(f.cfg.Self.PublicKey) >= 0
	f.cfg.Logger.Info("target of the validator set declared", "generation", f.next.Generation, "validators", len(f.next.Validators),
		"threshold", f.next.Threshold, "hash", f.hash, "endorsed", endorses)
	if endorses {
		f.endorsed[f.cfg.Self.PublicKey] = chain.Endorse(f.cfg.Key, f.cfg.ChainID, f.next)
		f.send(f.cfg.Network.Connected()...)
	}
	return set
}

// judge returns the set that the target asks for, or why it cannot be the next one.
func (f *Follower) judge() (*chain.NextSet, error) {
	next, err := f.cfg.Ledger.Sets().CheckTarget(f.declared)
	if err != nil {
		return nil, err
	}
	for _, v := range next.Validators {
		if v.PublicKey == f.cfg.Self.PublicKey && v.VRFKey != f.cfg.Self.VRFKey {
			return nil, fmt.Errorf("it has VRF key %v for this node, %s; the node's key file has %v", v.VRFKey, v.Name, f.cfg.Self.VRFKey)
		}
	}
	return next, nil
}

// send sends this node's endorsement of the declared target, if it has made one.
func (f *Follower) send(to ...chain.PublicKey) {
	own, ok := f.endorsed[f.cfg.Self.PublicKey]
	if !ok || f.next == nil || own.Next != f.hash {
		return
	}
	for _, peer := range to {
		f.cfg.Network.Endorse(peer, &own)
	}
}

// Change returns the change that this node has to order, or nil: a threshold of the members has
// endorsed its target, and it is linked to a threshold of the next set.
func (f *Follower) Change() *chain.Change {
	f.mu.Lock()
	defer f.mu.Unlock()
	set := f.follow()
	if f.next == nil {
		return nil
	}
	change := &chain.Change{Next: *f.next}
	for i, v := range set.Validators {
		if e, ok := f.endorsed[v.PublicKey]; ok && e.Next == f.hash && len(change.Endorsements) < int(set.Threshold) {
			change.Endorsements = append(change.Endorsements, chain.Endorsement{Validator: uint32(i), Signature: e.Signature})
		}
	}
	if len(change.Endorsements) < int(set.Threshold) || f.linked(f.next) < int(f.next.Threshold) {
		return nil
	}
	return change
}

// Linked reports whether this node is linked to a threshold of a next set, itself included if it is
// a member, each within 10 heights of this node's last final one.
func (f *Follower) Linked(next *chain.NextSet) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.linked(next) >= int(next.Threshold)
}

// linked counts those members. It asks a member that seems to be behind how far it is: an idle
// member says nothing by itself.
func (f *Follower) linked(next *chain.NextSet) (count int) {
	connected, height := f.cfg.Network.Connected(), f.cfg.Ledger.Height()
	for _, v := range next.Validators {
		switch {
		case v.PublicKey == f.cfg.Self.PublicKey:
			count++
		case !slices.Contains(connected, v.PublicKey):
		case f.cfg.Final(v.PublicKey)+near >= height:
			count++
		case time.Since(f.asked[v.PublicKey]) >= retryInterval:
			f.asked[v.PublicKey] = time.Now()
			f.cfg.Ask(v.PublicKey)
		}
	}
	return count
}

// Status is the declared target and the endorsements held.
type Status struct {
	// Target is nil if none is declared.
	Target *TargetStatus
	// Endorsements are the newest of each member of the set in force, in the order of the set.
	Endorsements []EndorsementStatus
}

// TargetStatus is the declared target as this node judges it.
type TargetStatus struct {
	// Generation is that of the next set. Hash is what endorsements sign.
	Generation uint32
	Hash       chain.Hash
	// Problem is why the target is ignored, empty if it can be the next set.
	Problem string
	// Endorsed: this node is a member of the set in force and has endorsed it.
	Endorsed bool
	// Endorsements are those of the target among the Needed.
	Endorsements, Needed int
	// Linked are the members of the next set that this node is linked to, among the LinkedNeeded.
	Linked, LinkedNeeded int
	// Validators is the size of the next set.
	Validators int
}

// EndorsementStatus is the newest endorsement of a member.
type EndorsementStatus struct {
	Name       string
	PublicKey  chain.PublicKey
	Generation uint32
	Hash       chain.Hash
}

// Status returns what this node knows of its target.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	set, out, held := f.follow(), Status{}, 0
	for _, v := range set.Validators {
		e, ok := f.endorsed[v.PublicKey]
		if !ok {
			continue
		}
		out.Endorsements = append(out.Endorsements, EndorsementStatus{
			Name: f.cfg.Ledger.Sets().NameOf(v.PublicKey), PublicKey: v.PublicKey, Generation: e.Generation, Hash: e.Next,
		})
		if f.next != nil && e.Next == f.hash {
			held++
		}
	}
	if f.declared == nil {
		return out
	}
	next := f.declared.Next(set.SynchronyDeltaMS)
	out.Target = &TargetStatus{
		Generation: next.Generation, Hash: next.Hash(), Endorsements: held, Needed: int(set.Threshold),
		Linked: f.linked(next), LinkedNeeded: int(next.Threshold), Validators: len(next.Validators),
	}
	if f.problem != nil {
		out.Target.Problem = f.problem.Error()
	}
	own, ok := f.endorsed[f.cfg.Self.PublicKey]
	out.Target.Endorsed = ok && f.next != nil && own.Next == f.hash
	return out
}
