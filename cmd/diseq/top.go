package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/internal/overview"
)

// showDashboard shows a network on a terminal until the user ends it. It is nil in programs that
// are built without the dashboard (see top_dashboard.go).
var showDashboard func(ctx context.Context, look func(context.Context) *overview.Network, in io.Reader, out io.Writer) error

// counted is how long a network is watched that is printed once: messages a second take a while.
const counted = time.Second

func newTop() *cobra.Command {
	var n nodes
	var form clientcmd.Output
	cmd := &cobra.Command{
		Use:   "top -u URL,...",
		Short: "Show a network on the terminal: who answers, votes, is behind, and what may fail",
		Long: `Show the nodes of a network side by side, renewed every second. For each node: whether it answers and votes, its height, how far
it is behind, the round and its leader, its votes in the last certificates, the messages that wait. For the network: messages a second,
the time from block to final, the last block, and how many more validators may fail. Sentences below say what is wrong.

Name all nodes: --url takes several. A node shows what it says of itself; the one in the middle, by height, speaks for the network. Times
compare the clocks of machines. With ? the dashboard explains its columns; q ends it.

Without a terminal, and with --output, the network is watched for a second and printed once. If no node answers, the exit code is 1 then.`,
		Example: "  diseq top -u http://127.0.0.1:18080,http://127.0.0.1:18081,http://127.0.0.1:18082,http://127.0.0.1:18083\n" +
			"  diseq top --context demo\n  diseq top -o json | jq '.nodes[] | select(.behind > 10)'",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := n.watch()
			if err != nil {
				return err
			}
			in, out := cmd.InOrStdin(), cmd.OutOrStdout()
			if showDashboard != nil && !cmd.Flags().Changed("output") && isTerminal(in) && isTerminal(out) {
				return showDashboard(cmd.Context(), w.Look, in, out)
			}
			return printOnce(cmd.Context(), w, form, out)
		},
	}
	n.register(cmd.Flags())
	cmd.Flags().Lookup("url").Usage = "the nodes, repeated or separated by commas ($DISEQ_URL)"
	form.Register(cmd, cmd.Flags(), clientcmd.Table)
	return cmd
}

// watch returns a watch of the nodes, each with a client of its own.
func (n *nodes) watch() (*overview.Watch, error) {
	if err := n.resolve(); err != nil {
		return nil, err
	}
	sources := make([]overview.Source, len(n.URLs))
	for i, url := range n.URLs {
		c, err := n.loadClient(url, false)
		if err != nil {
			return nil, err
		}
		sources[i] = c
	}
	return overview.New(n.URLs, sources), nil
}

func printOnce(ctx context.Context, w *overview.Watch, form clientcmd.Output, out io.Writer) error {
	network := w.Look(ctx)
	if network.Answering() > 0 {
		timer := time.NewTimer(counted)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		network = w.Look(ctx)
	}
	if err := form.Print(out, network, network.Table); err != nil {
		return err
	}
	return network.Unreachable()
}
