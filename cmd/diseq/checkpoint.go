package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/internal/clientcmd"
)

func newCheckpoint() *cobra.Command {
	var r remote
	var from clientcmd.Trust
	var out string
	cmd := &cobra.Command{
		Use:   "checkpoint [-u URL] --genesis FILE | --checkpoint FILE",
		Short: "Write a document that readers can start from in the place of the genesis document",
		Long: `Follow the changes of a chain's validators, from the genesis document or an earlier checkpoint, and write the newest set as a
checkpoint. The node is not believed: each set is verified by the votes of the set before, and the newest block by the newest set.

A checkpoint is for readers, who trust it as they trust the genesis document: diseq verify --checkpoint. With it receipts stay short, and
keys that are stolen from validators after they left prove nothing. Make one after each change, and publish it where the genesis document
is published.

A node that hides the newest changes makes an old checkpoint, not a wrong one: compare the height with that of other nodes.`,
		Example: "  diseq checkpoint --genesis genesis.json -o checkpoint.json\n" +
			"  diseq checkpoint --checkpoint checkpoint.json -u http://127.0.0.1:18081 > newer.json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			eras, _, err := from.Read()
			if err != nil {
				return err
			}
			c, err := r.open(cmd.ErrOrStderr(), cmd.CommandPath())
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), r.timeout)
			defer cancel()
			reader := c.Follow(eras)
			if _, err := reader.Update(ctx); err != nil {
				return err
			}
			latest, err := c.LatestBlock(ctx)
			if err != nil {
				return err
			}
			// A chain that has just started has no block that could be verified with a checkpoint.
			if latest.Header.Height > eras.Checkpoint().Height {
				if err := reader.Verify(ctx, latest, 0); err != nil {
					return clientcmd.NotVerified(err)
				}
			}
			if out == "" || out == "-" {
				return clientcmd.PrintJSON(cmd.OutOrStdout(), eras.Checkpoint())
			}
			return writeJSON(out, eras.Checkpoint())
		},
	}
	r.register(cmd.Flags())
	from.Register(cmd.Flags())
	cmd.Flags().StringVarP(&out, "output", "o", "", "the file to write, which is replaced; by default the standard output")
	return cmd
}
