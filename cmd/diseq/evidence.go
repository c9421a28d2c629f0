package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/store"
)

func newEvidenceFind() *cobra.Command {
	var genesis string
	cmd := &cobra.Command{
		Use:   "find DATA DATA ... --genesis FILE",
		Short: "Find the evidence of a fork in the data directories of nodes",
		Long: `Find evidence of a fork offline. Each DATA is the data directory of a node that has stopped, or a copy of it. Where two of
them have different final blocks at a height, the votes behind the two blocks show which validators signed twice. The evidence
is printed as JSON, for diseq evidence verify.`,
		Example: "  diseq evidence find v0/data v1/data v2/data --genesis genesis.json > evidence.json\n" +
			"  diseq evidence verify evidence.json --genesis genesis.json",
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			g, err := clientcmd.ReadGenesis(genesis)
			if err != nil {
				return err
			}
			stores := make([]*store.Store, len(args))
			for i, dir := range args {
				if _, err := os.Stat(filepath.Join(dir, "blocks.db")); err != nil {
					return fmt.Errorf("no node has run in %s: name the data directory of a node: %w", dir, err)
				}
				if stores[i], err = store.Open(dir, g, store.Options{}); err != nil {
					return fmt.Errorf("%s: %w", dir, err)
				}
				defer func() { err = errors.Join(err, stores[i].Close()) }()
			}
			found, err := findEvidence(cmd.Context(), g, stores)
			if err != nil {
				return err
			}
			return clientcmd.PrintJSON(cmd.OutOrStdout(), map[string]any{evidenceName: found})
		},
	}
	cmd.Flags().StringVar(&genesis, "genesis", "", "the genesis document")
	return cmd
}

// findEvidence compares every two chains and pairs the votes at the heights at which they part.
func findEvidence(ctx context.Context, g *chain.Genesis, stores []*store.Store) ([]*chain.EvidenceDocument, error) {
	heights := map[uint64]bool{}
	shared := stores[0].Height()
	for i, a := range stores {
		for _, b := range stores[:i] {
			common := min(a.Height(), b.Height())
			shared = min(shared, common)
			height, err := parting(ctx, a, b, common)
			if err != nil {
				return nil, err
			}
			if height <= common {
				heights[height] = true
			}
		}
	}
	if len(heights) == 0 {
		return nil, fmt.Errorf("no fork: the directories have the same blocks up to height %d", shared)
	}
	type accusation struct {
		chain.Evidence
		changes []chain.ValidatorSetChange
	}
	var found []accusation
	for height := range heights {
		// Below it the chains are the same: any of them tells the set of this height.
		eras, changes, err := follow(ctx, g, stores[slices.IndexFunc(stores, func(s *store.Store) bool { return s.Height() >= height })], height)
		if err != nil {
			return nil, err
		}
		set, err := eras.SetAt(height)
		if err != nil {
			return nil, err
		}
		votes, known := []chain.Vote(nil), map[chain.Vote]bool{}
		for _, s := range stores {
			certificates, err := behind(ctx, s, height)
			if err != nil {
				return nil, err
			}
			for _, c := range certificates {
				for i := range c.Votes {
					if v := c.Vote(i); !known[v] {
						known[v] = true
						votes = append(votes, v)
					}
				}
			}
		}
		for i, a := range votes {
			for _, b := range votes[:i] {
				if e, ok := chain.NewEvidence(g.ChainID, set, a, b); ok && e.Verify(g.ChainID, set) == nil {
					found = append(found, accusation{e, changes})
				}
			}
		}
	}
	slices.SortFunc(found, func(a, b accusation) int { return bytes.Compare(a.Encode(), b.Encode()) })
	out := make([]*chain.EvidenceDocument, len(found))
	for i := range found {
		out[i] = found[i].Document(found[i].changes)
	}
	return out, nil
}

// follow returns the validator sets of a chain up to a height, with the changes that lead there.
// The hash of each set stands in the headers of its heights, so that few of them are read.
func follow(ctx context.Context, g *chain.Genesis, s *store.Store, height uint64) (*chain.Eras, []chain.ValidatorSetChange, error) {
	eras, changes := g.Eras(), []chain.ValidatorSetChange(nil)
	for {
		now := eras.Checkpoint()
		hash := now.Set.Hash()
		var failed error
		n := sort.Search(int(height-1-now.Height), func(i int) bool {
			b, err := s.Head(ctx, now.Height+1+uint64(i))
			if err != nil {
				failed = errors.Join(failed, err)
				return true
			}
			return b.Header.NextValidatorsHash != hash
		})
		at := now.Height + 1 + uint64(n)
		if failed != nil || at >= height {
			return eras, changes, failed
		}
		b, err := s.Head(ctx, at)
		if err != nil {
			return nil, nil, err
		}
		c, err := s.Certificate(ctx, at)
		if err != nil {
			return nil, nil, err
		}
		final, err := chain.NewFinalChange(b, c)
		if err != nil {
			return nil, nil, err
		}
		entry, err := final.Entry()
		if err == nil {
			err = eras.Follow(entry)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("block %d: %w", at, err)
		}
		changes = append(changes, entry)
	}
}

// parting returns the lowest height at which two chains have different blocks, common+1 if they are
// the same up to a common height. Above a fork every block differs, for each names the one below.
func parting(ctx context.Context, a, b *store.Store, common uint64) (height uint64, err error) {
	n := sort.Search(int(common), func(i int) bool {
		x, errA := a.Head(ctx, uint64(i)+1)
		y, errB := b.Head(ctx, uint64(i)+1)
		if errA != nil || errB != nil {
			err = errors.Join(err, errA, errB)
			return true
		}
		return x.Hash() != y.Hash()
	})
	return uint64(n) + 1, err
}

// behind returns the certificates that a node has stored with the block of a height; none above its
// newest block.
func behind(ctx context.Context, s *store.Store, height uint64) ([]*chain.Certificate, error) {
	if height > s.Height() {
		return nil, nil
	}
	final, err := s.Certificate(ctx, height)
	if err != nil {
		return nil, err
	}
	earlier, err := s.Justification(ctx, height)
	return append(earlier, final), err
}
