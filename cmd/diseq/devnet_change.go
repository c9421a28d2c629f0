package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/internal/document"
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
				return clientcmd.Usagef("--count %d: want 1 to %d", r.count, chain.MaxValidators)
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
		return clientcmd.Usagef("--dir is required")
	}
	if r.timeout <= 0 {
		return clientcmd.Usagef("--timeout %v: want more than 0", r.timeout)
	}
	var err error
	if r.dir, err = filepath.Abs(r.dir); err != nil {
		return err
	}
	r.out, r.peers = cmd.OutOrStdout(), filepath.Join(r.dir, "peers.json")
	if r.genesis, err = clientcmd.ReadGenesis(filepath.Join(r.dir, "genesis.json")); err != nil {
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
		return clientcmd.Usagef("a network keeps one validator at least: diseq devnet replace puts new ones in the place of all")
	}
	if r.count > 0 && r.threshold == "" && !r.replace { // before any file is made
		if _, err := threshold("", h.now, len(h.now.Validators)+r.count); err != nil {
			return err
		}
	}
	for _, name := range leave { // as well
		if !slices.ContainsFunc(h.now.Validators, func(v chain.NamedValidator) bool { return v.Name == name }) {
			return clientcmd.Usagef("%q is not a validator of generation %d: those are %s", name, h.now.Generation, names(h.now.Validators))
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
	t, err := e.apply(h.now, h.eras.ChainID())
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
	if err := h.report(next, file).print(r.out); err != nil {
		return err
	}
	if err := editPeers(r.peers, func(f *peersfile.File) { f.Target = t }); err != nil {
		return err
	}
	begun := time.Now()
	height, err := r.inForce(ctx, next)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "generation %d is in force above block %d, %.1f s after it was declared\n",
		next.Generation, height, time.Since(begun).Seconds())
	return r.part(ctx, h.now, next, height)
}

// each asks every node of the network for its status. A node that does not answer is left out.
func (r *reshape) each(ctx context.Context) (map[string]*client.Status, error) {
	raw, err := os.ReadFile(filepath.Join(r.dir, "network.json"))
	if err != nil {
		return nil, fmt.Errorf("the network does not run: %w: start it with diseq devnet --dir %s", err, shellQuote(r.dir))
	}
	r.network = networkFile{}
	if err := document.UnmarshalAnswer(raw, &r.network); err != nil {
		return nil, fmt.Errorf("network.json: %w: diseq devnet writes it at each start", err)
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
			from.URLs, from.timeout = []string{n.HTTP}, r.timeout
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
