package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/document"
	"github.com/diseq/diseq/node"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peersfile"
)

// reshape changes the validators of a network that runs: it does by one command what operators of
// several organisations do by hand (docs/operations.md).
type reshape struct {
	dir       string
	count     int
	replace   bool
	threshold string
	timeout   time.Duration
	out       io.Writer

	genesis *chain.Genesis
	peers   string
	network networkFile
}

func (r *reshape) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.dir, "dir", "", "the network's directory")
	f.StringVar(&r.threshold, "threshold", "", "a number, majority or two-thirds; by default the rule that the present threshold follows")
	f.DurationVar(&r.timeout, "timeout", 2*time.Minute, "how long to wait for the change")
}

const reshapeText = `

The network has to run: diseq devnet starts the nodes that are added, and stops those that have left. The change is made as
docs/operations.md describes it. Newcomers follow the chain as observers. A target is declared in the peers file, the validators endorse
it, and a block carries the change. If the command ends early, diseq target check says what the change waits for.`

func newDevnetAdd() *cobra.Command {
	r := reshape{}
	cmd := &cobra.Command{
		Use:     "add --dir DIR [--count N] [--threshold T]",
		Short:   "Add validators to a network that runs",
		Long:    "Make new nodes and add them to the validators." + reshapeText,
		Example: "  diseq devnet add --dir ./net --count 3 --threshold two-thirds",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.count < 1 || r.count > chain.MaxValidators {
				return usagef("--count %d: want 1 to %d", r.count, chain.MaxValidators)
			}
			return r.run(cmd, nil)
		},
	}
	r.register(cmd)
	cmd.Flags().IntVar(&r.count, "count", 1, "how many validators to add")
	return cmd
}

func newDevnetRemove() *cobra.Command {
	r := reshape{}
	cmd := &cobra.Command{
		Use:     "remove --dir DIR [--threshold T] NAME...",
		Short:   "Remove validators from a network that runs",
		Long:    "Remove validators. Their nodes are stopped once the change is final and what they hold is ordered." + reshapeText,
		Example: "  diseq devnet remove --dir ./net v4 v5",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return r.run(cmd, args) },
	}
	r.register(cmd)
	return cmd
}

func newDevnetReplace() *cobra.Command {
	r := reshape{replace: true}
	cmd := &cobra.Command{
		Use:     "replace --dir DIR [--threshold T] NAME...",
		Short:   "Replace validators of a network that runs by new ones",
		Long:    "Put new nodes in the place of validators, in one change. All of them may be replaced at once." + reshapeText,
		Example: "  diseq devnet replace --dir ./net v2",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.count = len(args)
			return r.run(cmd, args)
		},
	}
	r.register(cmd)
	return cmd
}

