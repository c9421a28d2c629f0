package main

import (
	"context"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/diseq/diseq/client"
	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/node/chain"
)

// gets are the subcommands of get, and how each of them reads. An argument in brackets may be left
// out: it is empty then.
var gets = []struct {
	use, short, example string
	read                func(ctx context.Context, c *client.Client, q query) (any, error)
}{
	{"message ID", "The state of a message", "message 28dadf62a2991e506bb60a90b5afbb5df16c9d7ae0fe9d3074a75c534afa23a5", getMessage},
	{"receipt ID", "The receipt of a final message", `receipt "$(head -1 ids.txt)" > receipt.json`, getReceipt},
	{"block HEIGHT|latest", "A final block with its messages", "block latest", getBlock},
	{"proof ID", "The proof that a message is, or is not, in the newest state that is certified", "proof ID > proof.json", getProof},
	{"validators [HEIGHT]", "The validator set in force at a height, by default the next one", "validators 1", getValidators},
	{"changes [GENERATION]", "The changes of the validator set, from the one to a generation on", "changes > changes.json", getChanges},
	{"status", "The node's view of itself and of the chain", "status", getStatus},
	{"ready", "Whether the node has caught up; asked on its operations listener", "ready -u http://127.0.0.1:18280", getReady},
	{"genesis", "The genesis document that the node has", "genesis", getGenesis},
	{"evidence", "The evidence of broken rules that the node has", "evidence > evidence.json", getEvidence},
}

// query is what a subcommand asks for. from is the generation of the set that a reader has:
// receipts and evidence then leave out the changes up to it.
type query struct {
	arg  string
	from uint32
}

func newGet() *cobra.Command {
	var r remote
	var from uint32
	var form clientcmd.Output
	cmd := &cobra.Command{
		Use:   "get",
		Short: "Read a message, a receipt, a block, or the state of a node",
		Long: `Read something from a node and print it. The answer is the node's word. Check a receipt with diseq verify.

It is printed as JSON, which diseq verify and other commands read. --output table is for people: long values are cut there.`,
		Example: "  diseq get block latest\n  diseq get validators -o table\n" +
			"  diseq get -u http://127.0.0.1:18081 receipt ID > receipt.json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return clientcmd.Usagef("name the thing to get: %s", subcommands(cmd))
		},
	}
	r.register(cmd.PersistentFlags())
	form.Register(cmd, cmd.PersistentFlags(), clientcmd.JSON)
	for _, g := range gets {
		args := cobra.NoArgs
		switch name, arg, _ := strings.Cut(g.use, " "); {
		case strings.HasPrefix(arg, "["):
			args = cobra.MaximumNArgs(1)
		case name != g.use:
			args = cobra.ExactArgs(1)
		}
		sub := &cobra.Command{
			Use: g.use, Short: g.short, Example: "  diseq get " + g.example, Args: args,
			RunE: func(cmd *cobra.Command, args []string) error {
				c, err := r.open(cmd.ErrOrStderr(), cmd.CommandPath())
				if err != nil {
					return err
				}
				ctx, cancel := context.WithTimeout(cmd.Context(), r.timeout)
				defer cancel()
				v, err := g.read(ctx, c, query{append(args, "")[0], from})
				if err != nil {
					return err
				}
				return form.Print(cmd.OutOrStdout(), v, nil)
			},
		}
		if sub.Name() == "receipt" || sub.Name() == evidenceName {
			sub.Flags().Uint32Var(&from, "from", 0,
				"leave out the changes of the validators up to this generation, for readers with a checkpoint of it")
		}
		cmd.AddCommand(sub)
	}
	return cmd
}

// subcommands are the names of those of a command.
func subcommands(cmd *cobra.Command) string {
	var all []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			all = append(all, sub.Name())
		}
	}
	return strings.Join(all, ", ")
}

func getMessage(ctx context.Context, c *client.Client, q query) (any, error) {
	id, err := parseID(q.arg)
	if err != nil {
		return nil, err
	}
	return c.Message(ctx, id)
}

func getReceipt(ctx context.Context, c *client.Client, q query) (any, error) {
	id, err := parseID(q.arg)
	if err != nil {
		return nil, err
	}
	return c.ReceiptAbove(ctx, id, q.from)
}

func getBlock(ctx context.Context, c *client.Client, q query) (any, error) {
	if q.arg == "latest" {
		return c.LatestBlock(ctx)
	}
	height, err := parseHeight(q.arg)
	if err != nil {
		return nil, err
	}
	return c.Block(ctx, height)
}

