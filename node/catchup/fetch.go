package catchup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/internal/wait"
)

const (
	// maxCalls is how many ranges of blocks are asked for at once, of different peers. A peer that
	// is asked because another is slow comes on top.
	maxCalls = 4
	// window is how far, in heights, the blocks asked for may be above the next one, and
	// maxAheadBytes how much memory they may take. Each call may hold one block more.
	window        = 1024
	maxAheadBytes = 32 << 20
	// leastPace is what a peer has to bring a second of the blocks that the node waits for, as
	// weight counts it: 64 small blocks or 1 MiB. A peer that brings less than half of what the
	// fastest has shown is too slow as well.
	leastPace = 1 << 20
	// firstPatience is how long the node waits beyond that before it asks another peer for the same
	// blocks. The patience doubles, up to lastPatience, each time that another is asked, and is the
	// first again when the other is faster.
	firstPatience, lastPatience = 250 * time.Millisecond, 16 * time.Second
	// raced is how many blocks a peer that is asked in another's place may bring without overtaking
	// the other.
	raced = 2
	// writing is for how many heights a peer that sends messages of the next ones may still write
	// its blocks. It does not show them yet.
	writing = 2
	// blockTimeout is how long a call may bring nothing.
	blockTimeout = 30 * time.Second
)

// The reasons for which an answer is given up, as the metric names them: another peer was faster,
// the peer showed nothing where it claimed blocks, it showed something else, or the call failed.
const (
	FaultSlow   = "slow"
	FaultEmpty  = "empty"
	FaultWrong  = "wrong"
	FaultFailed = "failed"
)

// run is one run of catching up. It asks several peers for different ranges of blocks and hands the
// blocks over in their order. A goroutine for each call brings blocks; all else belongs to the
// goroutine of catchUp. A call verifies the blocks that name the set of the next height as theirs.
// The others are verified when it is their turn: until then their set is not known.
type run struct {
	*Catchup
	ctx      context.Context
	cancel   context.CancelFunc
	tasks    sync.WaitGroup
	arrivals chan arrival
	ends     chan ended

	// reach is the goal. reached is when it was reached.
	reach   uint64
	reached time.Time
	// next is the height that is handed over next, on parent and by set.
	next   uint64
	parent chain.Hash
	set    *chain.ValidatorSet
	higher <-chan struct{} // closed when another block is final
	// ahead are the blocks from next on that have come, bytes their size.
	ahead map[uint64]arrived
	bytes int
	// calls are under way, in the order in which they began.
	calls []*call
	// failed are the peers that showed something wrong in this run, or nothing. none is the height
	// that a peer had no block of yet.
	failed map[chain.PublicKey]bool
	none   map[chain.PublicKey]nothing
	// shown counts the blocks that were handed over, by the peer that brought them.
	shown map[chain.PublicKey]int
	// lack is for how long the node has waited for its next blocks, less the time in which a peer
	// of the least pace brings what has come. Another peer is asked when it reaches patience.
	lack, patience time.Duration
	// changed asks for another look at what could be asked for.
	changed bool
}

// call asks a peer for the blocks from a height to last.
type call struct {
	from        chain.PublicKey
	first, last uint64
	// at is the height that it brings next.
	at     uint64
	cancel context.CancelFunc
	// set is that of the next height when the call began, setHash its hash.
	set     *chain.ValidatorSet
	setHash chain.Hash
	// began is when it began, moved when it last brought something; weight and brought are what it
	// has brought.
	began, moved    time.Time
	weight, brought int
	// parked is a block that there is no room for yet, with what waits for the answer; idle is the
	// time that such blocks waited.
	parked *arrival
	idle   time.Duration
}

// nothing is a height that a peer had no block of, and what it claimed then.
type nothing struct{ height, claim uint64 }

// arrival is a block that a call brings. The call goes on when answer has nil.
type arrival struct {
	call   *call
	block  *chain.FinalBlock
	by     *chain.ValidatorSet // it is verified against this set; nil if it is not verified yet
	answer chan error
}

