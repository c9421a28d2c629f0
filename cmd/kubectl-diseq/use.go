package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/api/v1alpha1"
	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/node/chain"
)

func (a *app) newSubmit() *cobra.Command {
	var n nodes
	var wait, lines bool
	var linger time.Duration
	cmd := &cobra.Command{
		Use:   "submit FILE|-",
		Short: "Submit messages",
		Long: `Submit a file, or the standard input, as one message. With --lines, submit each line that is not empty as a message.

The command prints the ids, one a line, once the messages are durable. With --wait it waits until the messages are final and prints a
receipt for each, one line of JSON a message. kubectl diseq verify checks these receipts offline.

Submitting is safe to repeat, so the command does: for --timeout it tries again when a validator restarts or has no room. Two equal
payloads are one message, for ever: add a nonce to send two messages with the same content.`,
		Example: "  echo \"order 1 $(date +%s.%N)\" | kubectl diseq submit -\n" +
			"  kubectl diseq submit --lines --wait orders.txt > receipts.jsonl\n" +
			"  kubectl diseq submit -n chain --network demo --service-account pay/api --ca-file ca.crt message",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if linger < 0 {
				return clientcmd.Usagef("--linger %v: want 0 or more", linger)
			}
			return n.use(cmd, a, v1alpha1.SubmitRight, func(ctx context.Context, c *client.Client) error {
				s := &clientcmd.Submission{Client: c, Wait: wait, Timeout: n.timeout, Linger: linger, Out: bufio.NewWriter(cmd.OutOrStdout())}
				if lines {
					return s.Lines(ctx, args[0], cmd.InOrStdin())
				}
				return s.Whole(ctx, args[0], cmd.InOrStdin())
			})
		},
	}
	n.register(a, cmd)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the messages are final and print receipts")
	cmd.Flags().BoolVar(&lines, "lines", false, "submit each line as a message")
	cmd.Flags().DurationVar(&linger, "linger", 100*time.Millisecond, "with --lines, how long a line waits for others to share its request")
	return cmd
}

func (a *app) newTail() *cobra.Command {
	var n nodes
	var from, count uint64
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Follow the final blocks as they come",
		Long: `Print final blocks, one line of JSON each, in order and without a gap: from --from on, then each new one as it becomes final.
Without --from it prints new blocks only. If the connection breaks, it goes on where it was, at another validator. Ctrl-C ends it.`,
		Example: "  kubectl diseq tail --from 1 --count 10 | jq .header.height",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("from") {
				from = client.Live
			}
			return n.use(cmd, a, v1alpha1.ReadRight, func(ctx context.Context, c *client.Client) error {
				return clientcmd.Tail(ctx, c, from, count, cmd.OutOrStdout())
			})
		},
	}
	n.register(a, cmd)
	cmd.Flags().Uint64Var(&from, "from", 0, "the first height; by default only new blocks")
	cmd.Flags().Uint64Var(&count, "count", 0, "how many blocks to print; 0 for no end")
	return cmd
}

func (a *app) newReceipt() *cobra.Command {
	var n nodes
	cmd := &cobra.Command{
		Use:     "receipt ID",
		Short:   "Print the receipt of a final message",
		Long:    "Print the receipt of a final message as JSON. It is a validator's word until kubectl diseq verify has checked it.",
		Example: "  kubectl diseq receipt ID > receipt.json\n  kubectl diseq receipt ID | kubectl diseq verify -",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := chain.ParseHash(args[0])
			if err != nil {
				return clientcmd.Usage(err)
			}
			return n.use(cmd, a, v1alpha1.ReadRight, func(ctx context.Context, c *client.Client) error {
				ctx, cancel := context.WithTimeout(ctx, n.timeout)
				defer cancel()
				r, err := c.Receipt(ctx, id)
				if err != nil {
					return err
				}
				return clientcmd.PrintJSON(cmd.OutOrStdout(), r)
			})
		},
	}
	n.register(a, cmd)
	return cmd
}

func (a *app) newVerify() *cobra.Command {
	var from clientcmd.Trust
	var network string
	var strength int
	cmd := &cobra.Command{
		Use:   "verify FILE|-",
		Short: "Verify receipts, blocks and proofs",
		Long: `Verify receipts, blocks and proofs, as diseq verify does. The file holds one document or several, one after the other. The command
prints one verdict for each, and exits with 0 if every document is verified.

With --genesis or --checkpoint it asks nobody. Without them it believes the genesis document in the ConfigMap of the network. The
administrator of the cluster could have put another chain there.`,
		Example: "  kubectl diseq verify receipt.json --genesis genesis.json\n  kubectl diseq receipt ID | kubectl diseq verify -",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strength < 0 || strength > chain.MaxValidators {
				return clientcmd.Usagef("--strength %d: want 0 to %d signatures", strength, chain.MaxValidators)
			}
			eras, err := a.trusted(cmd, &from, network)
			if err != nil {
				return err
			}
			in, err := clientcmd.OpenInput(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			defer func() { _ = in.Close() }() // it was only read
			return clientcmd.VerifyAll(cmd.OutOrStdout(), &clientcmd.Verifier{Eras: eras, Strength: strength}, args[0], in)
		},
	}
	from.Register(cmd.Flags())
	cmd.Flags().StringVar(&network, "network", "", "the network; by default the only one of the namespace")
	cmd.Flags().IntVar(&strength, "strength", 0, "the least number of signatures; 0 for the chain's threshold")
	_ = cmd.RegisterFlagCompletionFunc("network", a.completeNetworks) // the flag is there
	return cmd
}

// trusted is what a reader believes: files that he names, else the genesis document of the cluster.
func (a *app) trusted(cmd *cobra.Command, from *clientcmd.Trust, name string) (*chain.Eras, error) {
	if from.Genesis != "" || from.Checkpoint != "" {
		if name != "" {
			return nil, clientcmd.Usagef("--network is for the genesis document of the cluster: leave it out with --genesis or --checkpoint")
		}
		eras, _, err := from.Read()
		return eras, err
	}
	k, err := a.connect()
	if err != nil {
		return nil, err
	}
	network, err := k.network(cmd.Context(), name)
	if err != nil {
		return nil, err
	}
	document, err := k.genesis(cmd.Context(), network)
	if err != nil {
		return nil, err
	}
	g, err := chain.ReadGenesis(document)
	if err != nil {
		return nil, fmt.Errorf("ConfigMap %s-genesis: %w", network.Name, err)
	}
	if network.Status.GenesisHash != "" && g.Hash().String() != network.Status.GenesisHash {
		return nil, errors.New("the genesis document in the ConfigMap is not the one that the status of the network names: " +
			"verify with --genesis and a copy that you trust")
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "believing the genesis document of the cluster: ConfigMap %s-genesis, chain %s\n",
		network.Name, g.ChainID)
	return g.Eras(), err
}
