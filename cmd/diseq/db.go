package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/store"
)

func newDB() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "db",
		Short: "Read the data directory of a node",
		Long: `Read the data directory of a node, or a copy of it. It writes nothing, and a node may use the directory meanwhile.
docs/storage.md says what is in which file.`,
		Example: "  diseq db summary node0/data\n  diseq db block node0/data 7",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDBSummary(), newDBBlock(), newDBWaiting())
	return cmd
}

func newDBSummary() *cobra.Command {
	return &cobra.Command{
		Use:     "summary DATA",
		Short:   "The chain, its height, and what waits",
		Example: "  diseq db summary node0/data",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return store.WithView(cmd.Context(), args[0], func(v *store.View) error {
				waiting, err := v.Waiting(cmd.Context())
				if err != nil {
					return err
				}
				return clientcmd.PrintJSON(cmd.OutOrStdout(), struct {
					ChainID     string     `json:"chain_id"`
					GenesisHash chain.Hash `json:"genesis_hash"`
					Height      uint64     `json:"height"`
					Waiting     int        `json:"waiting_batches"`
					Log         int64      `json:"log_bytes"`
					Scanned     int64      `json:"log_bytes_read_at_start"`
				}{v.ChainID, v.Genesis, v.Height, waiting, v.Log, v.Scanned})
			})
		},
	}
}

// storedMessage is a message of a data directory as it is printed.
type storedMessage struct {
	ID        chain.Hash `json:"id"`
	Timestamp uint32     `json:"timestamp"`
	Data      []byte     `json:"data"`
}

func storedMessages(messages []chain.Message) []storedMessage {
	out := make([]storedMessage, len(messages))
	for i, m := range messages {
		out[i] = storedMessage{m.ID(), m.Timestamp, m.Data}
	}
	return out
}

func newDBBlock() *cobra.Command {
	return &cobra.Command{
		Use:     "block DATA HEIGHT",
		Short:   "A final block with its messages",
		Example: "  diseq db block node0/data 7",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			height, err := parseHeight(args[1])
			if err != nil {
				return err
			}
			return store.WithView(cmd.Context(), args[0], func(v *store.View) error {
				f, err := v.Block(cmd.Context(), height)
				if err != nil {
					return err
				}
				return clientcmd.PrintJSON(cmd.OutOrStdout(), struct {
					Hash     chain.Hash       `json:"header_hash"`
					Header   chain.Header     `json:"header"`
					Strength int              `json:"strength"`
					Batches  []chain.BatchRef `json:"batches"`
					Messages []storedMessage  `json:"messages"`
				}{f.Hash(), f.Header, f.Certificate.Strength(), f.Body, storedMessages(f.Messages)})
			})
		},
	}
}

func newDBWaiting() *cobra.Command {
	return &cobra.Command{
		Use:     "waiting DATA",
		Short:   "The batches that no block has taken, one a line",
		Example: "  diseq db waiting node0/data",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := json.NewEncoder(cmd.OutOrStdout())
			return store.WithView(cmd.Context(), args[0], func(v *store.View) error {
				return v.Batches(cmd.Context(), func(b chain.StoredBatch) error {
					decoded, err := chain.DecodeBatch(b.Data, len(b.Data))
					if err != nil {
						return err
					}
					return out.Encode(struct {
						Hash        chain.Hash      `json:"hash"`
						Author      chain.PublicKey `json:"author"`
						Incarnation uint64          `json:"incarnation"`
						Number      uint64          `json:"number"`
						Messages    []storedMessage `json:"messages"`
					}{b.Hash, b.Author, b.Incarnation, b.Number, storedMessages(decoded.Messages)})
				})
			})
		},
	}
}