func (r *reshape) run(cmd *cobra.Command, leave []string) error {
	if r.dir == "" {
		return usagef("--dir is required")
	}
	if r.timeout <= 0 {
		return usagef("--timeout %v: want more than 0", r.timeout)
	}
	var err error
	if r.dir, err = filepath.Abs(r.dir); err != nil {
		return err
	}
	r.out, r.peers = cmd.OutOrStdout(), filepath.Join(r.dir, "peers.json")
	if r.genesis, err = readGenesis(filepath.Join(r.dir, "genesis.json")); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(r.dir, "change.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // which gives the lock back
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another command changes the validators of %s: wait for it", r.dir)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), r.timeout)
	defer cancel()
	return r.change(ctx, leave)
}

func (r *reshape) change(ctx context.Context, leave []string) error {
	h, err := r.history(ctx)
	if err != nil {
		return err
	}
	e := edit{remove: leave, threshold: r.threshold}
	if r.count == 0 && len(leave) == len(h.now.Validators) {
		return usagef("a network keeps one validator at least: diseq devnet replace puts new ones in the place of all")
	}
	if r.count > 0 && r.threshold == "" && !r.replace { // before any file is made
		if _, err := threshold("", h.now, len(h.now.Validators)+r.count); err != nil {
			return err
		}
	}
	for _, name := range leave { // as well
		if !slices.ContainsFunc(h.now.Validators, func(v chain.NamedValidator) bool { return v.Name == name }) {
			return usagef("%q is not a validator of generation %d: those are %s", name, h.now.Generation, names(h.now.Validators))
		}
	}
	newcomers, err := r.join(ctx, h)
	if err != nil {
		return err
	}
	for i, dir := range newcomers {
		public := filepath.Join(dir, "keys", "public.json")
		if r.replace {
			e.replace = append(e.replace, leave[i]+"="+public)
		} else {
			e.add = append(e.add, public)
		}
	}
	if r.replace {
		e.remove = nil
	}
	t, err := e.apply(h.now)
	if err != nil {
		return err
	}
	next, err := h.next(t)
	if err != nil {
		return err
	}
	file, err := peersfile.Read(r.peers)
	if err != nil {
		return err
	}
	if now, err := r.history(ctx); err == nil {
		h.status = now.status // newcomers are linked by now
	}
	h.report(r.out, next, file)
	if err := editPeers(r.peers, func(f *peersfile.File) { f.Target = t }); err != nil {
		return err
	}
	begun := time.Now()
	height, err := r.inForce(ctx, next)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "generation %d is in force above block %d, %.1f s after it was declared\n", next.Generation, height, time.Since(begun).Seconds())
	return r.part(ctx, h.now, next, height)
}

