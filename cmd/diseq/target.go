package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/internal/document"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/peersfile"
)

func newTarget() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "target",
		Short: "Say which validators a chain is to have next, and check it",
		Long: `The validators of a chain change when a threshold of them declares the same target: the next set, in the peers file of each node. A
node reads its peers file again without a restart.

- diseq target make makes a target from the present validators and the public.json of newcomers.
- diseq target check says what a target changes and tolerates, and how far it is.
- diseq target clear removes a target that is in force, and records the change as the checkpoint of the peers file.

Every organisation declares the target in the peers files of its own nodes. The hash that make and check print is the same for all of
them exactly if they declare the same.`,
		Example: "  diseq target make --genesis genesis.json --add v4/keys/public.json --threshold two-thirds --peers peers.json\n" +
			"  diseq target check --genesis genesis.json --peers peers.json",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return clientcmd.Usagef("say what to do with it: make, check or clear")
		},
	}
	cmd.AddCommand(newTargetMake(), newTargetCheck(), newTargetClear())
	return cmd
}

// A roll tells which validators a chain has and had.
type roll struct {
	remote
	genesis, changes string
}

func (r *roll) register(f *pflag.FlagSet) {
	r.remote.register(f)
	f.StringVar(&r.genesis, "genesis", "", "the genesis document")
	f.StringVar(&r.changes, "changes", "", "a file that diseq get changes wrote; then no node is asked")
}

// A history is the sets of a chain with the names of their members, verified from genesis.
type history struct {
	eras       *chain.Eras
	now        *chain.NextSet
	identities *chain.Identities
	// ever has the keys of all that are or were members.
	ever map[chain.PublicKey]bool
	// status is what the node says of itself; nil if no node was asked.
	status *client.Status
}

// read follows the changes from the genesis document: those of a file, or those of the node.
func (r *roll) read(ctx context.Context, stderr io.Writer, command string) (*history, error) {
	g, err := clientcmd.ReadGenesis(r.genesis)
	if err != nil {
		return nil, err
	}
	h := &history{eras: g.Eras(), identities: chain.NewIdentities(g.First()), ever: map[chain.PublicKey]bool{}}
	h.enter(g.First())
	var changes []chain.FinalChange
	if r.changes != "" {
		raw, err := clientcmd.ReadLimited(r.changes, nil, clientcmd.MaxReceiptBytes)
		if err != nil {
			return nil, err
		}
		var page struct {
			Changes []chain.FinalChange `json:"changes"`
		}
		if err := document.UnmarshalAnswer(raw, &page); err != nil {
			return nil, fmt.Errorf("%s: %w: %w", r.changes, chain.ErrMalformed, err)
		}
		return h, h.follow(page.Changes)
	}
	c, err := r.open(stderr, command)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	if changes, err = allChanges(ctx, c, 1); err != nil {
		return nil, err
	}
	if err := h.follow(changes); err != nil {
		return nil, err
	}
	if h.status, err = c.Status(ctx); err != nil {
		return nil, err
	}
	if h.status.ChainID != g.ChainID {
		return nil, fmt.Errorf("the node is of chain %q, the genesis document of %q: name a node of that chain with --url",
			h.status.ChainID, g.ChainID)
	}
	return h, nil
}

func (h *history) follow(changes []chain.FinalChange) error {
	for i := range changes {
		if err := h.eras.FollowFinal(changes[i]); err != nil {
			return clientcmd.NotVerified(err)
		}
		h.enter(&changes[i].Next)
	}
	return nil
}

func (h *history) enter(set *chain.NextSet) {
	h.now = set
	h.identities.Add(set)
	for _, v := range set.Validators {
		h.ever[v.PublicKey] = true
	}
}

// next returns the set that a target asks for, or why it cannot follow the present one.
func (h *history) next(t *chain.Target) (*chain.NextSet, error) {
	set := h.now.Set()
	if t.Follows != set.Generation {
		return nil, fmt.Errorf("the target follows generation %d, and generation %d is in force: make it again with diseq target make",
			t.Follows, set.Generation)
	}
	next := t.Next(set.SynchronyDeltaMS)
	if err := next.Validate(); err != nil {
		return nil, err
	}
	return next, h.identities.Check(h.now, next)
}

