package main

import (
	"github.com/spf13/cobra"

	"github.com/diseq/diseq/internal/clientcmd"
	"github.com/diseq/diseq/internal/memory"
	"github.com/diseq/diseq/node"
)

func newNode() *cobra.Command {
	var path, name, logLevel string
	var createVoteStore, explorer bool
	cmd := &cobra.Command{
		Use:   "node --config FILE",
		Short: "Run one node",
		Long: `Run one node until SIGTERM or Ctrl-C.

The configuration (YAML) names the genesis document, the directory of the keys (made by diseq init), the data directory, the peers
file and the addresses of the three listeners. Relative paths are relative to its own directory. A node whose key is in the validator
set in force is a validator; any other follows the chain as an observer. It becomes a validator, and ceases to be one, without a
restart. The log goes to the standard error.

The flags --name, --create-vote-store, --explorer and --log-level override the fields of the file, so that nodes can share one file.
While the node runs, PUT /log-level on its operations listener changes the level until the node ends.

Under a memory limit (of the container, of systemd) the garbage collector keeps the node below nine tenths of it. A busy node lets its
heap grow to 256 MiB before the collector works hard, an idle one keeps it small. The environment variables GOMEMLIMIT and GOGC
override the two.`,
		Example: "  diseq node --config node0/node.yaml\n  diseq node --config shared.yaml --name v0",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return clientcmd.Usagef("--config is required: diseq init makes a node.yaml to start from")
			}
			cfg, err := node.LoadConfig(path, func(c *node.Config) {
				if cmd.Flags().Changed("name") {
					c.Name = name
				}
				if cmd.Flags().Changed("create-vote-store") {
					c.CreateVoteStore = createVoteStore
				}
				if cmd.Flags().Changed("explorer") {
					c.Explorer = explorer
				}
				if cmd.Flags().Changed("log-level") {
					c.LogLevel = logLevel
				}
			})
			if err != nil {
				return err
			}
			memory.Pace()
			log, level := cfg.Logger(cmd.ErrOrStderr())
			switch limit, err := memory.Limit(cmd.Context()); {
			case err != nil:
				log.Warn("the memory limit cannot be read: the garbage collector works as without one", "err", err)
			case limit > 0:
				log.Info("the garbage collector keeps the memory below nine tenths of the limit", "GOMEMLIMIT", limit)
			}
			prover, err := newProver(log)
			if err != nil {
				return err
			}
			if err := (node.Machine{LogLevel: level, Prove: prover.Prove}).Run(cmd.Context(), cfg, version, log); err != nil {
				return err
			}
			log.Info("node stopped") // a log that ends without it is of a node that was killed
			return nil
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "the configuration file (node.yaml)")
	cmd.Flags().StringVar(&name, "name", "", "the node's name, for people: 1 to 63 bytes; by default the one in the file")
	cmd.Flags().StringVar(&logLevel, "log-level", "", "debug, info, warn or error; by default logLevel of the file")
	cmd.Flags().BoolVar(&explorer, "explorer", true, "serve the page that shows the chain at / of the public listener")
	cmd.Flags().BoolVar(&createVoteStore, "create-vote-store", false,
		"state that the data directory is this node's first one: its vote store is made there if it is empty")
	return cmd
}