// each asks every node of the network for its status. A node that does not answer is left out.
func (r *reshape) each(ctx context.Context) (map[string]*client.Status, error) {
	raw, err := os.ReadFile(filepath.Join(r.dir, "network.json"))
	if err != nil {
		return nil, fmt.Errorf("the network does not run: %w", err)
	}
	r.network = networkFile{}
	if err := document.UnmarshalAnswer(raw, &r.network); err != nil {
		return nil, fmt.Errorf("network.json: %w", err)
	}
	out := map[string]*client.Status{}
	for _, n := range r.network.Nodes {
		c, err := client.New(n.HTTP)
		if err != nil {
			return nil, err
		}
		c.RetryFor = 0
		asked, cancel := context.WithTimeout(ctx, time.Second)
		s, err := c.Status(asked)
		cancel()
		c.HTTP.CloseIdleConnections()
		if err == nil && s.ChainID == r.genesis.ChainID && s.Node == n.Name {
			out[n.Name] = s
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no node of %s answers: start the network with diseq devnet --dir %s", r.dir, shellQuote(r.dir))
	}
	return out, nil
}

// history is the set in force, from a node that is not behind.
func (r *reshape) history(ctx context.Context) (*history, error) {
	all, err := r.each(ctx)
	if err != nil {
		return nil, err
	}
	best := ""
	for name, s := range all {
		if best == "" || s.Height > all[best].Height {
			best = name
		}
	}
	for _, n := range r.network.Nodes {
		if n.Name == best {
			from := roll{genesis: filepath.Join(r.dir, "genesis.json")}
			from.nodes, from.timeout = nodes{n.HTTP}, r.timeout
			return from.read(ctx, io.Discard, "")
		}
	}
	return nil, fmt.Errorf("%s is not in network.json", best)
}

// await calls done until it is true. It says every few seconds what is lacking.
func (r *reshape) await(ctx context.Context, done func(map[string]*client.Status) (ok bool, lacking string)) error {
	told, last := time.Now(), ""
	for {
		all, err := r.each(ctx)
		lacking := ""
		if err == nil {
			var ok bool
			if ok, lacking = done(all); ok {
				return nil
			}
		} else {
			lacking = err.Error()
		}
		if lacking != last && time.Since(told) > 2*time.Second {
			fmt.Fprintln(r.out, "waiting: "+lacking)
			told, last = time.Now(), lacking
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w, while waiting: %s", ctx.Err(), lacking)
		case <-time.After(lookEvery):
		}
	}
}

// join makes the newcomers' nodes and waits until they have caught up. It returns their
// directories.
func (r *reshape) join(ctx context.Context, h *history) (dirs []string, err error) {
	if r.count == 0 {
		return nil, nil
	}
	d := &devnet{dir: r.dir, genesis: r.genesis}
	if err := errors.Join(d.find(), r.base(d)); err != nil {
		return nil, err
	}
	// A node that an earlier command added, and that was in no set yet, comes first.
	var fresh []*devNode
	for _, n := range d.nodes {
		if !h.ever[n.key] && len(dirs) < r.count {
			fresh, dirs = append(fresh, n), append(dirs, d.nodeDir(n.index))
			fmt.Fprintf(r.out, "%s: added before, in %s\n", n.name, d.nodeDir(n.index))
		}
	}
	made := len(fresh)
	first, err := d.count()
	if err != nil {
		return nil, err
	}
	end := first + r.count - made
	ports := portPicker{low: d.port, high: d.port + end}
	defer ports.close()
	for i := first; i < end; i++ {
		n := &devNode{index: i, name: nodeName(i)}
		c := node.DefaultConfig()
		c.Listen.Peer, c.Listen.Operations = "", ""
		if err := d.configure(n, c, &ports); err != nil {
			return nil, err
		}
		fresh = append(fresh, n)
	}
	ports.close()
	// The identities come last: the network starts a node whose identity is whole. The peers file
	// has to have all of them by then.
	for _, n := range fresh[made:] {
		if dir := d.nodeDir(n.index); !exists(filepath.Join(dir, "keys")) {
			// A command that was cut off may have left a vote store. Without keys it has no votes.
			if err := os.RemoveAll(filepath.Join(dir, "data")); err != nil {
				return nil, err
			}
		}
		public, err := initValidator(d.nodeDir(n.index), n.name)
		if err != nil {
			return nil, err
		}
		n.key = public.PublicKey
		dirs = append(dirs, d.nodeDir(n.index))
	}
	if err := editPeers(r.peers, func(f *peersfile.File) {
		for _, n := range fresh[made:] {
			entry := n.entry()
			entry.VoteStore = true
			f.Peers = append(f.Peers, entry)
		}
	}); err != nil {
		return nil, err
	}
	for _, n := range fresh[made:] {
		fmt.Fprintf(r.out, "%s: http://%s, in %s\n", n.name, n.config.Listen.Public, d.nodeDir(n.index))
	}
	return dirs, r.await(ctx, func(all map[string]*client.Status) (bool, string) {
		var behind []string
		for _, n := range fresh {
			if s := all[n.name]; s == nil || !s.CaughtUp || !s.VoteStore {
				behind = append(behind, n.name)
			}
		}
		return len(behind) == 0, strings.Join(behind, ", ") + " to catch up"
	})
}

// base finds the address that the public ports of the network are counted from.
func (r *reshape) base(d *devnet) error {
	for _, n := range r.network.Nodes {
		host, port, err := net.SplitHostPort(strings.TrimPrefix(n.HTTP, "http://"))
		if err != nil {
			return fmt.Errorf("network.json: %w", err)
		}
		index, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(n.Dir), "node"))
		if err != nil {
			return fmt.Errorf("network.json: %s: want a directory node0, node1, ...: %w", n.Dir, err)
		}
		if d.port, err = strconv.Atoi(port); err != nil {
			return fmt.Errorf("network.json: %w", err)
		}
		d.host, d.port = host, d.port-index
		return nil
	}
	return errors.New("network.json names no node")
}