func newTargetMake() *cobra.Command {
	var r roll
	var e edit
	var peers string
	cmd := &cobra.Command{
		Use:   "make --genesis FILE [--add FILE] [--remove NAME] [--replace NAME=FILE] [--threshold T] [--peers FILE]",
		Short: "Make a target from the present validators",
		Long: `Make a target: the present validators, with those of --add, without those of --remove, and with those of --replace in the place of
others. The present validators are read from the node, and verified from the genesis document; with --changes they are read from a file.
FILE is the public.json of an identity that diseq init made. A name or key that was ever in a set of the chain cannot come back.

--threshold is a number, majority (n/2+1: the most validators may be down) or two-thirds (2n/3+1: safe with fewer than a third Byzantine on
any network). Without it the threshold follows the rule of the two that the present one follows; where it follows both, as 3 of 4 does,
two-thirds.

The report on the standard error says what the target changes and tolerates, and warns. With --peers the target is written into the
peers file, and the rest of the file stays. Without it the target is printed.

--keep makes a target of the present validators. It takes back a target that was endorsed and is not in force yet.`,
		Example: "  diseq target make --genesis genesis.json --add v4.json --add v5.json --threshold two-thirds --peers peers.json\n" +
			"  diseq target make --genesis genesis.json --replace v2=v7.json\n" +
			"  diseq target make --genesis genesis.json --keep --peers peers.json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := r.read(cmd.Context(), cmd.ErrOrStderr(), cmd.CommandPath())
			if err != nil {
				return err
			}
			t, err := e.apply(h.now, h.eras.ChainID())
			if err != nil {
				return err
			}
			next, err := h.next(t)
			if err != nil {
				return clientcmd.Usage(err)
			}
			var file *peersfile.File
			if peers != "" {
				if file, err = peersfile.Read(peers); err != nil {
					return err
				}
			}
			if err := h.report(next, file).print(cmd.ErrOrStderr()); err != nil {
				return err
			}
			if peers == "" {
				return clientcmd.PrintJSON(cmd.OutOrStdout(), t)
			}
			return editPeers(peers, func(f *peersfile.File) { f.Target = t })
		},
	}
	r.register(cmd.Flags())
	f := cmd.Flags()
	f.StringSliceVar(&e.add, "add", nil, "the public.json of a newcomer; may be repeated")
	f.StringSliceVar(&e.remove, "remove", nil, "the name or public key of a validator that leaves; may be repeated")
	f.StringSliceVar(&e.replace, "replace", nil,
		"NAME=FILE: a validator that leaves and the public.json of the one in its place; may be repeated")
	f.StringVar(&e.threshold, "threshold", "", "a number, majority or two-thirds")
	f.BoolVar(&e.keep, "keep", false, "keep the present validators")
	f.StringVar(&peers, "peers", "", "the peers file to write the target into")
	return cmd
}

// edit says how the next set differs from the present one.
type edit struct {
	add, remove, replace []string
	threshold            string
	keep                 bool
}

func (e *edit) apply(now *chain.NextSet, chainID string) (*chain.Target, error) {
	changes := len(e.add) + len(e.remove) + len(e.replace)
	if e.threshold != "" {
		changes++
	}
	if e.keep == (changes > 0) {
		return nil, clientcmd.Usagef("say what changes: --add, --remove, --replace or --threshold; " +
			"or --keep to take back what is not in force yet")
	}
	t := &chain.Target{Follows: now.Generation, Validators: slices.Clone(now.Validators)}
	find := func(who string) (int, error) {
		i := slices.IndexFunc(t.Validators, func(v chain.NamedValidator) bool { return v.Name == who || v.PublicKey.String() == who })
		if i < 0 {
			return 0, clientcmd.Usagef("%q is not a validator of generation %d: those are %s", who, now.Generation, names(now.Validators))
		}
		return i, nil
	}
	for _, who := range e.remove {
		i, err := find(who)
		if err != nil {
			return nil, err
		}
		t.Validators = slices.Delete(t.Validators, i, i+1)
	}
	for _, pair := range e.replace {
		who, path, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, clientcmd.Usagef("--replace %q: want NAME=FILE", pair)
		}
		i, err := find(who)
		if err != nil {
			return nil, err
		}
		if t.Validators[i], err = readProven(path, chainID); err != nil {
			return nil, err
		}
	}
	for _, path := range e.add {
		v, err := readProven(path, chainID)
		if err != nil {
			return nil, err
		}
		t.Validators = append(t.Validators, v)
	}
	var err error
	t.Threshold, err = threshold(e.threshold, now, len(t.Validators))
	return t, err
}

// rules are those that a threshold may follow, for n validators.
var rules = []struct {
	name string
	of   func(n int) int
}{
	{"majority", func(n int) int { return n/2 + 1 }}, {"two-thirds", func(n int) int { return 2*n/3 + 1 }},
}

// threshold returns the one that is asked for with n validators. If none is asked for, it follows
// the rule of the present one.
func threshold(asked string, now *chain.NextSet, n int) (uint32, error) {
	for _, rule := range rules {
		if asked == rule.name {
			return uint32(rule.of(n)), nil
		}
	}
	if asked != "" {
		t, err := strconv.ParseUint(asked, 10, 32)
		if err != nil || 2*t <= uint64(n) || t > uint64(n) {
			return 0, clientcmd.Usagef("--threshold %q with %d validators: want a number from %d to %d, majority or two-thirds", asked, n, n/2+1, n)
		}
		return uint32(t), nil
	}
	before := len(now.Validators)
	if n == before {
		return now.Threshold, nil
	}
	for _, rule := range slices.Backward(rules) {
		if rule.of(before) == int(now.Threshold) {
			return uint32(rule.of(n)), nil
		}
	}
	return 0, clientcmd.Usagef("the present threshold, %d of %d, is neither majority nor two-thirds: "+
		"say with --threshold which one %d validators are to have", now.Threshold, before, n)
}