// arrived is a block that is held until its turn.
type arrived struct {
	block *chain.FinalBlock
	by    *chain.ValidatorSet
	from  chain.PublicKey
}

type ended struct {
	call *call
	err  error
}

// wrongError says that a peer showed something else than it was asked for.
type wrongError struct{ error }

// errEnough ends a call whose blocks have come from another peer.
var errEnough = errors.New("enough")

// catchUp fetches blocks up to the target, or until no peer has anything new.
func (c *Catchup) catchUp(ctx context.Context) {
	r := &run{
		Catchup: c, arrivals: make(chan arrival), ends: make(chan ended), ahead: map[uint64]arrived{},
		failed: map[chain.PublicKey]bool{}, none: map[chain.PublicKey]nothing{}, shown: map[chain.PublicKey]int{},
		patience: firstPatience, changed: true,
	}
	r.ctx, r.cancel = context.WithCancel(ctx)
	defer r.close()
	for ctx.Err() == nil {
		r.follow()
		r.unpark()
		if r.arrived() {
			// The voter has not taken every block yet. Asked for again now, they would be fetched
			// twice.
			_ = c.cfg.Ledger.Wait(ctx, r.next-1)
			return
		}
		if r.changed {
			r.ask()
		}
		if next, ok := r.ahead[r.next]; ok {
			r.take(next)
			continue
		}
		if len(r.calls) == 0 {
			_ = c.cfg.Ledger.Wait(ctx, r.next-1)
			if len(r.failed) > 0 {
				_ = wait.For(ctx, failurePause)
			}
			return // the next message from above is the next hint
		}
		r.wait()
	}
}

// close ends the calls and waits for them.
func (r *run) close() {
	r.cancel()
	r.tasks.Wait()
	r.nobodyShows()
}

// arrived reports whether the goal is reached, and nothing above it comes either. A peer that has
// gone on meanwhile shows the blocks above the goal in the same answer.
func (r *run) arrived() bool {
	if r.next <= r.goal() {
		r.reached = time.Time{}
		return false
	}
	if r.reached.IsZero() {
		r.reached = time.Now()
	}
	_, here := r.ahead[r.next]
	return !here && (r.covering(r.next) == nil || time.Since(r.reached) >= hintPause)
}

// goal is the height to reach: the highest hint since the run began. A hint that comes after the
// last look at the goal is for the next run.
func (r *run) goal() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reach = max(r.reach, r.target)
	r.target = 0
	return r.reach
}

// follow begins again above the last final block when that has overtaken what was handed over.
func (r *run) follow() {
	_, r.higher = r.cfg.Ledger.Final()
	tip := r.cfg.Ledger.Tip()
	if tip.Height() < r.next {
		return
	}
	for h, a := range r.ahead {
		if h <= tip.Height() {
			r.drop(h, a)
		}
	}
	r.next, r.parent, r.changed = tip.Height()+1, tip.Hash, true
	r.set, _ = r.cfg.Ledger.Sets().At(r.next)
}

func (r *run) drop(height uint64, a arrived) {
	delete(r.ahead, height)
	r.bytes -= size(a.block)
}

// ask begins the calls that there is room for. The next height comes first: it is asked from the
// best peer, even if that is asked for others already.
func (r *run) ask() {
	r.changed = false
	now := time.Now()
	for _, k := range slices.Clone(r.calls) {
		if !r.needs(k) {
			r.end(k)
		}
	}
	if _, here := r.ahead[r.next]; !here && r.covering(r.next) == nil {
		if s := r.best(r.next, now); s != nil {
			r.begin(s, r.next)
		}
	}
	if r.bytes >= maxAheadBytes/2 {
		return
	}
	for _, s := range r.ranked(r.next, true, now) {
		first, ok := r.gap(min(r.goal(), r.next+window-1))
		if !ok || len(r.calls) >= maxCalls {
			return
		}
		if s.claim > first && s.resting(now) == 0 && r.may(&s, first, now) && !r.calling(s.key) {
			r.begin(&s, first)
		}
	}
}