// inForce waits until all nodes that answer have the next set, and returns the height of the
// change.
func (r *reshape) inForce(ctx context.Context, next *chain.NextSet) (uint64, error) {
	err := r.await(ctx, func(all map[string]*client.Status) (bool, string) {
		behind := 0
		var target *client.Target
		for _, s := range all {
			if s.Generation < next.Generation {
				behind++
			}
			if s.Target != nil && s.Target.Generation == next.Generation && (target == nil || s.Target.Endorsements > target.Endorsements) {
				target = s.Target
			}
		}
		text := fmt.Sprintf("%d of %d nodes have the next set", len(all)-behind, len(all))
		if target != nil {
			text += fmt.Sprintf("; endorsed by %d of %d needed, %d of %d needed of the next set linked",
				target.Endorsements, target.Needed, target.Linked, target.LinkedNeeded)
			if target.Problem != "" {
				text += "; " + target.Problem
			}
		}
		return behind == 0, text
	})
	if err != nil {
		return 0, err
	}
	h, err := r.history(ctx)
	if err != nil {
		return 0, err
	}
	newest := h.eras.Checkpoint()
	if h.now.Hash() != next.Hash() {
		return 0, fmt.Errorf("generation %d is another set than the one declared: %s", newest.Set.Generation, names(h.now.Validators))
	}
	return newest.Height, editPeers(r.peers, func(f *peersfile.File) {
		f.Target, f.Checkpoint = nil, &chain.Checkpoint{Height: newest.Height, Hash: newest.Hash}
	})
}

// drained is how long a node that leaves is waited for, until what it holds is ordered.
const drained = time.Minute

// part lets those go that are in the set no more, once it is safe: every validator that answers, a
// threshold at least, is above the change, all have the checkpoint, and what a leaver holds is
// final.
func (r *reshape) part(ctx context.Context, before, next *chain.NextSet, height uint64) error {
	_, leavers, _ := difference(before, next)
	if len(leavers) == 0 {
		return nil
	}
	begun := time.Now()
	err := r.await(ctx, func(all map[string]*client.Status) (bool, string) {
		above, held, unknown := 0, 0, 0
		for _, v := range next.Validators {
			s := all[v.Name]
			if s == nil {
				continue
			}
			if s.Height <= height || s.Checkpoint == nil || s.Checkpoint.Height < height {
				return false, v.Name + " to be above the change, with the checkpoint"
			}
			above++
		}
		for _, v := range leavers {
			switch s := all[v.Name]; {
			case s == nil, s.Pool.HeldMessages == nil: // it is down, or does not know yet that it has left
				unknown++
			default:
				held += *s.Pool.HeldMessages
			}
		}
		empty := held == 0 && unknown == 0 || time.Since(begun) > drained
		return above >= int(next.Threshold) && empty, fmt.Sprintf("the %d messages that leavers hold to be final", held)
	})
	if err != nil {
		return err
	}
	for _, n := range r.network.Nodes {
		if !slices.ContainsFunc(leavers, func(v chain.NamedValidator) bool { return v.Name == n.Name }) {
			continue
		}
		if err := os.WriteFile(filepath.Join(n.Dir, goneFile), []byte("This identity has left the network and does not come back.\n"), 0o644); err != nil {
			return err
		}
	}
	if err := editPeers(r.peers, func(f *peersfile.File) {
		f.Peers = slices.DeleteFunc(f.Peers, func(p peersfile.Entry) bool {
			return slices.ContainsFunc(leavers, func(v chain.NamedValidator) bool { return v.PublicKey == p.PublicKey })
		})
	}); err != nil {
		return err
	}
	// Those that diseq devnet started are stopped by it.
	if err := r.await(ctx, func(map[string]*client.Status) (bool, string) {
		var still []string
		for _, n := range r.network.Nodes {
			if slices.ContainsFunc(leavers, func(v chain.NamedValidator) bool { return v.Name == n.Name }) {
				still = append(still, n.Name)
			}
		}
		return len(still) == 0, strings.Join(still, ", ") + " to be stopped"
	}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(r.out, "%s left\n", names(leavers))
	return err
}