func names(validators []chain.NamedValidator) string { return strings.Join(listed(validators), ", ") }

func newTargetCheck() *cobra.Command {
	var r roll
	var peers string
	var form clientcmd.Output
	cmd := &cobra.Command{
		Use:   "check --genesis FILE --peers FILE",
		Short: "Say what the target of a peers file changes, and how far it is",
		Long: `Compare the target of a peers file with the present validators, and say what it changes and tolerates. If a node is asked, the
command also says who has endorsed this target, and who has endorsed another one. It exits with 1 if there is no target, or if the
chain does not allow it.`,
		Example: "  diseq target check --genesis genesis.json --peers peers.json\n" +
			"  diseq target check --genesis genesis.json --changes changes.json --peers peers.json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if peers == "" {
				return clientcmd.Usagef("--peers is required")
			}
			file, err := peersfile.Read(peers)
			if err != nil {
				return err
			}
			h, err := r.read(cmd.Context(), cmd.ErrOrStderr(), cmd.CommandPath())
			if err != nil {
				return err
			}
			if file.Target == nil {
				return fmt.Errorf("%s declares no target; generation %d is in force: %s; diseq target make --peers writes a target",
					peers, h.now.Generation, names(h.now.Validators))
			}
			if err := h.inForce(file.Target); err != nil {
				return fmt.Errorf("%s: %w", peers, err)
			}
			next, err := h.next(file.Target)
			if err != nil {
				return fmt.Errorf("%s: %w", peers, err)
			}
			report := h.report(next, file)
			return form.Print(cmd.OutOrStdout(), report, report.print)
		},
	}
	r.register(cmd.Flags())
	form.Register(cmd, cmd.Flags(), clientcmd.Table)
	cmd.Flags().StringVar(&peers, "peers", "", "the peers file")
	return cmd
}

// inForce returns an error that says so if a target is the present set.
func (h *history) inForce(t *chain.Target) error {
	if next := t.Next(h.now.SynchronyDeltaMS); next.Hash() == h.now.Hash() {
		return fmt.Errorf("the target is in force since block %d: diseq target clear removes it", h.eras.Checkpoint().Height)
	}
	return nil
}

func newTargetClear() *cobra.Command {
	var r roll
	var peers string
	cmd := &cobra.Command{
		Use:   "clear --genesis FILE --peers FILE",
		Short: "Remove a target that is in force, and record the checkpoint",
		Long: `Remove the target of a peers file, and record the last change of the validators as the checkpoint of the file. The change is
verified from the genesis document.

The checkpoint protects nodes that are behind or new: the keys of validators that have left could be stolen, and forge blocks below it.
Record it on every node before a validator that has left is stopped.

A target that is not in force yet is not removed: members may have endorsed it, and what is endorsed may still be ordered. Take it back
with diseq target make --keep.`,
		Example: "  diseq target clear --genesis genesis.json --peers peers.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if peers == "" {
				return clientcmd.Usagef("--peers is required")
			}
			file, err := peersfile.Read(peers)
			if err != nil {
				return err
			}
			h, err := r.read(cmd.Context(), cmd.ErrOrStderr(), cmd.CommandPath())
			if err != nil {
				return err
			}
			if t := file.Target; t != nil && t.Follows >= h.now.Generation {
				return fmt.Errorf("%s: the target follows generation %d and is not in force: take it back with diseq target make --keep",
					peers, t.Follows)
			}
			newest := h.eras.Checkpoint()
			if c := file.Checkpoint; c != nil && c.Height > newest.Height {
				return fmt.Errorf("%s: its checkpoint is at height %d, the newest change that is known here is at height %d: ask another node",
					peers, c.Height, newest.Height)
			}
			if err := editPeers(peers, func(f *peersfile.File) {
				f.Target = nil
				if newest.Height > 0 {
					f.Checkpoint = &chain.Checkpoint{Height: newest.Height, Hash: newest.Hash}
				}
			}); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: no target; checkpoint at block %d, %v, generation %d\n",
				peers, newest.Height, newest.Hash, newest.Set.Generation)
			return err
		},
	}
	r.register(cmd.Flags())
	cmd.Flags().StringVar(&peers, "peers", "", "the peers file")
	return cmd
}

// errChanged says that somebody else wrote a file while it was edited.
var errChanged = errors.New("the file was changed meanwhile: try again")