// may reports whether a peer may be asked for the blocks from a height on. A peer that failed in
// this run is asked again after its rest, or in the next run.
func (r *run) may(s *source, height uint64, now time.Time) bool {
	none, ok := r.none[s.key]
	return (!r.failed[s.key] || s.resting(now) == 0) && (!ok || height < none.height || s.claim > none.claim)
}

// best returns the best peer that claims a height and is not asked for it yet, nil if there is
// none. One that is not asked for anything comes first.
func (r *run) best(height uint64, now time.Time) (best *source) {
	for _, s := range r.ranked(height, false, now) {
		asked := func(k *call) bool { return k.from == s.key && k.covers(r.next) }
		switch {
		case !r.may(&s, r.next, now) || slices.ContainsFunc(r.calls, asked):
		case best == nil:
			best = &s
		case r.calling(best.key) && !r.calling(s.key) && s.resting(now) == best.resting(now):
			best = &s
		}
	}
	return best
}

func (r *run) calling(key chain.PublicKey) bool {
	return slices.ContainsFunc(r.calls, func(k *call) bool { return k.from == key })
}

// covers reports whether a call is still to bring a height.
func (k *call) covers(height uint64) bool { return k.at <= height && height <= k.last }

// covering returns the first call that is still to bring a height, nil if there is none.
func (r *run) covering(height uint64) *call {
	if i := slices.IndexFunc(r.calls, func(k *call) bool { return k.covers(height) }); i >= 0 {
		return r.calls[i]
	}
	return nil
}

// gap returns the lowest height up to limit that has not come and that nobody is asked for.
func (r *run) gap(limit uint64) (height uint64, ok bool) {
	for h := r.next; h <= limit; {
		if _, here := r.ahead[h]; here {
			h++
		} else if k := r.covering(h); k != nil {
			h = k.last + 1
		} else {
			return h, true
		}
	}
	return 0, false
}

// needs reports whether a call is still to bring a height that has not come.
func (r *run) needs(k *call) bool {
	for h := max(k.at, r.next); h <= k.last; h++ {
		if _, here := r.ahead[h]; !here {
			return true
		}
	}
	return false
}

// begin asks a peer for the blocks from a height on that have not come and that nobody else is
// asked for, or for all that its span allows if somebody is asked for the first.
func (r *run) begin(s *source, first uint64) {
	limit := min(s.claim, r.goal(), r.next+window-1, first+s.span-1)
	last := first
	for shared := r.covering(first); last < limit; last++ {
		if _, here := r.ahead[last+1]; here || r.covering(last+1) != shared {
			break
		}
	}
	if last >= r.goal() {
		last = max(last, min(r.next+window-1, first+s.span-1)) // all that there is
	}
	now := time.Now()
	k := &call{from: s.key, first: first, at: first, last: last, began: now, moved: now, set: r.set, setHash: r.set.Hash()}
	ctx, cancel := context.WithCancel(r.ctx)
	k.cancel = cancel
	r.calls = append(r.calls, k)
	r.tasks.Go(func() {
		defer cancel()
		err := r.fetch(ctx, k)
		select {
		case r.ends <- ended{k, err}:
		case <-r.ctx.Done():
		}
	})
}

