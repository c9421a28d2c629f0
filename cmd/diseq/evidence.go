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
			g, err := readGenesis(genesis)
			if err != nil {
				return err
			}
			stores := make([]*store.Store, len(args))
			for i, dir := range args {
				if _, err := os.Stat(filepath.Join(dir, "blocks.db")); err != nil {
					return fmt.Errorf("no node has run in %s: %w", dir, err)
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
			return printJSON(cmd.OutOrStdout(), map[string]any{"evidence": found})
		},
	}
	cmd.Flags().StringVar(&genesis, "genesis", "", "the genesis document")
	return cmd
}

// findEvidence compares every two chains and pairs the votes at the heights at which they part.
func findEvidence(ctx context.Context, g *chain.Genesis, stores []*store.Store) ([]chain.Evidence, error) {
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
	set, votes, known := g.Set(), []chain.Vote(nil), map[chain.Vote]bool{}
	for height := range heights {
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
	}
	found := []chain.Evidence{}
	for i, a := range votes {
		for _, b := range votes[:i] {
			if e, ok := chain.NewEvidence(g.ChainID, set, a, b); ok && e.Verify(g.ChainID, set) == nil {
				found = append(found, e)
			}
		}
	}
	slices.SortFunc(found, func(a, b chain.Evidence) int { return bytes.Compare(a.Encode(), b.Encode()) })
	return found, nil
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
