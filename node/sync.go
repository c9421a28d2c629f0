package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/consensus"
)

// syncer catches up: when a peer's message shows that others are further, it fetches ranges of
// final blocks, verifies each by its certificate, and hands them to the sequencer. A hint may be a
// lie: only what verifies counts, and a peer that has nothing to show is left alone for a while.
type syncer struct {
	n *Node

	mu     sync.Mutex
	target uint64
	peers  map[chain.PublicKey]uint64 // the height each was last heard to be deciding, or above
	wake   chan struct{}
	// started and asked: a node that has just started does not know yet whether it is behind.
	started time.Time
	asked   map[chain.PublicKey]bool
}

const (
	// syncRange is how many blocks one request asks for.
	syncRange = 256
	// syncTimeout bounds one request.
	syncTimeout = 30 * time.Second
	// syncPause is how long a failed round of attempts is followed by nothing.
	syncPause = 500 * time.Millisecond
	// settling is how long a node that has just started waits for word of others before it calls
	// itself ready all the same.
	settling = 1500 * time.Millisecond
	// farBehind is the lag, in heights, from which a node does not call itself ready.
	farBehind = 10
)

func newSyncer(n *Node) *syncer {
	return &syncer{
		n: n, peers: map[chain.PublicKey]uint64{}, wake: make(chan struct{}, 1), started: time.Now(), asked: map[chain.PublicKey]bool{},
	}
}

// linkUp asks a peer how far it is: nothing else tells while the network is idle.
func (s *syncer) linkUp(to chain.PublicKey) {
	s.n.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(s.n.ctx, fetchTimeout)
		defer cancel()
		var nonce chain.Hash
		if _, err := rand.Read(nonce[:]); err != nil {
			return
		}
		status, err := s.n.transport.Status(ctx, to, nonce)
		if err != nil {
			s.n.log.Debug("status not had", "from", s.n.peerName(to), "err", err)
			return
		}
		if status.Height > s.n.tip.Load().block.Header.Height {
			s.hint(status.Height, to)
		}
		s.heard(to, status.Height+1)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked[to] = true
	})
}

// settled reports whether this node has had the word of two peers (or of the only one) since its
// start, or has waited for it. It does not wait for long: readiness depends on no one else being
// up.
func (s *syncer) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked) >= min(2, len(s.n.set.Validators)-1) || time.Since(s.started) > settling
}

// heard notes that a peer is deciding height, or has decided it.
func (s *syncer) heard(from chain.PublicKey, height uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers[from] < height {
		s.peers[from] = height
	}
}

// final returns the last final height that a peer was heard to have.
func (s *syncer) final(of chain.PublicKey) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peers[of] - min(s.peers[of], 1)
}

// hint says that a peer seems to have final blocks up to height.
func (s *syncer) hint(height uint64, from chain.PublicKey) {
	s.mu.Lock()
	s.peers[from] = max(s.peers[from], height)
	s.target = max(s.target, height)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// behind returns by how many heights more validators seem to be ahead than may lie.
func (s *syncer) behind() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return behind(s.peers, s.n.set, s.n.tip.Load().block.Header.Height+1)
}

// behind is by how many heights one honest validator at least is ahead of the one that is being
// decided here. As many are taken for liars as heights go on with and are agreed on: what they say
// of themselves must not take a node out of service.
func behind(peers map[chain.PublicKey]uint64, set *chain.ValidatorSet, deciding uint64) uint64 {
	tolerance := consensus.Tolerance(len(set.Validators), int(set.Threshold))
	withstood := tolerance.Byzantine
	if set.SynchronyDeltaMS > 0 {
		withstood = tolerance.ByzantineWithSynchrony
	}
	liars := max(1, min(withstood, tolerance.Crash))
	var heights []uint64
	for k, h := range peers {
		if set.Index(k) >= 0 {
			heights = append(heights, h)
		}
	}
	slices.Sort(heights)
	if len(heights) <= liars {
		return 0
	}
	said := heights[len(heights)-1-liars]
	return said - min(said, deciding)
}

func (s *syncer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		s.catchUp(ctx)
		s.mu.Lock()
		s.target = 0
		s.mu.Unlock()
		t := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
		case <-t.C: // a flood of hints is no reason to ask without end
		}
		t.Stop()
	}
}

func (s *syncer) wanted() (target uint64, peers []chain.PublicKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, h := range s.peers {
		if h > s.n.tip.Load().block.Header.Height {
			peers = append(peers, k)
		}
	}
	slices.SortFunc(peers, func(a, b chain.PublicKey) int { return int(min(s.peers[b], 1<<40)) - int(min(s.peers[a], 1<<40)) })
	return s.target, peers
}

// catchUp asks one peer after the other until none brings anything new.
func (s *syncer) catchUp(ctx context.Context) {
	for ctx.Err() == nil {
		target, peers := s.wanted()
		before := s.n.tip.Load().block.Header.Height
		if before >= target {
			return
		}
		got := slices.ContainsFunc(peers, func(from chain.PublicKey) bool {
			count, err := s.fetch(ctx, from, before)
			if err != nil && ctx.Err() == nil {
				s.n.log.Debug("catching up failed", "from", s.n.peerName(from), "height", before+1, "err", err)
				s.forget(from)
			}
			return count > 0
		})
		if !got {
			t := time.NewTimer(syncPause)
			select {
			case <-ctx.Done():
			case <-t.C:
			}
			t.Stop()
			return // the next message from above is the next hint
		}
	}
}

// forget takes back what a peer was heard to have, when it did not show it.
func (s *syncer) forget(from chain.PublicKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers[from] = 0
}

// fetch gets the blocks above height from a peer and hands them to the sequencer; it returns how
// many were good.
func (s *syncer) fetch(ctx context.Context, from chain.PublicKey, height uint64) (count int, err error) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	tip := s.n.tip.Load()
	parent := tip.hash
	if tip.block.Header.Height != height {
		return 0, nil
	}
	err = s.n.transport.Blocks(ctx, from, height+1, syncRange, func(f *chain.FinalBlock) error {
		if f.Header.Height != height+1 {
			return fmt.Errorf("block at height %d, want height %d", f.Header.Height, height+1)
		}
		if err := s.n.verifier.final(f); err != nil {
			return err
		}
		if f.Header.ParentHash != parent {
			// Whoever signed it calls another block final at the height below: a fork that has
			// grown while its sides did not hear each other.
			err := fmt.Errorf("contradiction: block %v is final at height %d on %v, the final block below it is %v here",
				f.Hash(), f.Header.Height, f.Header.ParentHash, parent)
			select {
			case s.n.seq.contradictions <- err:
			case <-ctx.Done():
			}
			return err
		}
		height, parent = f.Header.Height, f.Hash()
		// Blocks whose messages the trie does not have yet are held in memory: let it keep pace.
		if err := s.n.follower.wait(ctx, height-min(height, maxUnindexed)); err != nil {
			return err
		}
		select {
		case s.n.seq.finals <- f:
		case <-ctx.Done():
			return ctx.Err()
		}
		count++
		return nil
	})
	if count > 0 {
		// The sequencer is behind by what is queued: what it has not taken in would be asked for
		// again.
		if waiting := s.n.waitFinal(ctx, height); waiting != nil {
			return count, waiting
		}
		s.n.metrics.caughtUp.Add(float64(count))
	}
	return count, err
}

// maxUnindexed is how far, in heights, catching up may run ahead of the trie.
const maxUnindexed = 512