// getProof asks for the state that the newest header certifies: a newer one proves nothing yet.
func getProof(ctx context.Context, c *client.Client, q query) (any, error) {
	id, err := parseID(q.arg)
	if err != nil {
		return nil, err
	}
	latest, err := c.LatestBlock(ctx)
	if err != nil {
		return nil, err
	}
	return c.ProofAt(ctx, id, latest.Header.StateHeight)
}

func getValidators(ctx context.Context, c *client.Client, q query) (any, error) {
	if q.arg == "" {
		return c.NextValidators(ctx)
	}
	height, err := parseHeight(q.arg)
	if err != nil {
		return nil, err
	}
	return c.Validators(ctx, height)
}

// changesAtOnce is what a node gives at a time.
const changesAtOnce = 100

func getChanges(ctx context.Context, c *client.Client, q query) (any, error) {
	from := uint32(1)
	if q.arg != "" {
		n, err := strconv.ParseUint(q.arg, 10, 32)
		if err != nil || n == 0 {
			return nil, clientcmd.Usagef("generation %q: want a number from 1 to %d", q.arg, uint32(math.MaxUint32))
		}
		from = uint32(n)
	}
	all, err := allChanges(ctx, c, from)
	if err != nil {
		return nil, err
	}
	return map[string]any{"changes": all, "next": nil}, nil
}

// allChanges returns the changes from the one to a generation on, not verified.
func allChanges(ctx context.Context, c *client.Client, from uint32) ([]chain.FinalChange, error) {
	all := []chain.FinalChange{}
	for {
		page, next, err := c.Changes(ctx, from, changesAtOnce)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if next <= from || len(page) == 0 {
			return all, nil
		}
		from = next
	}
}

// getStatus leaves out what a node does not tell a client without the right Observe: zeros would
// look like an answer.
func getStatus(ctx context.Context, c *client.Client, _ query) (any, error) {
	s, err := c.Status(ctx)
	if err != nil || !s.Short() {
		return s, err
	}
	return struct {
		ChainID        string     `json:"chain_id"`
		Ready          bool       `json:"ready"`
		CaughtUp       bool       `json:"caught_up"`
		StorageLow     bool       `json:"storage_low"`
		Height         uint64     `json:"height"`
		BlockHash      chain.Hash `json:"block_hash"`
		BlockTimestamp uint64     `json:"block_timestamp"`
		Generation     uint32     `json:"generation"`
		Threshold      uint32     `json:"threshold"`
		Validators     int        `json:"validators"`
	}{
		s.ChainID, s.Ready, s.CaughtUp, s.StorageLow, s.Height, s.BlockHash, s.BlockTimestamp, s.Generation, s.Threshold, s.Validators,
	}, nil
}

// getReady fails with the reason why the node is not ready, so that the exit code is a health check
// where there is no other tool.
func getReady(ctx context.Context, c *client.Client, _ query) (any, error) {
	return map[string]any{"ready": true}, c.Ready(ctx)
}

func getGenesis(ctx context.Context, c *client.Client, _ query) (any, error) { return c.Genesis(ctx) }

func getEvidence(ctx context.Context, c *client.Client, q query) (any, error) {
	held, err := c.EvidenceAbove(ctx, q.from)
	if held == nil {
		held = []chain.EvidenceDocument{}
	}
	return map[string]any{evidenceName: held}, err
}

func parseHeight(arg string) (uint64, error) {
	height, err := strconv.ParseUint(arg, 10, 64)
	if err != nil || height > chain.MaxNumber {
		return 0, clientcmd.Usagef("height %q: want a number from 0 to %d", arg, uint64(chain.MaxNumber))
	}
	return height, nil
}

func parseID(arg string) (chain.Hash, error) {
	id, err := chain.ParseHash(arg)
	if err != nil {
		return id, clientcmd.Usage(err)
	}
	return id, nil
}

func newTail() *cobra.Command {
	var n nodes
	var from, count uint64
	cmd := &cobra.Command{
		Use:   "tail [-u URL] [--from HEIGHT]",
		Short: "Follow the final blocks as they come",
		Long: `Print final blocks, one line of JSON each, in order and without a gap: from --from on, then each new one as it becomes final.
Without --from it prints new blocks only. If the connection breaks, it goes on where it was, at another node if several are given.
Ctrl-C ends it.`,
		Example: "  diseq tail --from 1\n  diseq tail --from 1 --count 10 | jq .header.height",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := n.open(cmd.ErrOrStderr(), cmd.CommandPath())
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("from") {
				from = client.Live
			}
			return clientcmd.Tail(cmd.Context(), c, from, count, cmd.OutOrStdout())
		},
	}
	n.register(cmd.Flags())
	cmd.Flags().Uint64Var(&from, "from", 0, "the first height; by default only new blocks")
	cmd.Flags().Uint64Var(&count, "count", 0, "how many blocks to print; 0 for no end")
	return cmd
}