// fetch brings the blocks of a call, one after the other. It runs on a goroutine of its own.
func (r *run) fetch(ctx context.Context, k *call) error {
	height := k.first
	return r.cfg.Network.Blocks(ctx, k.from, k.first, int(k.last-k.first+1), func(f *chain.FinalBlock) error {
		if f.Header.Height != height {
			return &wrongError{fmt.Errorf("block at height %d, want height %d", f.Header.Height, height)}
		}
		height++
		a := arrival{call: k, block: f, answer: make(chan error, 1)}
		if f.Header.ValidatorsHash == k.setHash {
			if err := r.cfg.Verifier.Final(f, k.set); err != nil {
				return &wrongError{err}
			}
			a.by = k.set
		}
		select {
		case r.arrivals <- a:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case err := <-a.answer:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// wait waits until something comes, and asks another peer if the next block does not.
func (r *run) wait() {
	began := time.Now()
	most := r.patience - r.lack
	if !r.reached.IsZero() {
		most = min(most, hintPause)
	}
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-r.ctx.Done():
	case <-r.higher:
	case <-r.wake:
		r.changed = true
	case a := <-r.arrivals:
		r.arrive(a)
	case e := <-r.ends:
		r.finished(e.call, e.err)
	case <-t.C:
	}
	now := time.Now()
	if r.lack += now.Sub(began); r.lack >= r.patience {
		r.hurry(now)
	}
	for _, k := range slices.Clone(r.calls) {
		if k.parked == nil && now.Sub(k.moved) > blockTimeout {
			r.fail(k.from, FaultEmpty, fmt.Errorf("no block within %v", blockTimeout))
		}
	}
}

// hurry asks another peer for the next block.
func (r *run) hurry(now time.Time) {
	r.lack, r.changed = 0, true
	r.nobodyShows()
	if s := r.best(r.next+1, now); s != nil && r.covering(r.next) != nil {
		r.begin(s, r.next)
		r.patience = min(2*r.patience, lastPatience)
	}
}

// arrive takes a block, or keeps its call waiting while there is no room. There always is for the
// next one.
func (r *run) arrive(a arrival) {
	k, h := a.call, a.block.Header.Height
	if !slices.Contains(r.calls, k) {
		a.answer <- errEnough
		return
	}
	_, here := r.ahead[h]
	k.brought++
	switch {
	case h < r.next || here: // another peer was faster
		if k.brought >= raced && r.overtaken(k, h) {
			r.end(k)
			a.answer <- errEnough
			return
		}
	case h > r.next && r.bytes >= maxAheadBytes:
		k.brought--
		k.parked, k.moved = &a, time.Now()
		return
	default:
		r.ahead[h] = arrived{a.block, a.by, k.from}
		r.bytes += size(a.block)
		if h == r.next {
			r.won(k)
		}
	}
	k.at, k.moved = h+1, time.Now()
	k.weight += weight(a.block)
	a.answer <- nil
}

// overtaken reports whether another call that began before brought a height first, and goes on.
func (r *run) overtaken(k *call, height uint64) bool {
	for _, o := range r.calls {
		if o == k {
			return false
		}
		if o.first <= height && height < o.at && o.at <= o.last {
			return true
		}
	}
	return false
}

// unpark takes the blocks that there is room for now.
func (r *run) unpark() {
	for _, k := range slices.Clone(r.calls) {
		if a := k.parked; a != nil && (r.bytes < maxAheadBytes || a.block.Header.Height <= r.next) {
			k.parked = nil
			k.idle += time.Since(k.moved)
			r.arrive(*a)
		}
	}
}

// won ends the calls that were to bring the next block and began before the one that brings it.
func (r *run) won(by *call) {
	for _, k := range slices.Clone(r.calls) {
		if k == by {
			return
		}
		if k.covers(r.next) {
			r.patience = firstPatience
			r.fail(k.from, FaultSlow, errors.New("another peer brought the blocks that this one was asked for before"))
		}
	}
}

// end ends a call. The blocks that it brought are kept.
func (r *run) end(k *call) {
	k.cancel()
	r.calls = slices.DeleteFunc(r.calls, func(o *call) bool { return o == k })
	r.changed = true
}

// finished judges the answer of a call that has ended by itself.
func (r *run) finished(k *call, err error) {
	if !slices.Contains(r.calls, k) {
		return
	}
	r.end(k)
	took := time.Since(k.began) - k.idle
	_, wrong := errors.AsType[*wrongError](err)
	switch {
	case wrong:
		r.fail(k.from, FaultWrong, err)
	case k.at > k.first && (err == nil || took >= blockTimeout):
		// A long answer is cut off at its deadline.
		r.showed(k.from, k.weight, took, k.at > k.last)
	case err != nil:
		r.fail(k.from, FaultFailed, err)
	default:
		if claim := r.claimOf(k.from); claim > k.first+writing {
			r.fail(k.from, FaultEmpty, fmt.Errorf("it has no block %d", k.first))
		} else { // it decides that height, or writes the block
			r.none[k.from] = nothing{k.first, claim}
		}
	}
}

func (r *run) claimOf(key chain.PublicKey) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sources[key].claim
}

// fail ends what a peer was asked for, forgets the blocks that it brought and that nobody has
// looked at, and lets it rest.
func (r *run) fail(from chain.PublicKey, reason string, err error) {
	for _, k := range slices.Clone(r.calls) {
		if k.from == from {
			r.end(k)
		}
	}
	if reason == FaultWrong {
		for h, a := range r.ahead {
			if a.from == from {
				r.drop(h, a)
			}
		}
	}
	r.changed = true
	if r.ctx.Err() != nil {
		return
	}
	r.cfg.Faults.WithLabelValues(reason).Inc()
	level := slog.LevelWarn
	if rested := r.rest(from, time.Now()); rested || reason == FaultFailed {
		level = slog.LevelDebug // it is known for that, or only went away
	}
	r.cfg.Logger.Log(r.ctx, level, "catching up: a peer is slow, or does not show the blocks that it claims; others are asked first",
		"from", r.cfg.Name(from), "height", r.next, "reason", reason, "for", restTime, "err", err)
	if reason != FaultSlow { // a slow peer is better than none
		r.disbelieve(from)
		r.failed[from] = true
	}
}

// take hands the next block over.
func (r *run) take(next arrived) {
	f := next.block
	r.drop(r.next, next)
	if err := r.handOver(f, next.by); err != nil {
		r.fail(next.from, FaultWrong, err)
		return
	}
	pace := max(leastPace, r.fastest()/2)
	r.lack = max(0, r.lack-time.Duration(float64(weight(f))/pace*float64(time.Second)))
	r.cfg.Fetched.Inc()
	if r.shown[next.from]++; r.shown[next.from] == manyBlocks {
		r.mu.Lock()
		r.showing[next.from] = true
		r.mu.Unlock()
	}
	// A look at each block would cost more than the blocks.
	r.changed = r.changed || r.next%(firstSpan/2) == 0
}

// nobodyShows drops what the peers have shown in a row.
func (r *run) nobodyShows() {
	clear(r.shown)
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.showing)
}

// handOver hands the next block over to the voter, once it is verified against the set of its
// height. It may have been verified against the set by. An error is the fault of the peer that
// showed the block, unless the run is over.
func (r *run) handOver(f *chain.FinalBlock, by *chain.ValidatorSet) error {
	if by != r.set {
		if err := r.cfg.Verifier.Final(f, r.set); err != nil {
			return err
		}
	}
	if f.Header.ParentHash != r.parent {
		// Its signers made another block final at the height below: the chain has forked, and the
		// two sides grew while they did not hear each other.
		return r.contradict(r.ctx, f, fmt.Errorf("contradiction: block %v is final at height %d on %v, the final block below it is %v here",
			f.Hash(), f.Header.Height, f.Header.ParentHash, r.parent))
	}
	if err := r.checkChange(r.ctx, f, r.set); err != nil {
		return err
	}
	height := f.Header.Height
	if err := r.cfg.WaitState(r.ctx, height-min(height, maxUnindexed)); err != nil {
		return err
	}
	select {
	case r.cfg.Finals <- f:
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
	r.next, r.parent = height+1, f.Hash()
	if f.Change == nil {
		return nil
	}
	if err := r.cfg.Ledger.Wait(r.ctx, height); err != nil {
		return err
	}
	r.set, _ = r.cfg.Ledger.Sets().At(height + 1)
	return nil
}
