package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/node/chain"
	"github.com/diseq/diseq/node/store"
)

func newDB() *cobra.Command {
	var form clientcmd.Output
	cmd := &cobra.Command{
		Use:   "db",
		Short: "Read the data directory of a node",
		Long: `Read the data directory of a node, or a copy of it. It writes nothing, and a node may use the directory meanwhile.
docs/storage.md says what is in which file.`,
		Example: "  diseq db summary node0/data\n  diseq db block node0/data 7",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	form.Register(cmd, cmd.PersistentFlags(), clientcmd.Table)
	cmd.AddCommand(newDBSummary(&form), newDBBlock(&form), newDBWaiting(&form))
	return cmd
}

func newDBSummary(form *clientcmd.Output) *cobra.Command {
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
				return form.Print(cmd.OutOrStdout(), struct {
					ChainID     string     `json:"chain_id"`
					GenesisHash chain.Hash `json:"genesis_hash"`
					Height      uint64     `json:"height"`
					Waiting     int        `json:"waiting_batches"`
					Log         int64      `json:"log_bytes"`
					Scanned     int64      `json:"log_bytes_read_at_start"`
				}{v.ChainID, v.Genesis, v.Height, waiting, v.Log, v.Scanned}, nil)
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

func newDBBlock(form *clientcmd.Output) *cobra.Command {
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
				return form.Print(cmd.OutOrStdout(), struct {
					Hash     chain.Hash       `json:"header_hash"`
					Header   chain.Header     `json:"header"`
					Strength int              `json:"strength"`
					Batches  []chain.BatchRef `json:"batches"`
					Messages []storedMessage  `json:"messages"`
				}{f.Hash(), f.Header, f.Certificate.Strength(), f.Body, storedMessages(f.Messages)}, nil)
			})
		},
	}
}

func newDBWaiting(form *clientcmd.Output) *cobra.Command {
	return &cobra.Command{
		Use:   "waiting DATA",
		Short: "The batches that no block has taken, one a line",
		Long: `Print the batches that no block has taken, as they are read. In JSON each is a line, in YAML a document. The table has the number
of messages in the place of these.`,
		Example: "  diseq db waiting node0/data\n  diseq db waiting node0/data -o json | jq .hash",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			show := batchPrinter(cmd.OutOrStdout(), *form)
			return store.WithView(cmd.Context(), args[0], func(v *store.View) error {
				return v.Batches(cmd.Context(), func(b chain.StoredBatch) error {
					decoded, err := chain.DecodeBatch(b.Data, len(b.Data))
					if err != nil {
						return err
					}
					return show(waitingBatch{b.Hash, b.Author, b.Incarnation, b.Number, storedMessages(decoded.Messages)})
				})
			})
		},
	}
}

// waitingBatch is a batch that no block has taken, as it is printed.
type waitingBatch struct {
	Hash        chain.Hash      `json:"hash"`
	Author      chain.PublicKey `json:"author"`
	Incarnation uint64          `json:"incarnation"`
	Number      uint64          `json:"number"`
	Messages    []storedMessage `json:"messages"`
}

// batchPrinter returns what prints one batch after the other: all of them may not fit in memory.
func batchPrinter(w io.Writer, form clientcmd.Output) func(waitingBatch) error {
	if form != clientcmd.Table {
		return func(b waitingBatch) error { return form.PrintNext(w, b) }
	}
	const line = "%-64v   %-64v   %11v   %6v   %v\n" // hashes and keys have 64 digits
	headed := false
	return func(b waitingBatch) error {
		var err error
		if !headed {
			_, err = fmt.Fprintf(w, line, "HASH", "AUTHOR", "INCARNATION", "NUMBER", "MESSAGES")
			headed = true
		}
		_, more := fmt.Fprintf(w, line, b.Hash, b.Author, b.Incarnation, b.Number, len(b.Messages))
		return errors.Join(err, more)
	}
}
